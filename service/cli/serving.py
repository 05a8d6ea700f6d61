"""`glide serve`, `api`, `worker` and `webhooks`: the processes of the service."""

import difflib
import os
import signal
import socket
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from pydantic_settings import SettingsError

from service.errors import InvalidRequest
from service.settings import Settings, known_variables, unknown_variables
from service.telemetry.logging import configure_logging

Port = Annotated[int | None, typer.Option(min=0, max=65_535, help="Port; 0 picks a free one.")]
Parent = Annotated[int | None, typer.Option(hidden=True, help="End with this process.")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads of torch.")]


def serve(
    port: Port = None,
    host: Annotated[str | None, typer.Option(help="Address to bind.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of the queue and the pictures.")] = None,
    threads: Threads = None,
    max_batch: Annotated[
        int | None, typer.Option(min=1, help="Pictures that share one step.")
    ] = None,
) -> None:
    """Serve on this machine: Redis, the HTTP API, a worker and webhooks, supervised."""
    from service.local import LocalService, StartFailed, with_data_folder

    settings = override(load_settings(), "api", port=port, host=host)
    settings = override(settings, "worker", threads=threads, max_batch=max_batch)
    if data is not None:
        settings = with_data_folder(settings, data)
    configure_logging(settings.log)
    service = LocalService(settings)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: service.stop())
    try:
        with service:
            if service.wait_ready():
                typer.echo(f"Ready: {service.url}")
            service.run()
    except StartFailed:
        raise typer.Exit(1) from None  # the part has said why


def api(
    port: Port = None,
    host: Annotated[str | None, typer.Option(help="Address to bind.")] = None,
    fd: Annotated[int | None, typer.Option(hidden=True)] = None,
    parent: Parent = None,
) -> None:
    """Run the HTTP API alone; the queue is GLIDE_REDIS__URL."""
    from service.cli.http_server import run_api
    from service.local import bind, die_with

    if parent is not None:
        die_with(parent)
    settings = override(load_settings(), "api", port=port, host=host)
    configure_logging(settings.log, gathered=True)
    listener = socket.socket(fileno=fd) if fd is not None else None
    run_api(settings, listener or bind(settings.api.host, settings.api.port))


def worker(
    threads: Threads = None,
    worker_id: Annotated[str | None, typer.Option("--id", hidden=True)] = None,
    parent: Parent = None,
) -> None:
    """Run one worker, which owns one device; the queue is GLIDE_REDIS__URL."""
    from service.local import die_with
    from service.worker.main import new_worker_id, run_worker

    if parent is not None:
        die_with(parent)
    settings = override(load_settings(), "worker", threads=threads)
    configure_logging(settings.log)
    run_worker(settings, worker_id or new_worker_id())


def webhooks(parent: Parent = None) -> None:
    """Run one sender of webhooks; the queue is GLIDE_REDIS__URL."""
    from service.local import die_with
    from service.webhooks.main import run_webhooks

    if parent is not None:
        die_with(parent)
    settings = load_settings()
    configure_logging(settings.log)
    run_webhooks(settings)


def load_settings() -> Settings:
    """The settings of this process.

    Raises:
        InvalidRequest: an environment variable has a bad value or is unknown.
    """
    unknown = unknown_variables(os.environ)
    if unknown:
        likely = difflib.get_close_matches(unknown[0].upper(), known_variables(), n=1)
        hint = f"; is {likely[0]} meant?" if likely else "."
        raise InvalidRequest(f"There is no setting {unknown[0]}{hint}")
    try:
        return Settings()
    except SettingsError as error:
        raise InvalidRequest(f"{error}: a list is written as JSON.") from error
    except ValidationError as error:
        first = error.errors()[0]
        variable = "GLIDE_" + "__".join(str(part).upper() for part in first["loc"])
        raise InvalidRequest(f"{variable}: {first['msg']}.") from error


def override(settings: Settings, group: str, **values: object) -> Settings:
    """Settings with some members of a group replaced; None leaves one as it is."""
    given = {name: value for name, value in values.items() if value is not None}
    changed = getattr(settings, group).model_copy(update=given)
    return settings.model_copy(update={group: changed})

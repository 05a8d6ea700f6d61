"""`glide submit` and `glide demo`: pictures through the HTTP API, with live progress."""

import json
import re
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from service.cli import requests
from service.cli.connecting import Key, Url, connected
from service.cli.progress import job_bar
from service.cli.serving import Threads, load_settings, override
from service.client import GlideClient
from service.client.results import require_success
from service.telemetry.logging import configure_logging
from service.views.event import ProgressView, QueuedView, StartedView
from service.views.job import JobView


@requests.takes_drawing
def submit(
    *,
    prompt: requests.Prompt = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="A file.")] = Path("out.png"),
    url: Url = None,
    api_key: Key = None,
    drawing: requests.Drawing,
    as_json: requests.AsJson = False,
) -> None:
    """Draw on a server, and follow the job."""
    caption = requests.prompt_or_empty(prompt, drawing)
    body = requests.request_body(caption, requests.format_of(output), drawing)
    files = requests.read_files(drawing)
    with connected(url, api_key) as client:
        job, paths = run_remote(client, body, files, output, Console(stderr=True))
    show(job, paths, as_json=as_json)


@requests.takes_drawing
def demo(
    *,
    prompt: requests.Prompt = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="A folder.")] = Path("out"),
    drawing: requests.Drawing,
    threads: Threads = None,
) -> None:
    """Start everything, draw one request through HTTP, and clean up."""
    from service.local import LocalService, StartFailed, with_data_folder

    settings = override(load_settings(), "worker", threads=threads)
    settings = override(settings, "api", port=0).model_copy(
        update={
            "redis": settings.redis.model_copy(update={"url": None}),  # never someone's own queue
            "log": settings.log.model_copy(update={"level": "WARNING"}),
        }
    )
    configure_logging(settings.log)
    console = Console(stderr=True)
    caption = requests.prompt_or_empty(prompt, drawing)
    path = output / f"{_slug(caption)}.png"
    body, files = requests.request_body(caption, "png", drawing), requests.read_files(drawing)
    with tempfile.TemporaryDirectory(prefix="glide-demo-") as folder:
        service = LocalService(with_data_folder(settings, Path(folder)))
        try:
            with service:
                with console.status("starting Redis, the API and a worker"):
                    service.wait_ready()
                threading.Thread(target=service.run, name="supervisor", daemon=True).start()
                with GlideClient(service.url) as client:  # without a key: it has none
                    job, paths = run_remote(client, body, files, path, console)
        except StartFailed:
            raise typer.Exit(1) from None  # the part has said why
    show(job, paths, as_json=False)


def run_remote(
    client: GlideClient,
    body: Mapping[str, Any],
    files: Mapping[str, bytes],
    output: Path,
    console: Console,
) -> tuple[JobView, list[Path]]:
    """Submits a job, shows its progress and fetches its images.

    Args:
        client: of the server.
        body: of the request, without its pictures.
        files: its pictures by field.
        output: where the images go.
        console: for the progress.

    Raises:
        ApiError: the server refused the request.
        Unavailable: the server can't be reached.
        JobFailed: the job did not succeed.
    """
    fields: dict[str, Any] = {**body, **files}
    job = client.submit(fields.pop("prompt"), **fields)
    try:
        job = follow(client, job, console)
    except KeyboardInterrupt:
        client.cancel(job)
        raise
    return job, save_images(client, job, output)


def follow(client: GlideClient, job: JobView, console: Console) -> JobView:
    """Shows the progress of a job to its end, and what is to be said of it.

    Raises:
        JobFailed: the job did not succeed.
    """
    with job_bar(console) as show:
        for event in client.events(job, previews=False):
            match event:
                case QueuedView():
                    show("waiting")
                case StartedView():
                    show("drawing")
                case ProgressView(step=step, total_steps=total_steps):
                    show("drawing", step, total_steps)
    job = client.get(job)
    for warning in _remarks(job):
        console.print(f"[yellow]{warning}[/]", highlight=False)
    require_success(job)
    return job


def save_images(client: GlideClient, job: JobView, output: Path) -> list[Path]:
    """Fetches the images of a job into files, and returns their paths."""
    paths = requests.image_paths(output, len(job.images))
    output.parent.mkdir(parents=True, exist_ok=True)
    for path, image in zip(paths, client.images(job), strict=True):
        path.write_bytes(image)
    return paths


def show(job: JobView, paths: list[Path], *, as_json: bool) -> None:
    """Prints where the images are, or the job with that."""
    if as_json:
        names = [str(path) for path in paths]
        typer.echo(json.dumps({**job.model_dump(mode="json"), "paths": names}, indent=2))
        return
    for path in paths:
        typer.echo(str(path))


def _remarks(job: JobView) -> list[str]:
    unknown = ", ".join(job.unknown_words)
    return [*job.warnings, *([f"words the model never saw: {unknown}"] if unknown else [])]


def _slug(prompt: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", prompt.lower()).strip("-")[:60] or "picture"

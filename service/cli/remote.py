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
from service.cli.progress import job_bar
from service.cli.serving import Threads, load_settings, override
from service.client import GlideClient
from service.errors import JobError
from service.telemetry.logging import configure_logging


@requests.takes_drawing
def submit(
    *,
    prompt: requests.Prompt = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="A file.")] = Path("out.png"),
    url: Annotated[str, typer.Option(help="The server.")] = "http://127.0.0.1:8000",
    drawing: requests.Drawing,
    as_json: requests.AsJson = False,
) -> None:
    """Draw on a server, and follow the job."""
    caption = requests.prompt_or_empty(prompt, drawing)
    body = requests.request_body(caption, requests.format_of(output), drawing)
    files = requests.read_files(drawing)
    job, paths = run_remote(url, body, files, output, Console(stderr=True))
    _show(job, paths, as_json=as_json)


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
                job, paths = run_remote(service.url, body, files, path, console)
        except StartFailed:
            raise typer.Exit(1) from None  # the part has said why
    _show(job, paths, as_json=False)


def run_remote(
    url: str,
    body: Mapping[str, Any],
    files: Mapping[str, bytes],
    output: Path,
    console: Console,
) -> tuple[dict[str, Any], list[Path]]:
    """Submits a job, shows its progress and fetches its images.

    Args:
        url: of the server.
        body: of the request, without its pictures.
        files: its pictures by field, uploaded before it.
        output: where the images go.
        console: for the progress.

    Raises:
        ApiError: the server refused the request.
        Unavailable: the server can't be reached.
        JobError: the job did not succeed.
    """
    with GlideClient(url) as client:
        uploads = {name: client.upload(data)["id"] for name, data in files.items()}
        job = client.submit({**body, **uploads})
        try:
            _follow(client, job["id"], console)
        except KeyboardInterrupt:
            client.cancel(job["id"])
            raise
        job = client.get(job["id"])
        for warning in _remarks(job):
            console.print(f"[yellow]{warning}[/]", highlight=False)
        if job["status"] != "succeeded":
            reason = (job["error"] or {}).get("detail") or job["cancel_reason"] or "no reason given"
            raise JobError(f"The job is {job['status']}: {reason}")
        paths = requests.image_paths(output, len(job["images"]))
        output.parent.mkdir(parents=True, exist_ok=True)
        for path, image in zip(paths, job["images"], strict=True):
            path.write_bytes(client.image(job["id"], image["index"]))
    return job, paths


def _follow(client: GlideClient, job_id: str, console: Console) -> None:
    with job_bar(console) as show:
        for event in client.events(job_id):
            match event.name:
                case "queued":
                    show("waiting")
                case "started":
                    show("drawing")
                case "progress":
                    show("drawing", event.data["step"], event.data["total_steps"])


def _remarks(job: Mapping[str, Any]) -> list[str]:
    unknown = ", ".join(job["unknown_words"])
    return [*job["warnings"], *([f"words the model never saw: {unknown}"] if unknown else [])]


def _slug(prompt: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", prompt.lower()).strip("-")[:60] or "picture"


def _show(job: Mapping[str, Any], paths: list[Path], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({**job, "paths": [str(path) for path in paths]}, indent=2))
        return
    for path in paths:
        typer.echo(str(path))

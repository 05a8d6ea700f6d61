"""`glide jobs`: the jobs of a server, over its HTTP API."""

import itertools
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from service.cli import remote
from service.cli.connecting import Key, Url, connected
from service.cli.requests import AsJson
from service.jobs import JobStatus
from service.views.job import JobView

group = typer.Typer(
    help="Jobs of a server: list, show, watch, cancel, delete.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

JobId = Annotated[str, typer.Argument(help="The job's id: job_…", metavar="ID")]
JobIds = Annotated[list[str], typer.Argument(help="Ids of jobs: job_…", metavar="ID...")]

_COLUMNS = ("id", "status", "progress", "model", "images", "created", "prompt")
_LOG_WIDTH = 160
_PAGE = 100


@group.command("list")
def list_jobs(
    status: Annotated[JobStatus | None, typer.Option(help="Only those that stand so.")] = None,
    model: Annotated[str | None, typer.Option(help="Only those of this pipeline.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 20,
    url: Url = None,
    api_key: Key = None,
    as_json: AsJson = False,
) -> None:
    """List your jobs, newest first."""
    with connected(url, api_key) as client:
        found = client.jobs(status=status, model=model, page_size=min(limit, _PAGE))
        jobs = list(itertools.islice(found, limit))
    if as_json:
        typer.echo(json.dumps([job.model_dump(mode="json") for job in jobs], indent=2))
        return
    table = Table(
        *(Column(name, no_wrap=name != "prompt", overflow="ellipsis") for name in _COLUMNS),
        box=None,
    )
    now = datetime.now(UTC)
    for job in jobs:
        table.add_row(*_row(job, now))
    console = Console()
    if not console.is_terminal:  # a log file: one line for a job
        console = Console(width=max(console.width, _LOG_WIDTH))
    console.print(table, markup=False)


@group.command()
def show(job_id: JobId, url: Url = None, api_key: Key = None, as_json: AsJson = False) -> None:
    """Show one job."""
    with connected(url, api_key) as client:
        job = client.get(job_id)
    _print(job, as_json=as_json)


@group.command()
def watch(
    job_id: JobId,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A file for its image.")
    ] = None,
    url: Url = None,
    api_key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Follow a job to its end; with -o fetch its images, too."""
    with connected(url, api_key) as client:
        job = remote.follow(client, client.get(job_id), Console(stderr=True))
        paths = [] if output is None else remote.save_images(client, job, output)
    if output is None:
        _print(job, as_json=as_json)
    else:
        remote.show(job, paths, as_json=as_json)


@group.command()
def cancel(job_ids: JobIds, url: Url = None, api_key: Key = None, as_json: AsJson = False) -> None:
    """Stop jobs; one that has ended stays as it is."""
    with connected(url, api_key) as client:
        jobs = [client.cancel(job_id) for job_id in job_ids]
    if as_json:
        typer.echo(json.dumps([job.model_dump(mode="json") for job in jobs], indent=2))
        return
    for job in jobs:
        stops = job.cancel_requested and not job.status.is_final
        typer.echo(f"{job.id} {'stops at its next step' if stops else f'is {job.status}'}.")


@group.command()
def delete(job_ids: JobIds, url: Url = None, api_key: Key = None) -> None:
    """Remove jobs that have ended, and their images."""
    with connected(url, api_key) as client:
        for job_id in job_ids:
            client.delete(job_id)
            typer.echo(f"{job_id} is deleted.")


def _row(job: JobView, now: datetime) -> tuple[str, ...]:
    images = f"{len(job.images)}/{job.input.n}"
    prompt = " ".join(job.input.prompt.split())
    age = _age((now - job.created_at).total_seconds())
    return job.id, job.status, f"{job.progress:.0%}", job.model, images, age, prompt


def _age(seconds: float) -> str:
    """How long ago, in the largest unit that says something."""
    for unit, length_s in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length_s:
            return f"{seconds // length_s:.0f} {unit} ago"
    return f"{max(seconds, 0):.0f} s ago"


def _print(job: JobView, *, as_json: bool) -> None:
    if as_json:
        typer.echo(job.model_dump_json(indent=2))
        return
    for line in _lines(job):
        typer.echo(line)


def _lines(job: JobView) -> list[str]:
    """A job for people."""
    asked = job.input
    place = None if job.queue_position is None else f"{job.queue_position} jobs are before it"
    facts = {
        "id": job.id,
        "status": f"{job.status}, {job.progress:.0%}",
        "queue": place,
        "ends in": None if job.eta_seconds is None else f"about {job.eta_seconds:.0f} s",
        "reason": job.error.detail if job.error else job.cancel_reason,
        "prompt": asked.prompt,
        "negative": asked.negative_prompt,
        "model": f"{job.model}, {asked.width}x{asked.height}, {asked.sampler}, {asked.steps} steps",
        "seed": str(job.seed),
        "created": f"{job.created_at:%Y-%m-%d %H:%M:%S} UTC",
        "took": None if job.metrics.run_seconds is None else f"{job.metrics.run_seconds:.1f} s",
        "kept until": job.expires_at and f"{job.expires_at:%Y-%m-%d %H:%M:%S} UTC",
    }
    shown = [f"{name:<12}{fact}" for name, fact in facts.items() if fact]
    images = [f"image {image.index:<6}{image.url}" for image in job.images]
    return [*shown, *images, *(f"{'remark':<12}{each}" for each in job.warnings)]

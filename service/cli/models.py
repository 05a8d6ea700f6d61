"""`glide models`: what can draw here, and where more of it comes from."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table

from model.catalog import PipelineSpec
from model.checkpoints.home import remove as remove_pipeline
from model.checkpoints.sources import RELEASES
from model.checkpoints.survey import Survey, survey
from service.cli.requests import AsJson
from service.cli.serving import load_settings
from service.wiring import build_catalog

if TYPE_CHECKING:
    from model.checkpoints.register import Report

CONNECT_S, READ_S = 15.0, 60.0

group = typer.Typer(help="What can draw here: list, pull, add, remove.", rich_markup_mode=None)


@group.callback(invoke_without_command=True)
def models(context: typer.Context, as_json: AsJson = False) -> None:
    """What can draw here; without a command: list."""
    if context.invoked_subcommand is None:
        list_models(as_json)


@group.command("list")
def list_models(as_json: AsJson = False) -> None:
    """List the pipelines: what each can do, its memory, whether its files are there."""
    settings = load_settings()
    catalog = build_catalog(settings)
    if as_json:
        typer.echo(json.dumps([_record(spec, survey(spec)) for spec in catalog.values()], indent=2))
        return
    table = Table("name", "sizes", "can", "sampler", "steps", "memory", "description", box=None)
    for spec in catalog.values():
        seen = survey(spec)
        table.add_row(
            spec.name,
            ", ".join(f"{size}x{size}" for size in spec.sizes),
            ", ".join([*seen.tasks, *(f"{kind} guidance" for kind in seen.guides)]),
            " + ".join(stage.sampler for stage in spec.stages),
            " + ".join(str(stage.steps) for stage in spec.stages),
            _memory(seen, settings.worker.dtype),
            spec.description,
        )
    Console().print(table)


@group.command()
def pull(
    name: Annotated[str, typer.Argument(help=f"One of {', '.join(RELEASES)}.")],
    folder: Annotated[
        Path | None, typer.Option("--from", help="A folder that has the files: no network is used.")
    ] = None,
) -> None:
    """Fetch published weights and register their pipelines; an interrupted pull goes on."""
    import httpx

    from model.checkpoints.pull import Offline, Web
    from model.checkpoints.pull import pull as pull_release

    settings = load_settings().models
    timeout = httpx.Timeout(READ_S, connect=CONNECT_S)
    with httpx.Client(timeout=timeout, follow_redirects=True) as client, _bars() as report:
        origin = Offline(folder) if folder else Web(client, settings.mirror, time.sleep)
        specs = pull_release(name, settings.home, origin, report)
    for spec in specs:
        typer.echo(f"{spec.name}: {spec.description}")
    if not specs:
        typer.echo(f"{name}: {RELEASES[name].description}")


@group.command()
def add(
    name: Annotated[str, typer.Argument(help="What to call the pipeline.")],
    paths: Annotated[
        list[Path], typer.Argument(help="OpenAI's .pt files, or a pipeline's folder.", exists=True)
    ],
    vocab: Annotated[Path | None, typer.Option(help="Folder of the vocabularies.")] = None,
) -> None:
    """Register local weights, told apart by their keys and shapes; they stay where they are."""
    from model.checkpoints.register import add as add_pipeline

    with _bars() as report:
        spec = add_pipeline(name, paths, load_settings().models.home, report, vocab)
    typer.echo(f"{spec.name}: {spec.description}")


@group.command()
def remove(
    name: Annotated[str, typer.Argument(help="A pipeline that was pulled or added.")],
    files: Annotated[bool, typer.Option("--files", help="Its pulled weights go too.")] = False,
) -> None:
    """Forget a pipeline; files that were added stay where they are."""
    for path in remove_pipeline(name, load_settings().models.home, with_files=files):
        typer.echo(f"removed {path}")


@contextmanager
def _bars() -> "Iterator[Report]":
    """A bar for each file on standard error."""
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()
    with Progress(*columns, console=Console(stderr=True)) as progress:
        tasks: dict[str, Any] = {}

        def report(name: str, done: int, total: int | None) -> None:
            if name not in tasks:
                tasks[name] = progress.add_task(name, total=total)
            progress.update(tasks[name], completed=done, total=total)

        yield report


def _memory(seen: Survey, dtype: str) -> str:
    if seen.missing:
        return f"{len(seen.missing)} files missing"
    if seen.problem is not None:
        return "damaged"
    return f"{seen.memory_bytes[dtype] / 1e9:.2f} GB"


def _record(spec: PipelineSpec, seen: Survey) -> dict[str, Any]:
    members = {**asdict(spec), "folder": str(spec.folder), "sizes": spec.sizes}
    return members | {**asdict(seen), "missing": [str(path) for path in seen.missing]}

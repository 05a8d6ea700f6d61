"""`glide sample`: pictures without a server, through the same engine that serves."""

import json
import secrets
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from model.catalog import PipelineSpec
from service.api.acceptance import accept
from service.api.pictures import Inputs
from service.cli import requests
from service.cli.drawing import Order, Studio
from service.cli.progress import step_bar
from service.cli.serving import Threads, load_settings, override
from service.errors import InvalidRequest
from service.jobs import Job, new_job_id
from service.settings import Settings
from service.wiring import build_catalog, build_tokenizers

DRAWN_SEEDS = 1 << 32


@requests.takes_drawing
def sample(
    *,
    prompt: requests.Prompt = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="A file, or with --prompts a folder.")
    ] = Path("out.png"),
    prompts: Annotated[
        Path | None, typer.Option(help="A file with one prompt a line; line k gets seed + k.")
    ] = None,
    drawing: requests.Drawing,
    threads: Threads = None,
    as_json: requests.AsJson = False,
) -> None:
    """Draw here, without a server."""
    settings = override(load_settings(), "worker", threads=threads)
    captions = _captions(prompt, prompts, output, drawing)
    catalog = build_catalog(settings)
    orders = _orders(settings, catalog, captions, drawing)
    paths = {
        order.job.id: requests.image_paths(path, order.job.params.n)
        for order, (_, path) in zip(orders, captions, strict=True)
    }
    console = Console(stderr=True)
    for order in orders:
        for warning in _remarks(order.job):
            console.print(f"[yellow]{warning}[/]", highlight=False)
    studio = Studio(settings, {o.job.params.model: catalog[o.job.params.model] for o in orders})
    started_s = time.monotonic()
    total = sum(order.job.total_steps for order in orders)
    seeds: dict[Path, int] = {}
    with step_bar(console, total) as advance:
        for order, image in studio.draw(orders, advance):
            path = paths[order.job.id][image.index]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(studio.file(order, image))
            seeds[path] = image.seed
    if as_json:
        _show_json(orders, paths, seeds, time.monotonic() - started_s)
        return
    for path in seeds:
        typer.echo(str(path))


def _captions(
    prompt: str | None, prompts: Path | None, output: Path, drawing: requests.Drawing
) -> list[tuple[str, Path]]:
    """Every caption with the file that its picture goes to."""
    if prompts is None:
        return [(requests.prompt_or_empty(prompt, drawing), output)]
    if prompt is not None:
        raise InvalidRequest("Give either a prompt or --prompts FILE.")
    if output.suffix:
        raise InvalidRequest("With --prompts, -o names a folder.")
    try:
        lines = prompts.read_text().splitlines()
    except UnicodeDecodeError:
        raise InvalidRequest(f"{prompts} is not a text file.") from None
    captions = [line.strip() for line in lines if line.strip()]
    if not captions:
        raise InvalidRequest(f"{prompts} has no prompt.")
    return [(caption, output / f"{index:03}.png") for index, caption in enumerate(captions)]


def _orders(
    settings: Settings,
    catalog: Mapping[str, PipelineSpec],
    captions: Sequence[tuple[str, Path]],
    drawing: requests.Drawing,
) -> list[Order]:
    if not catalog:
        raise InvalidRequest("There is no pipeline: set GLIDE_MODELS__FOLDERS.")
    tokenizers = build_tokenizers(catalog)
    seed = secrets.randbelow(DRAWN_SEEDS) if drawing.seed is None else drawing.seed
    inputs = Inputs(**requests.read_files(drawing))
    orders = []
    for index, (caption, path) in enumerate(captions):
        body = requests.request_body(caption, requests.format_of(path), drawing)
        job = accept(
            requests.parse_request(body | {"seed": seed + index}),
            catalog=catalog,
            tokenizers=tokenizers,
            job_id=new_job_id(),
            tenant="local",
            seed=0,
            inputs=inputs,
            ranking=settings.models.clip is not None,
        )
        orders.append(Order(job, inputs))
    return orders


def _remarks(job: Job) -> list[str]:
    unknown = ", ".join(job.unknown_words)
    return [*job.warnings, *([f"words the model never saw: {unknown}"] if unknown else [])]


def _show_json(
    orders: Sequence[Order],
    paths: Mapping[str, Sequence[Path]],
    seeds: Mapping[Path, int],
    seconds: float,
) -> None:
    images = [
        {
            "path": str(path),
            "prompt": order.job.params.prompt,
            "seed": seeds[path],
            "warnings": _remarks(order.job),
        }
        for order in orders
        for path in paths[order.job.id]
    ]
    typer.echo(json.dumps({"images": images, "seconds": round(seconds, 3)}, indent=2))

"""`glide sample`: pictures without a server, through the same engine that serves."""

import json
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from model.catalog import PipelineSpec
from service.api.acceptance import accept
from service.api.pictures import Inputs
from service.cli import requests
from service.cli.progress import step_bar
from service.cli.serving import Threads, load_settings, override
from service.errors import InvalidRequest
from service.jobs import Job, new_job_id
from service.settings import Settings
from service.version import service_version
from service.wiring import build_catalog, build_tokenizers
from service.worker.encoding import encode, provenance

if TYPE_CHECKING:
    from service.engine.engine import Engine, FinishedImage, StepOutput

DRAWN_SEEDS = 1 << 32


@dataclass(frozen=True, slots=True)
class _Order:
    """One request, the pictures it starts from and the files that its images go to."""

    job: Job
    inputs: Inputs
    paths: list[Path]


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
    console = Console(stderr=True)
    for order in orders:
        for warning in _remarks(order.job):
            console.print(f"[yellow]{warning}[/]", highlight=False)
    engine = _engine(settings, [catalog[name] for name in {o.job.params.model for o in orders}])
    started_s = time.monotonic()
    total = sum(order.job.total_steps for order in orders)
    with step_bar(console, total) as advance:
        files = _run(engine, orders, advance)
    seconds = time.monotonic() - started_s
    _show(orders, files, seconds, as_json=as_json)


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
) -> list[_Order]:
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
        orders.append(_Order(job, inputs, requests.image_paths(path, job.params.n)))
    return orders


def _engine(settings: Settings, specs: Sequence[PipelineSpec]) -> "Engine":
    import torch

    from service.engine.engine import Engine
    from service.engine.runner import ModelRunner

    if settings.worker.threads:
        torch.set_num_threads(settings.worker.threads)
    options, clip = settings.worker, settings.models.clip
    runner = ModelRunner.load(specs, options.device, options.dtype, clip=clip)
    return Engine(runner, settings.worker.max_batch)


def _run(
    engine: "Engine", orders: Sequence[_Order], advance: Callable[[int], None]
) -> dict[Path, int]:
    """Denoises all orders together; returns the seed of every file written.

    Raises:
        ModelError, JobError: an order failed.
    """
    waiting: Iterator[_Order] = iter(orders)
    by_id = {order.job.id: order for order in orders}
    written: dict[Path, int] = {}
    while True:
        while engine.trajectories < 2 * engine.max_batch:
            order = next(waiting, None)
            if order is None:
                break
            engine.add(order.job.id, order.job.params, pictures=order.inputs.pictures)
        if not engine.trajectories:
            return written
        output = engine.step()
        _raise_first_failure(output)
        advance(output.trajectories)
        for image in output.images:
            path, seed = _write(by_id[image.job_id], image)
            written[path] = seed


def _raise_first_failure(output: "StepOutput") -> None:
    for _, error in output.failed:
        raise error


def _write(order: _Order, image: "FinishedImage") -> tuple[Path, int]:
    path, params = order.paths[image.index], order.job.params
    record = provenance(None, params, image.index, image.seed, service_version())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode(image.pixels, order.job.output_format, record))
    return path, image.seed


def _remarks(job: Job) -> list[str]:
    unknown = ", ".join(job.unknown_words)
    return [*job.warnings, *([f"words the model never saw: {unknown}"] if unknown else [])]


def _show(
    orders: Sequence[_Order], seeds: dict[Path, int], seconds: float, *, as_json: bool
) -> None:
    if not as_json:
        for path in seeds:
            typer.echo(str(path))
        return
    images = [
        {
            "path": str(path),
            "prompt": order.job.params.prompt,
            "seed": seeds[path],
            "warnings": _remarks(order.job),
        }
        for order in orders
        for path in order.paths
    ]
    typer.echo(json.dumps({"images": images, "seconds": round(seconds, 3)}, indent=2))

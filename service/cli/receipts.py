"""`glide receipt`: what a picture says of its making, without a server; and a re-run to compare."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from model.catalog import PipelineSpec
from service.api.acceptance import accept
from service.api.pictures import PICTURE_FIELDS, Inputs
from service.api.receipts import index_again, receipt_of, request_again, verdict
from service.api.schemas import JobCreate
from service.cli import requests
from service.cli.drawing import Order, Studio
from service.cli.progress import step_bar
from service.cli.serving import Threads, load_settings, override
from service.errors import InputLost, InvalidRequest
from service.imagefile.reading import ImageFile, read_file
from service.jobs import new_job_id
from service.settings import Settings
from service.store.inputs import digest_of, fetch_input
from service.views.receipt import ReceiptView, RerunView
from service.wiring import build_catalog, build_store, build_tokenizers


def receipt(
    file: Annotated[Path, typer.Argument(help="A PNG, JPEG or WebP.")],
    *,
    rerun: Annotated[
        bool, typer.Option("--rerun", help="Make the same request again here, and compare.")
    ] = False,
    image: Annotated[
        Path | None, typer.Option(help="The picture it started from, if the store lacks it.")
    ] = None,
    mask: Annotated[Path | None, typer.Option(help="The mask, if the store lacks it.")] = None,
    threads: Threads = None,
    as_json: requests.AsJson = False,
) -> None:
    """Tell from a picture how it was made, and with --rerun whether that is so."""
    settings = override(load_settings(), "worker", threads=threads)
    catalog = build_catalog(settings)
    read = read_file(file.read_bytes())
    found = receipt_of(read, catalog)
    if rerun:
        given = {name: path for name, path in (("image", image), ("mask", mask)) if path}
        found.rerun = _rerun(read, catalog, settings, given)
    if as_json:
        typer.echo(found.model_dump_json(indent=2))
        return
    for line in _lines(found):
        typer.echo(line)


def _rerun(
    file: ImageFile,
    catalog: Mapping[str, PipelineSpec],
    settings: Settings,
    given: Mapping[str, Path],
) -> RerunView:
    """Draws the image of a file again.

    Raises:
        InvalidRequest: the file doesn't say enough, or a picture or a model is not here.
        ModelError, JobError: it can't be drawn here.
    """
    body = request_again(file, catalog)
    order = _order(body, catalog, settings, _inputs(body, settings, given))
    spec = catalog[order.job.params.model]
    studio = Studio(settings, {spec.name: spec})
    assert file.record is not None
    wanted, drawn = index_again(file.record), None
    with step_bar(Console(stderr=True), order.job.total_steps) as advance:
        for _, image in studio.draw([order], advance):
            if image.index == wanted:
                drawn = studio.file(order, image)
    if drawn is None:
        raise InvalidRequest(f"The re-run has no image {wanted}.")
    return verdict(file, read_file(drawn), job_id=None, link=None)


def _order(
    body: JobCreate, catalog: Mapping[str, PipelineSpec], settings: Settings, inputs: Inputs
) -> Order:
    job = accept(
        body,
        catalog=catalog,
        tokenizers=build_tokenizers(catalog),
        job_id=new_job_id(),
        tenant="local",
        seed=0,
        inputs=inputs,
        ranking=settings.models.clip is not None,
    )
    return Order(job, inputs)


def _inputs(body: JobCreate, settings: Settings, given: Mapping[str, Path]) -> Inputs:
    """The pictures that the request starts from, as files that were given or from the store."""
    store, found = build_store(settings), {}
    for name in PICTURE_FIELDS:
        digest = getattr(body, name)
        if digest is None:
            continue
        try:
            path = given.get(name)
            found[name] = fetch_input(store, digest) if path is None else path.read_bytes()
        except InputLost:
            raise InvalidRequest(
                f"The picture started from one that is not in the store; give it with --{name}: "
                f"its sha256 is {digest}."
            ) from None
        if digest_of(found[name]) != digest:
            raise InvalidRequest(f"{path} is not the {name} it started from: sha256 {digest}.")
    return Inputs(**found)


def _lines(found: ReceiptView) -> list[str]:
    """A receipt for people."""
    facts: dict[str, Any] = {
        "picture": f"{found.format} {found.width}x{found.height}",
        "source": (found.digital_source_type or "").rpartition("/")[2],
        "model": found.model and f"{found.model}{_here(found)}",
        "fingerprint": found.model_sha256,
        "job": found.job_id,
        "index": found.index,
        "seed": found.seed,
        "pixels": _pixels(found) if found.found else None,
        "parameters": found.parameters and json.dumps(found.parameters, ensure_ascii=False),
        "drawn by": found.drawn_by and _maker(found),
        "re-run": found.rerun and found.rerun.note,
    }
    shown = [f"{name:<12}{fact}" for name, fact in facts.items() if fact not in (None, "")]
    problems = [f"{'problem':<12}{problem}" for problem in found.problems]
    silent = [] if found.found else ["It doesn't say how it was made."]
    return [*shown, *problems, *silent]


def _here(found: ReceiptView) -> str:
    return {True: ", the one that is here", False: ", which is not here", None: ""}[
        found.model_available
    ]


def _pixels(found: ReceiptView) -> str:
    said = {True: "as they were drawn", False: "changed since they were drawn"}
    return said[found.pixels_match] if found.pixels_match is not None else found.pixels_note or ""


def _maker(found: ReceiptView) -> str:
    assert found.drawn_by is not None
    return ", ".join(value for value in found.drawn_by.model_dump().values() if value)

"""`glide models`: what can draw here."""

import json
from dataclasses import asdict
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from model.catalog import PipelineSpec
from service.cli.requests import AsJson
from service.cli.serving import load_settings
from service.wiring import build_catalog


def models(as_json: AsJson = False) -> None:
    """List the pipelines, their sizes and their defaults."""
    catalog = build_catalog(load_settings())
    if as_json:
        typer.echo(json.dumps([_record(spec) for spec in catalog.values()], indent=2))
        return
    table = Table("name", "sizes", "sampler", "steps", "guidance", "description", box=None)
    for spec in catalog.values():
        table.add_row(
            spec.name,
            ", ".join(f"{size}x{size}" for size in spec.sizes),
            " + ".join(stage.sampler for stage in spec.stages),
            " + ".join(str(stage.steps) for stage in spec.stages),
            f"{spec.guidance_scale:g}",
            spec.description,
        )
    Console().print(table)


def _record(spec: PipelineSpec) -> dict[str, Any]:
    return {**asdict(spec), "folder": str(spec.folder), "sizes": spec.sizes}

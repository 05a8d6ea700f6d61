"""What every command that makes pictures asks for: its options, as the body of an HTTP request.

The command line accepts exactly what the API accepts, since both go through the same door. Imports
no torch.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from model.params import SamplerName
from service.api.schemas import JobCreate
from service.errors import FieldError, InvalidRequest

FORMATS: Mapping[str, str] = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}

Seed = Annotated[int | None, typer.Option(help="Seed of the first image; left out: drawn.")]
Steps = Annotated[
    str | None, typer.Option(help="Steps of the base stage: a number, or 25,25, ddim50, fast27.")
]
Sampler = Annotated[str | None, typer.Option(help=", ".join(SamplerName))]
Guidance = Annotated[
    float | None, typer.Option("--guidance-scale", "-g", help="1 turns guidance off.")
]
Number = Annotated[int | None, typer.Option("-n", help="Images of the same prompt.")]
Size = Annotated[int | None, typer.Option(help="Side of the image, px.")]
Negative = Annotated[
    str | None, typer.Option("--negative-prompt", help="What guidance leads away from.")
]
Model = Annotated[str | None, typer.Option(help="Name of a pipeline; see `glide models`.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def request_body(prompt: str, output_format: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The body of `POST /v1/jobs`; options that were not given are left out.

    Args:
        prompt: the caption.
        output_format: `png`, `jpeg` or `webp`.
        options: by name of the request's field, but `size` for width and height.
    """
    given = {name: value for name, value in options.items() if value is not None}
    size = given.pop("size", None)
    if size is not None:
        given |= {"width": size, "height": size}
    steps = given.get("steps")
    if isinstance(steps, str) and re.fullmatch(r"-?\d{1,18}", steps, re.ASCII):
        given["steps"] = int(steps)
    return {"prompt": prompt, "output_format": output_format, **given}


def parse_request(body: Mapping[str, Any]) -> JobCreate:
    """Checks the types of a request.

    Raises:
        InvalidRequest: names every bad field.
    """
    try:
        return JobCreate.model_validate(body)
    except ValidationError as error:
        found = [
            FieldError("/" + "/".join(str(part) for part in each["loc"]), each["msg"])
            for each in error.errors()
        ]
        sentence = "; ".join(f"{bad.pointer}: {bad.detail}" for bad in found)
        raise InvalidRequest(f"{sentence}.", errors=found) from error


def format_of(path: Path) -> str:
    """The image format that a file name asks for.

    Raises:
        InvalidRequest: there is no such format.
    """
    try:
        return FORMATS[path.suffix.lower()]
    except KeyError:
        raise InvalidRequest(f"{path} must end in {', '.join(FORMATS)}.") from None


def image_paths(output: Path, count: int) -> list[Path]:
    """Where the images of one request go: `out.png`, or `out-0.png`, `out-1.png`, …."""
    if count == 1:
        return [output]
    return [output.with_name(f"{output.stem}-{index}{output.suffix}") for index in range(count)]

"""What every command that makes pictures asks for: its options, as the body of an HTTP request.

The command line accepts exactly what the API accepts, since both go through the same door. Imports
no torch.
"""

import functools
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from model.params import SamplerName, Task
from service.api.schemas import JobCreate
from service.errors import FieldError, InvalidRequest

FORMATS: Mapping[str, str] = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}
_PATHS = frozenset({"image", "mask"})

Prompt = Annotated[str | None, typer.Argument(help="What to draw.")]
Model = Annotated[str | None, typer.Option(help="Name of a pipeline; see `glide models`.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """The options of every command that draws; None where one was not given."""

    seed: Annotated[int | None, typer.Option(help="Seed of the first image; left out: drawn.")] = (
        None
    )
    steps: Annotated[
        str | None,
        typer.Option(help="Steps of the base stage: a number, or 25,25, ddim50, fast27."),
    ] = None
    sampler: Annotated[str | None, typer.Option(help=f"{', '.join(SamplerName)}.")] = None
    guidance_scale: Annotated[
        float | None, typer.Option("--guidance-scale", "-g", help="1 turns guidance off.")
    ] = None
    n: Annotated[int | None, typer.Option("-n", help="Images of the same prompt.")] = None
    best_of: Annotated[
        int | None, typer.Option(help="Draw so many, keep the n that a CLIP ranks highest.")
    ] = None
    size: Annotated[int | None, typer.Option(help="Side of the image, px.")] = None
    negative_prompt: Annotated[str | None, typer.Option(help="What guidance leads away from.")] = (
        None
    )
    model: Model = None
    image: Annotated[Path | None, typer.Option(help="A picture to start from.")] = None
    mask: Annotated[
        Path | None, typer.Option(help="What of it to paint: transparent, else white.")
    ] = None
    strength: Annotated[
        float | None, typer.Option(help="How much of --image is made anew: above 0, up to 1.")
    ] = None
    task: Annotated[
        str | None, typer.Option(help=f"{', '.join(Task)}; left out: seen from the other options.")
    ] = None
    seed_to: Annotated[
        int | None, typer.Option(help="Seed of the last of n frames from one image to another.")
    ] = None
    label: Annotated[int | None, typer.Option(help="Class, where the model has classes.")] = None
    clip_guidance_scale: Annotated[
        float | None, typer.Option(help="Scale of the guidance of a noised CLIP.")
    ] = None
    classifier_guidance_scale: Annotated[
        float | None, typer.Option(help="Scale of the guidance of a noised classifier.")
    ] = None


def takes_drawing(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the options of `Drawing` in place of its parameter `drawing`."""
    own = inspect.signature(command, eval_str=True).parameters
    shared = inspect.signature(Drawing, eval_str=True).parameters

    @functools.wraps(command)
    def run(**given: Any) -> None:
        drawing = Drawing(**{name: given.pop(name) for name in shared})
        command(drawing=drawing, **given)

    members = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for name, each in own.items()
        for parameter in (shared.values() if name == "drawing" else [each])
    ]
    run.__signature__ = inspect.Signature(members)  # type: ignore[attr-defined]
    run.__annotations__ = {member.name: member.annotation for member in members}
    return run


def prompt_or_empty(prompt: str | None, drawing: Drawing) -> str:
    """The prompt, which a picture or a class may stand in for.

    Raises:
        InvalidRequest: there is nothing to draw.
    """
    if prompt is None and drawing.image is None and drawing.label is None:
        raise InvalidRequest("Give a prompt, or a picture with --image, or a class with --label.")
    return prompt or ""


def read_files(drawing: Drawing) -> dict[str, bytes]:
    """The pictures of `--image` and `--mask`, by field of the request.

    Raises:
        OSError: one can't be read.
    """
    paths = {"image": drawing.image, "mask": drawing.mask}
    return {name: path.read_bytes() for name, path in paths.items() if path is not None}


def request_body(prompt: str, output_format: str, drawing: Drawing) -> dict[str, Any]:
    """The body of `POST /v1/jobs` without its pictures; options not given are left out.

    Args:
        prompt: the caption.
        output_format: `png`, `jpeg` or `webp`.
        drawing: the options.
    """
    options = {name: getattr(drawing, name) for name in Drawing.__slots__ if name not in _PATHS}
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

"""Predictions as clients of Replicate's API ask for them, in our own words.

Knows neither HTTP nor Redis.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StrictInt
from pydantic_core import PydanticCustomError

from model.params import SamplerName
from service.api.schemas import (
    FINAL_EVENTS,
    Caption,
    JobCreate,
    Number,
    PictureText,
    Steps,
    Text,
)
from service.api.synonyms import sampler_name
from service.errors import FieldError, InvalidRequest
from service.jobs import WebhookTarget
from service.views.words import OutputFormat

_NATIVE = {
    "num_outputs": "n",
    "num_inference_steps": "steps",
    "scheduler": "sampler",
    "prompt_strength": "strength",
}
"""Fields of an input that `JobCreate` calls otherwise."""
_EVENTS: Mapping[str, tuple[str, ...]] = {
    "start": ("job.started",),
    "output": ("job.image",),
    "logs": ("job.progress",),
    "completed": FINAL_EVENTS,
}
_DEFAULT_FILTER = ("output", "completed")


def _known_sampler(value: object) -> object:
    return sampler_name(value) if isinstance(value, str) else value


def _known_format(value: object) -> object:
    return "jpeg" if value == "jpg" else value


def _address(text: str) -> str:
    if not text.lower().startswith(("http://", "https://")):
        raise PydanticCustomError("address", "an http or https URL")
    return text


Address = Annotated[
    Text,
    Field(max_length=2048, json_schema_extra={"pattern": "^[Hh][Tt][Tt][Pp][Ss]?://"}),
    AfterValidator(_address),
]
Sampler = Annotated[SamplerName, BeforeValidator(_known_sampler)]
Format = Annotated[OutputFormat, BeforeValidator(_known_format)]


class PredictionInput(BaseModel):
    """What is to be drawn. Null or left out means the model's default."""

    model_config = ConfigDict(extra="forbid")

    prompt: Caption = Field(description="The caption; empty draws without one.")
    negative_prompt: Caption | None = Field(None, description="What guidance leads away from.")
    width: StrictInt | None = Field(None, description="Width of the images, px.")
    height: StrictInt | None = Field(None, description="Height of the images, px.")
    num_outputs: StrictInt | None = Field(
        None, description="Number of images; image k has the seed + k."
    )
    num_inference_steps: Steps | None = Field(
        None, description="Denoising steps of the first stage, or a respacing such as fast27."
    )
    guidance_scale: Number | None = Field(
        None, description="Scale of classifier-free guidance; 1 turns it off."
    )
    scheduler: Sampler | None = Field(None, description="The sampler.")
    sampler: Sampler | None = Field(None, description="Another name of scheduler.")
    seed: StrictInt | None = Field(None, description="Left out, one is drawn.")
    image: PictureText | None = Field(
        None, description="Picture to start from: a data URL, or the URL of an uploaded file."
    )
    mask: PictureText | None = Field(
        None, description="What of the picture is painted anew: white is, black is kept."
    )
    prompt_strength: Number | None = Field(
        None, description="How much of the picture is made anew, in (0, 1]."
    )
    strength: Number | None = Field(None, description="Another name of prompt_strength.")
    output_format: Format | None = Field(None, description="Format of the images.")


class PredictionCreate(BaseModel):
    """A prediction of a model that the path names."""

    model_config = ConfigDict(extra="forbid")

    input: PredictionInput
    webhook: Address | None = Field(None, description="Told of the prediction by POST.")
    webhook_events_filter: list[Literal["start", "output", "logs", "completed"]] | None = Field(
        None, description="What it is told of; left out: outputs and the end."
    )
    webhook_completed: Address | None = Field(
        None, description="Told of the end alone, where there is no webhook."
    )
    stream: bool | None = Field(None, description="Without effect: every prediction streams.")


class VersionedPredictionCreate(PredictionCreate):
    """A prediction of a model that the body names."""

    version: Text = Field(description="A version, owner/name, owner/name:version, or a bare name.")


def job_create(asked: PredictionInput, model: str, pictures: Mapping[str, str]) -> JobCreate:
    """The request in the native API's words.

    Args:
        asked: the input.
        model: name of the pipeline.
        pictures: what stands for `image` and `mask`, of those that aren't files.

    Raises:
        InvalidRequest: it says the same thing twice; with pointers as of a native request.
    """
    given = {name: value for name, value in asked if value is not None}
    twice = [
        FieldError(f"/{native}", f"must be left out where {name} is given")
        for name, native in _NATIVE.items()
        if name in given and native in given
    ]
    if twice:
        raise InvalidRequest.of(twice)
    members = {_NATIVE.get(name, name): value for name, value in given.items()}
    members = {name: value for name, value in members.items() if name not in ("image", "mask")}
    return JobCreate(model=model, **members, **pictures)


def in_terms_of(asked: PredictionInput, error: InvalidRequest) -> InvalidRequest:
    """A refusal of the native request with the pointers of the one that the client sent."""
    theirs = {native: name for name, native in _NATIVE.items()}
    theirs |= {name: name for name in asked.model_fields_set}
    found = []
    for each in error.errors:
        name, *rest = each.pointer.removeprefix("/").split("/")
        elsewhere = name in ("webhook", "header")
        members = [name, *rest] if elsewhere else ["input", theirs.get(name, name), *rest]
        found.append(
            FieldError("/" + "/".join(member for member in members if member), each.detail)
        )
    return type(error).of(found) if found else error


def webhook_of(asked: PredictionCreate) -> WebhookTarget | None:
    """Whom a client wants told, and of what."""
    if asked.webhook is not None:
        wanted = asked.webhook_events_filter or _DEFAULT_FILTER
        events = tuple(dict.fromkeys(event for name in wanted for event in _EVENTS[name]))
        return WebhookTarget(url=asked.webhook, events=events, dialect="replicate")
    if asked.webhook_completed is not None:
        return WebhookTarget(url=asked.webhook_completed, events=FINAL_EVENTS, dialect="replicate")
    return None


def echo_of(asked: PredictionInput) -> dict[str, Any]:
    """The input, to be given back as it came; but for pictures in data URLs, which may be large."""
    given = asked.model_dump(mode="json", exclude_unset=True)
    return {name: value for name, value in given.items() if not _is_large(name, value)}


def _is_large(name: str, value: Any) -> bool:
    return name in ("image", "mask") and isinstance(value, str) and value[:5].lower() == "data:"

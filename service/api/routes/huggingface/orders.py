"""From the words of Hugging Face's clients to a job.

A caption comes as `inputs`. A picture comes as the whole body, or as base64 in `inputs` with its
caption among the `parameters`. Knows neither the queue nor the answer.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request

from model.catalog import PipelineSpec
from service.api.bodies import Submission, read_json
from service.api.dependencies import content_type
from service.api.problems import invalid_request
from service.api.schemas import JobCreate, Text
from service.api.synonyms import Translated, translate
from service.errors import FieldError, InvalidRequest
from service.views.words import OutputFormat

_FORMATS: Mapping[str, OutputFormat] = {
    "image/png": "png",
    "image/jpeg": "jpeg",
    "image/webp": "webp",
}
JSON = "application/json"
_PICTURED = frozenset({"prompt", "strength", "target_size", "mask"})
"""Parameters that only a request with a picture has."""
_PICTURES_BEGIN = ("iVBORw0KGgo", "/9j/", "UklGR", "R0lGOD", "data:image/")
"""PNG, JPEG, WebP and GIF in base64; a caption doesn't begin so."""


class HuggingFaceCreate(BaseModel):
    """What a client asks for."""

    model_config = ConfigDict(extra="forbid")

    inputs: Text = Field(description="the caption, or a picture in base64")
    parameters: dict[str, Any] | None = Field(
        None,
        description="fields of a job; also `num_inference_steps`, `scheduler`, and with a picture "
        "`prompt` and `target_size`",
    )
    options: dict[str, Any] | None = Field(None, description="has no effect")


class TargetSize(BaseModel):
    """The size that a picture is to have."""

    model_config = ConfigDict(extra="forbid", strict=True)

    width: Annotated[int, Field(gt=0)]
    height: Annotated[int, Field(gt=0)]


@dataclass(frozen=True, slots=True, eq=False)
class Order:
    """A request, understood.

    Attributes:
        submission: the job.
        words: the client's own words for its fields.
        as_json: the images are to come in JSON; else there is one, and it comes as it is.
    """

    submission: Submission
    words: Translated
    as_json: bool


async def read_order(request: Request, spec: PipelineSpec) -> Order:
    """Reads a request for images of a pipeline.

    Raises:
        RequestValidationError: its body isn't JSON, though declared so.
        InvalidRequest: fields are wrong.
    """
    kinds = _accepted(request.headers.get("accept", ""))
    as_json = next((kind == JSON for kind in kinds if kind == JSON or kind in _FORMATS), False)
    defaults: dict[str, Any] = {
        "model": spec.name,
        "output_format": next((_FORMATS[kind] for kind in kinds if kind in _FORMATS), None),
    }
    if content_type(request) == JSON:
        members = await read_json(request)
        words = _words(_checked(HuggingFaceCreate, members))
        submission = _submission(defaults | dict(words.members), words, members)
    else:
        words = Translated({"image": ""}, {"image": ""})
        body = _checked(JobCreate, {**defaults, "prompt": ""})
        submission = Submission(body, {"image": await request.body()}, {})
    if not as_json and (submission.body.n or 1) > 1:
        detail = f"1, or ask for them in JSON with `Accept: {JSON}`"
        raise InvalidRequest.of([FieldError("/parameters/n", detail)])
    return Order(submission, words, as_json)


def _accepted(header: str) -> list[str]:
    """The media types that a client takes, what it likes best first."""
    ranked = []
    for each in header.split(","):
        kind, *parameters = (part.strip().lower() for part in each.split(";"))
        weights = [part[2:] for part in parameters if part.startswith("q=")]
        ranked.append((-_weight(weights), kind))
    return [kind for weight, kind in sorted(ranked, key=lambda pair: pair[0]) if weight < 0]


def _weight(weights: list[str]) -> float:
    try:
        return float(weights[0]) if weights else 1.0
    except ValueError:
        return 1.0


def _words(asked: HuggingFaceCreate) -> Translated:
    """The request in the words of a job, with the place of each in the body."""
    given = {n: value for n, value in (asked.parameters or {}).items() if value is not None}
    size = given.pop("target_size", None)
    found = translate(given)
    sent_as = {own: f"parameters/{found.sent_as.get(own, own)}" for own in found.members}
    members = dict(found.members)
    pictured = _PICTURED & {*given, *(["target_size"] if size is not None else [])}
    inputs = "image" if pictured or asked.inputs.startswith(_PICTURES_BEGIN) else "prompt"
    if size is not None:
        members |= _checked(TargetSize, size, "parameters", "target_size").model_dump()
        sent_as |= {side: f"parameters/target_size/{side}" for side in ("width", "height")}
    members = {"prompt": "", **members, inputs: asked.inputs}
    return Translated(members, {**sent_as, inputs: "inputs"})


def _submission(
    job: Mapping[str, Any], words: Translated, members: Mapping[str, Any]
) -> Submission:
    with words.refusing():
        return Submission(_checked(JobCreate, job), members=members)


def _checked(kind: type[Any], members: Any, *place: str) -> Any:
    try:
        return kind.model_validate(members)
    except ValidationError as error:
        found = [{**each, "loc": ("body", *place, *each["loc"])} for each in error.errors()]
        raise invalid_request(found) from error

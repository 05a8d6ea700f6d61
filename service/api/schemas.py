"""The bodies that clients send.

`JobCreate` checks types; whether a pipeline can serve the request is `model.catalog`'s business.
Knows neither Redis nor routes.
"""

import re
from typing import Annotated

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    StrictInt,
)
from pydantic_core import PydanticCustomError

from model.params import SamplerName, Task, Thresholding
from service.jobs import Priority, Provenance, WebhookEvent
from service.views.words import OutputFormat

LONGEST_TIMEOUT_S = 604_800
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)

_CONTROLS = r"\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f"
_CONTROL = re.compile(f"[{_CONTROLS}]")
_PRINTABLE = f"^[^{_CONTROLS}]*$"


def _steps(value: object) -> int | str:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise PydanticCustomError("steps", "a number, or a respacing: 100, 25,25, ddim50, fast27")
    return value


def _unicode(text: str) -> str:
    """Refuses half of a surrogate pair, which JSON can spell and UTF-8 can't."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise PydanticCustomError("unicode", "text in Unicode, without lone surrogates") from None
    return text


def _printable(text: str) -> str:
    """Refuses control characters except tabs and the ends of lines."""
    found = _CONTROL.search(text)
    if found:
        place = {"code": f"U+{ord(found[0]):04X}", "place": found.start()}
        raise PydanticCustomError(
            "control", "no control characters: there is {code} at {place}", place
        )
    return text


def _rfc3339(value: object) -> object:
    if not (isinstance(value, str) and _MOMENT.fullmatch(value)):
        raise PydanticCustomError("moment", "a time of RFC 3339, such as 2026-11-25T12:00:00Z")
    return value


Steps = Annotated[int | str, PlainValidator(_steps, json_schema_input_type=int | str)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Text = Annotated[str, Field(strict=True), AfterValidator(_unicode)]
Caption = Annotated[
    Text, AfterValidator(_printable), Field(json_schema_extra={"pattern": _PRINTABLE})
]
Tag = Annotated[Text, Field(max_length=512)]
PictureText = Annotated[Text, Field(min_length=1)]
Moment = Annotated[AwareDatetime, BeforeValidator(_rfc3339)]
TagName = Annotated[Text, Field(min_length=1, max_length=64)]


class UpsampleCreate(BaseModel):
    """Overrides of the second stage; null or left out means the pipeline's default."""

    model_config = ConfigDict(extra="forbid")

    steps: Steps | None = Field(None, description="a number of steps, or a respacing string")
    sampler: SamplerName | None = None
    temperature: Number | None = Field(None, description="of the initial noise, 0 … 2")


FINAL_EVENTS: tuple[WebhookEvent, ...] = ("job.succeeded", "job.failed", "job.canceled")


class WebhookCreate(BaseModel):
    """Whom to tell of the job, and of what."""

    model_config = ConfigDict(extra="forbid")

    url: Annotated[Text, Field(min_length=1, max_length=2048)]
    events: Annotated[list[WebhookEvent], Field(min_length=1, max_length=6)] | None = Field(
        None, description="left out: the end of the job, however it ends"
    )


class JobCreate(BaseModel):
    """What a client asks for. Null or left out means the default, shown in the job's `input`."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"prompt": "a red apple on the grass", "seed": 7}]},
    )

    prompt: Caption = Field(
        description="the caption, up to 32 000 characters; empty: unconditional"
    )
    negative_prompt: Caption | None = Field(None, description="what guidance leads away from")
    model: Text | None = Field(None, description="a name from `GET /v1/models`")
    width: StrictInt | None = Field(None, description="px, one of the model's sizes")
    height: StrictInt | None = Field(None, description="px, equal to the width")
    n: StrictInt | None = Field(None, description="number of images; image k has seed + k")
    seed: StrictInt | None = Field(None, description="left out: the server draws one")
    steps: Steps | None = Field(None, description="base stage: a number, or a respacing string")
    sampler: SamplerName | None = Field(None, description="base stage")
    guidance_scale: Number | None = Field(None, description="1 turns guidance off")
    guidance_interval: Annotated[list[Number], Field(min_length=2, max_length=2)] | None = Field(
        None, description="[low, high]: where guidance acts; 1 is pure noise"
    )
    eta: Number | None = Field(None, description="stochasticity of ddim, 0 … 1")
    thresholding: Thresholding | None = None
    dynamic_percentile: Number | None = Field(None, description="for dynamic thresholding")
    upsample: UpsampleCreate | None = None
    previews: StrictInt | None = Field(None, description="previews to publish for each image")
    task: Task | None = Field(None, description="left out: seen from what else is given")
    image: PictureText | None = Field(
        None, description="picture to start from: id of an upload, base64 or a data URL"
    )
    mask: PictureText | None = Field(
        None, description="what of it is painted, as `image`: transparent, else white, is painted"
    )
    strength: Number | None = Field(None, description="variation: share that is run again, (0, 1]")
    seed_to: StrictInt | None = Field(None, description="interpolation: seed of the last frame")
    label: StrictInt | None = Field(None, description="class, where the model has classes")
    clip_guidance_scale: Number | None = Field(None, description="of a noised CLIP; 0: none")
    classifier_guidance_scale: Number | None = Field(
        None, description="of a noised classifier; 0: none"
    )
    best_of: StrictInt | None = Field(
        None, description="images to draw, of which the n that a CLIP ranks highest are kept"
    )
    output_format: OutputFormat | None = None
    provenance: Provenance | None = Field(
        None, description="what the images say of their making: full, minimal (no captions), none"
    )
    priority: Priority | None = Field(None, description="among one's own jobs")
    timeout_seconds: Annotated[Number, Field(gt=0, le=LONGEST_TIMEOUT_S)] | None = Field(
        None, description="the job is canceled unless it ends so soon"
    )
    webhook: WebhookCreate | None = None
    metadata: Annotated[dict[TagName, Tag], Field(max_length=16)] | None = Field(
        None, description="the client's own tags, returned with the job"
    )

"""The bodies of OpenAI's Images API, as its clients send and read them. Knows no route."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, StrictBool, StrictInt

from model.params import MAX_PROMPT_CHARACTERS
from service.api.schemas import JobCreate, Text
from service.api.synonyms import SYNONYMS
from service.views.words import OutputFormat

Quality = Literal["low", "medium", "high", "xhigh", "max"]
Prompt = Annotated[Text, Field(max_length=MAX_PROMPT_CHARACTERS)]
MOST_IMAGES = 10
MOST_PARTIAL_IMAGES = 3


class ImageCreate(BaseModel):
    """OpenAI's own fields. Null or left out means the default; some have no effect here."""

    prompt: Prompt | None = Field(None, description="the caption")
    model: Text | None = Field(None, description="an `id` of `GET /v1/models`, or an alias")
    n: Annotated[StrictInt, Field(ge=1, le=MOST_IMAGES)] | None = None
    size: Text | None = Field(None, description="`auto`, or such as `256x256`")
    output_format: OutputFormat | None = None
    response_format: Literal["url", "b64_json"] | None = None
    stream: StrictBool | None = None
    partial_images: Annotated[StrictInt, Field(ge=0, le=MOST_PARTIAL_IMAGES)] | None = Field(
        None, description="pictures of each image in the making, in a stream"
    )
    quality: Literal["low", "medium", "high", "xhigh", "max", "auto", "standard", "hd"] | None = (
        Field(None, description="has no effect; see `steps`")
    )
    user: Text | None = None
    safety_identifier: Text | None = None
    background: Literal["transparent", "opaque", "auto"] | None = Field(
        None, description="has no effect: images are opaque"
    )
    style: Literal["vivid", "natural"] | None = Field(None, description="has no effect")
    moderation: Literal["low", "auto"] | None = Field(None, description="has no effect")
    input_fidelity: Literal["low", "high"] | None = Field(
        None, description="has no effect; see `strength`"
    )
    output_compression: Annotated[StrictInt, Field(ge=0, le=100)] | None = Field(
        None, description="has no effect"
    )
    complexity: Literal["low", "medium", "high"] | None = Field(None, description="has no effect")
    frame_count: StrictInt | None = Field(None, description="has no effect")
    frame_duration_ms: StrictInt | None = Field(None, description="has no effect")
    svg: dict[str, Any] | None = Field(None, description="has no effect")


class PromptedImageCreate(ImageCreate):
    """The same, where there is no image without a caption."""

    prompt: Prompt


EXTENSIONS = JobCreate.model_fields.keys() - {
    *ImageCreate.model_fields,
    *("width", "height", "previews", "image", "mask"),
}
"""Fields of a job that OpenAI's API lacks; a client sends them as `extra_body`."""


class ImageItem(BaseModel):
    """One image, as base64 or by its address."""

    b64_json: str | None
    url: str | None = Field(description="signed: whoever has it needs no key")
    revised_prompt: None = None
    seed: int = Field(description="that makes it again")


class InputTokens(BaseModel):
    """What the input's tokens are of."""

    text_tokens: int
    image_tokens: int = 0


class OutputTokens(BaseModel):
    """What the output's tokens are of."""

    image_tokens: int
    text_tokens: int = 0


class Usage(BaseModel):
    """What a request cost."""

    input_tokens: int = Field(description="tokens of the captions")
    input_tokens_details: InputTokens
    output_tokens: int = Field(description="the job's work: rows of its network calls, of 64 px")
    output_tokens_details: OutputTokens
    total_tokens: int


class ImagesResponse(BaseModel):
    """Finished images."""

    created: int = Field(description="Unix time, s")
    data: list[ImageItem]
    background: Literal["opaque"] = "opaque"
    output_format: OutputFormat
    quality: Quality
    size: str
    usage: Usage
    safety_identifier: str | None
    svg_usage: None = None


def json_schema(kind: type[ImageCreate]) -> dict[str, Any]:
    """The JSON Schema of a body: OpenAI's fields, then those of a job."""
    job = JobCreate.model_json_schema(ref_template="#/components/schemas/{model}")["properties"]
    own = kind.model_json_schema()
    extra = {name: job[name] for name in job if name in EXTENSIONS}
    extra |= {name: job[meant] for name, meant in SYNONYMS.items()}
    return {**own, "properties": {**own["properties"], **extra}, "additionalProperties": False}

"""The bodies that clients send and get: what a job looks like over HTTP.

`JobCreate` checks types; whether a pipeline can serve the request is `model.catalog`'s business.
Knows neither Redis nor routes.
"""

from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator, StrictInt
from pydantic_core import PydanticCustomError

from model.params import SamplerName, SamplingParams, Task, Thresholding
from service.jobs import ImageRecord, Job, JobStatus

OutputFormat = Literal["png", "jpeg", "webp"]


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


Steps = Annotated[int | str, PlainValidator(_steps, json_schema_input_type=int | str)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Text = Annotated[str, Field(strict=True), AfterValidator(_unicode)]
Tag = Annotated[Text, Field(max_length=512)]
PictureText = Annotated[Text, Field(min_length=1)]
TagName = Annotated[Text, Field(min_length=1, max_length=64)]


class UpsampleCreate(BaseModel):
    """Overrides of the second stage; null or left out means the pipeline's default."""

    model_config = ConfigDict(extra="forbid")

    steps: Steps | None = Field(None, description="a number of steps, or a respacing string")
    sampler: SamplerName | None = None
    temperature: Number | None = Field(None, description="of the initial noise, 0 … 2")


class JobCreate(BaseModel):
    """What a client asks for. Null or left out means the default, shown in the job's `input`."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"prompt": "a red apple on the grass", "seed": 7}]},
    )

    prompt: Text = Field(description="the caption, up to 32 000 characters; empty: unconditional")
    negative_prompt: Text | None = Field(None, description="what guidance leads away from")
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
    metadata: Annotated[dict[TagName, Tag], Field(max_length=16)] | None = Field(
        None, description="the client's own tags, returned with the job"
    )


class UpsampleView(BaseModel):
    """How the second stage samples."""

    steps: int | str | None
    sampler: SamplerName | None
    temperature: float | None


class InputView(BaseModel):
    """A request as it was accepted, with its defaults filled in."""

    prompt: str
    negative_prompt: str
    model: str
    width: int
    height: int
    n: int
    seed: int
    steps: int | str
    sampler: SamplerName
    guidance_scale: float
    guidance_interval: tuple[float, float]
    eta: float
    thresholding: Thresholding
    dynamic_percentile: float
    upsample: UpsampleView
    previews: int
    task: Task
    image: str | None = Field(description="SHA-256 of the picture, which is its upload's id")
    mask: str | None
    strength: float
    seed_to: int | None
    label: int | None
    clip_guidance_scale: float
    classifier_guidance_scale: float
    best_of: int | None
    output_format: OutputFormat


class UploadView(BaseModel):
    """A picture that a job may start from."""

    id: str = Field(description="SHA-256 of its bytes, for `image` and `mask` of a job")
    object: Literal["upload"] = "upload"
    width: int = Field(description="px, as it is seen: turned as its EXIF says")
    height: int
    bytes: int


class ImageView(BaseModel):
    """A finished image."""

    index: int
    url: str = Field(description="path on this server")
    content_type: str
    bytes: int
    sha256: str
    width: int
    height: int
    seed: int


class JobErrorView(BaseModel):
    """Why a job failed."""

    code: str
    detail: str
    retryable: bool = Field(description="whether submitting it again may help")


class MetricsView(BaseModel):
    """Where a job's time went, s; null until it is known."""

    queue_seconds: float | None
    run_seconds: float | None


class LinksView(BaseModel):
    """Paths on this server."""

    self: str
    events: str
    cancel: str


class JobView(BaseModel):
    """A job."""

    id: str
    object: Literal["job"] = "job"
    status: JobStatus
    progress: float = Field(description="0 … 1, never goes back")
    step: int = Field(description="network steps done, over all images and stages")
    total_steps: int
    queue_position: int | None = Field(description="jobs ahead of it while it is queued")
    model: str
    input: InputView
    seed: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    expires_at: datetime | None = Field(description="when the job is forgotten")
    images: list[ImageView]
    error: JobErrorView | None
    cancel_requested: bool
    cancel_reason: str | None
    warnings: list[str]
    unknown_words: list[str] = Field(description="words that the model never saw")
    metadata: dict[str, str]
    metrics: MetricsView
    links: LinksView


class JobList(BaseModel):
    """One page of jobs, newest first."""

    object: Literal["list"] = "list"
    data: list[JobView]
    has_more: bool
    next_cursor: str | None = Field(description="the next page's `cursor`")


def job_path(job_id: str) -> str:
    """Where a job is found on this server."""
    return f"/v1/jobs/{job_id}"


def image_view(job_id: str, image: ImageRecord) -> ImageView:
    """An image as a client sees it."""
    return ImageView(
        index=image.index,
        url=f"{job_path(job_id)}/images/{image.index}",
        content_type=image.content_type,
        bytes=image.image_bytes,
        sha256=image.sha256,
        width=image.width,
        height=image.height,
        seed=image.seed,
    )


def job_view(
    job: Job, *, queue_position: int | None = None, warnings: tuple[str, ...] = ()
) -> JobView:
    """A job as a client sees it.

    Args:
        job: the record.
        queue_position: jobs ahead of it.
        warnings: remarks that hold just now, beside those of the record.
    """
    failure, path = job.failure, job_path(job.id)
    return JobView(
        id=job.id,
        status=job.status,
        progress=_progress(job),
        step=job.step,
        total_steps=job.total_steps,
        queue_position=queue_position,
        model=job.params.model,
        input=_input_view(job.params, job.output_format),
        seed=job.params.seed,
        created_at=_time(job.created_at_ms),
        started_at=_time_if(job.started_at_ms),
        finished_at=_time_if(job.finished_at_ms),
        expires_at=_time_if(job.expires_at_ms),
        images=[image_view(job.id, image) for image in job.images],
        error=failure
        and JobErrorView(code=failure.code, detail=failure.detail, retryable=failure.retryable),
        cancel_requested=job.cancel_requested,
        cancel_reason=job.cancel_reason,
        warnings=[*job.warnings, *warnings],
        unknown_words=list(job.unknown_words),
        metadata=dict(job.metadata or {}),
        metrics=_metrics_view(job),
        links=LinksView(self=path, events=f"{path}/events", cancel=f"{path}/cancel"),
    )


def _input_view(params: SamplingParams, output_format: str) -> InputView:
    members = {name: getattr(params, name) for name in SamplingParams.__slots__}
    members["upsample"] = UpsampleView.model_validate(params.upsample, from_attributes=True)
    return InputView.model_validate({**members, "output_format": output_format})


def _metrics_view(job: Job) -> MetricsView:
    started, finished = job.started_at_ms, job.finished_at_ms
    waited_until = started if started is not None else finished
    return MetricsView(
        queue_seconds=_seconds(job.created_at_ms, waited_until),
        run_seconds=_seconds(started, finished),
    )


def _progress(job: Job) -> float:
    if job.status is JobStatus.SUCCEEDED:
        return 1.0
    return min(job.step / job.total_steps, 1.0) if job.total_steps else 0.0


def _seconds(start_ms: int | None, end_ms: int | None) -> float | None:
    return None if start_ms is None or end_ms is None else (end_ms - start_ms) / 1000


def _time(time_ms: int) -> datetime:
    return datetime.fromtimestamp(time_ms / 1000, UTC)


def _time_if(time_ms: int | None) -> datetime | None:
    return None if time_ms is None else _time(time_ms)

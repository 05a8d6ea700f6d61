"""What a job looks like to a client. Knows neither Redis nor routes.

The same views are sent over HTTP, in webhooks, and read by the client.
"""

from datetime import UTC, datetime
from functools import lru_cache
from typing import Literal

from pydantic import BaseModel, Field

from model.params import SamplingParams
from service.jobs import ImageRecord, Job, JobFailure, JobStatus, Priority, Provenance
from service.views.links import Links
from service.views.words import FormatWord, SamplerWord, TaskWord, ThresholdingWord


class UpsampleView(BaseModel):
    """How the second stage samples."""

    steps: int | str | None
    sampler: SamplerWord | None
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
    sampler: SamplerWord
    guidance_scale: float
    guidance_interval: tuple[float, float]
    eta: float
    thresholding: ThresholdingWord
    dynamic_percentile: float
    upsample: UpsampleView
    previews: int
    task: TaskWord
    image: str | None = Field(description="SHA-256 of the picture, which is its upload's id")
    mask: str | None
    strength: float
    seed_to: int | None
    label: int | None
    clip_guidance_scale: float
    classifier_guidance_scale: float
    best_of: int | None
    output_format: FormatWord
    provenance: Provenance


class ImageView(BaseModel):
    """A finished image."""

    index: int
    url: str = Field(description="signed: whoever has it needs no key")
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
    """Where to go on."""

    self: str
    events: str
    events_signed: str = Field(description="the same without a key, for a browser's EventSource")
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
    eta_seconds: float | None = Field(description="estimate of the time until it ends; null: none")
    priority: Priority
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
    deadline_at: datetime | None = Field(description="it is canceled unless it ends before")
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


def image_view(job: Job, image: ImageRecord, links: Links) -> ImageView:
    """An image as a client sees it."""
    return ImageView(
        index=image.index,
        url=links.image(job, image),
        content_type=image.content_type,
        bytes=image.image_bytes,
        sha256=image.sha256,
        width=image.width,
        height=image.height,
        seed=image.seed,
    )


def job_view(
    job: Job,
    links: Links,
    *,
    queue_position: int | None = None,
    eta_seconds: float | None = None,
    warnings: tuple[str, ...] = (),
) -> JobView:
    """A job as a client sees it.

    Args:
        job: the record.
        links: makes the URLs.
        queue_position: jobs ahead of it.
        eta_seconds: estimate of the time until it ends.
        warnings: remarks that hold just now, beside those of the record.
    """
    return JobView(
        id=job.id,
        status=job.status,
        progress=_progress(job),
        step=job.step,
        total_steps=job.total_steps,
        queue_position=queue_position,
        eta_seconds=eta_seconds,
        priority=job.priority,
        model=job.params.model,
        input=_input_view(job.params, job.output_format, job.provenance),
        seed=job.params.seed,
        created_at=_time(job.created_at_ms),
        started_at=_time_if(job.started_at_ms),
        finished_at=_time_if(job.finished_at_ms),
        expires_at=_time_if(job.expires_at_ms),
        images=[image_view(job, image, links) for image in job.images],
        error=_error_view(job.failure),
        cancel_requested=job.cancel_requested,
        cancel_reason=job.cancel_reason,
        deadline_at=_time_if(job.deadline_at_ms),
        warnings=[*job.warnings, *warnings],
        unknown_words=list(job.unknown_words),
        metadata=dict(job.metadata or {}),
        metrics=metrics_view(job),
        links=_links_view(job, links),
    )


def _error_view(failure: JobFailure | None) -> JobErrorView | None:
    if failure is None:
        return None
    return JobErrorView(code=failure.code, detail=failure.detail, retryable=failure.retryable)


def _links_view(job: Job, links: Links) -> LinksView:
    return LinksView(
        self=links.job(job.id),
        events=links.events(job.id),
        events_signed=links.signed_events(job),
        cancel=links.cancel(job.id),
    )


@lru_cache(maxsize=1024)
def _input_view(params: SamplingParams, output_format: str, provenance: Provenance) -> InputView:
    """Never changes, and is asked for with every poll; not to be changed by whoever gets it."""
    members = {name: getattr(params, name) for name in SamplingParams.__slots__}
    members["upsample"] = UpsampleView.model_validate(params.upsample, from_attributes=True)
    extra = {"output_format": output_format, "provenance": provenance}
    return InputView.model_validate({**members, **extra})


def metrics_view(job: Job) -> MetricsView:
    """How long a job waited and ran."""
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

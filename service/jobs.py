"""The job: one client request, durable. Pure: knows neither Redis nor HTTP nor tensors.

queued ──lease──▶ running ──finish──▶ succeeded
  ▲ │                │ │ └─fail─────▶ failed
  │ └──cancel──┐     │ └───cancel───▶ canceled
  └──lease out / release / retry     (the only way back)
"""

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal, get_args

from model.params import SamplingParams

_CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"


class JobStatus(StrEnum):
    """Where a job stands; the last three are final."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"

    @property
    def is_final(self) -> bool:
        """Whether nothing can change any more."""
        return self in (JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELED)


class Priority(StrEnum):
    """How urgent a job is among its tenant's own."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"


class Provenance(StrEnum):
    """What finished images say of their making: all, all but the captions, or nothing."""

    FULL = "full"
    MINIMAL = "minimal"
    NONE = "none"


Api = Literal["native", "openai", "replicate", "huggingface"]
"""The front door that a job came through."""

WebhookEvent = Literal[
    "job.started", "job.progress", "job.image", "job.succeeded", "job.failed", "job.canceled"
]
WEBHOOK_EVENTS: tuple[WebhookEvent, ...] = get_args(WebhookEvent)


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookTarget:
    """Where to tell of a job.

    Attributes:
        url: gets a POST for each event.
        events: those of `WEBHOOK_EVENTS` that it wants.
        dialect: whose words the body speaks: `native` or `replicate`.
    """

    url: str
    events: tuple[str, ...]
    dialect: Literal["native", "replicate"] = "native"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRecord:
    """One finished image of a job.

    Attributes:
        index: k, the image's number in its job.
        key: where the image store keeps it.
        content_type: its media type.
        image_bytes: its size.
        sha256: hex digest of its bytes.
        width: px.
        height: px.
        seed: what it was drawn from: the job's seed + k, but for `best_of`.
    """

    index: int
    key: str
    content_type: str
    image_bytes: int
    sha256: str
    width: int
    height: int
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFailure:
    """Why a job failed: a stable code, a sentence, and whether submitting it again may help."""

    code: str
    detail: str
    retryable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """The record of one request.

    Attributes:
        id: `job_` and 26 characters that sort by creation time.
        status: where it stands.
        params: what was asked for, defaults filled in.
        tenant: whose it is.
        output_format: `png`, `jpeg` or `webp`.
        created_at_ms: Unix time of the acceptance.
        started_at_ms: Unix time of the first lease.
        finished_at_ms: Unix time of the final status.
        expires_at_ms: when the record goes, known once the job is final.
        attempt: number of leases so far.
        step: network steps done over all images and stages; never goes back.
        total_steps: network steps of the whole job.
        work: what it costs: rows of its network calls, in rows of 64 px; what tenants are charged.
        priority: its urgency among its tenant's jobs.
        timeout_s: it is canceled unless it ends so long after its creation.
        deadline_at_ms: Unix time of that.
        webhook: whom to tell.
        provenance: what its images say of their making.
        api: the front door that it came through.
        base_url: the server's own address, as its client knows it; links are made from it.
        echo: an adapter's own form of the request, to be given back as it came.
        images: finished images, by index.
        failure: set when the status is `failed`.
        cancel_reason: set when the status is `canceled`.
        cancel_requested: a running job was asked to stop.
        warnings: remarks for the client, such as a truncated caption.
        unknown_words: words of the caption that the pipeline's vocabulary lacks.
        metadata: the client's own tags.
    """

    id: str
    status: JobStatus
    params: SamplingParams
    tenant: str = "default"
    output_format: str = "png"
    created_at_ms: int = 0
    started_at_ms: int | None = None
    finished_at_ms: int | None = None
    expires_at_ms: int | None = None
    attempt: int = 0
    step: int = 0
    total_steps: int = 0
    work: int = 1
    priority: Priority = Priority.NORMAL
    timeout_s: float | None = None
    deadline_at_ms: int | None = None
    webhook: WebhookTarget | None = None
    provenance: Provenance = Provenance.FULL
    api: Api = "native"
    base_url: str = ""
    echo: Mapping[str, Any] | None = None
    images: tuple[ImageRecord, ...] = ()
    failure: JobFailure | None = None
    cancel_reason: str | None = None
    cancel_requested: bool = False
    warnings: tuple[str, ...] = ()
    unknown_words: tuple[str, ...] = ()
    metadata: Mapping[str, str] | None = None


def new_job_id(now_ms: int | None = None) -> str:
    """`job_` and a ULID: 48 bits of time, 80 of chance; ids sort by time to the millisecond."""
    return "job_" + ulid(time.time_ns() // 1_000_000 if now_ms is None else now_ms)


def ulid(now_ms: int) -> str:
    """26 characters that sort by `now_ms`, Unix time; 80 bits of them are drawn."""
    number = (now_ms << 80) | secrets.randbits(80)
    return "".join(_CROCKFORD[(number >> shift) & 31] for shift in range(125, -1, -5))


def is_job_id(text: str) -> bool:
    """Whether `text` has the form of a job id; keeps foreign characters out of keys and paths."""
    body = text.removeprefix("job_")
    return text.startswith("job_") and len(body) == 26 and all(c in _CROCKFORD for c in body)

"""What happens to a job, as the client's event stream shows it. Pure.

Every event is a frozen dataclass; `match` over `Event` ends in `assert_never`.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

from service.jobs import ImageRecord


@dataclass(frozen=True, slots=True)
class Queued:
    """The job waits. `reason` says why it waits again: `worker_lost`, `released`, or a failure."""

    name: ClassVar[str] = "queued"
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Started:
    """A worker holds the job. `attempt` counts from 1."""

    name: ClassVar[str] = "started"
    worker: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Progress:
    """`step` of `total_steps` network steps are done; within one job it never goes back."""

    name: ClassVar[str] = "progress"
    step: int
    total_steps: int


@dataclass(frozen=True, slots=True)
class Preview:
    """What image `index` looks like at `step`: x̂₀ as a small PNG, base64."""

    name: ClassVar[str] = "preview"
    index: int
    step: int
    png_base64: str


@dataclass(frozen=True, slots=True)
class Image:
    """Image `record.index` is finished and stored."""

    name: ClassVar[str] = "image"
    record: ImageRecord


@dataclass(frozen=True, slots=True)
class Succeeded:
    """All images are stored. Final."""

    name: ClassVar[str] = "succeeded"


@dataclass(frozen=True, slots=True)
class Failed:
    """The job failed for good. Final."""

    name: ClassVar[str] = "failed"
    code: str
    detail: str
    retryable: bool


@dataclass(frozen=True, slots=True)
class Canceled:
    """The job was stopped by its client or by its deadline. Final."""

    name: ClassVar[str] = "canceled"
    reason: str


Event = Queued | Started | Progress | Preview | Image | Succeeded | Failed | Canceled
EVENT_TYPES: Mapping[str, type[Event]] = {
    kind.name: kind
    for kind in (Queued, Started, Progress, Preview, Image, Succeeded, Failed, Canceled)
}


def event_to_record(event: Event) -> dict[str, Any]:
    """A JSON-ready mapping with the event's name under `type`."""
    return {"type": event.name, **asdict(event)}


def event_from_record(record: Mapping[str, Any]) -> Event:
    """The inverse of `event_to_record`; members that this release doesn't know are dropped.

    Raises:
        KeyError: an event type that this release doesn't know.
    """
    kind = EVENT_TYPES[record["type"]]
    names = {member.name for member in fields(kind)}
    members = {name: value for name, value in record.items() if name in names}
    if kind is Image:
        members["record"] = ImageRecord(**members["record"])
    return kind(**members)

"""What happens to a job, as a client reads it from the stream of its events."""

import base64
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from service.jobs import JobStatus
from service.views.job import ImageView, JobView


class _EventView(BaseModel):
    """What every event has."""

    id: str | None = Field(None, description="of the stream, which resumes after it; null: none")
    job_id: str


class QueuedView(_EventView):
    """The job waits."""

    type: Literal["queued"] = "queued"
    reason: str | None = Field(description="null the first time, else why it waits again")


class StartedView(_EventView):
    """A worker holds the job."""

    type: Literal["started"] = "started"
    worker: str
    attempt: int = Field(description="counts from 1")


class ProgressView(_EventView):
    """Network steps are done; within one job their number never goes back."""

    type: Literal["progress"] = "progress"
    step: int
    total_steps: int
    progress: float = Field(description="0 … 1")


class PreviewView(_EventView):
    """What an unfinished image looks like."""

    type: Literal["preview"] = "preview"
    index: int
    step: int
    png_base64: str

    @property
    def png(self) -> bytes:
        """The preview as a file."""
        return base64.b64decode(self.png_base64)


class ImageEventView(_EventView):
    """An image is finished."""

    type: Literal["image"] = "image"
    image: ImageView


class SucceededView(_EventView):
    """All images are finished."""

    type: Literal["succeeded"] = "succeeded"


class FailedView(_EventView):
    """The job failed for good."""

    type: Literal["failed"] = "failed"
    code: str
    detail: str
    retryable: bool


class CanceledView(_EventView):
    """The job was stopped."""

    type: Literal["canceled"] = "canceled"
    reason: str


class SnapshotView(_EventView):
    """The job as it is, in place of events that are gone."""

    type: Literal["snapshot"] = "snapshot"
    job: JobView


class EndView(_EventView):
    """Nothing more will happen."""

    type: Literal["end"] = "end"
    status: JobStatus


JobEvent = Annotated[
    QueuedView
    | StartedView
    | ProgressView
    | PreviewView
    | ImageEventView
    | SucceededView
    | FailedView
    | CanceledView
    | SnapshotView
    | EndView,
    Field(discriminator="type"),
]

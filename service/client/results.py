"""What became of a job. Pure."""

from dataclasses import dataclass

from service.client.errors import JobFailed
from service.jobs import JobStatus
from service.views.job import JobView

Job = str | JobView
"""A job by its id or by its record."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A job that succeeded.

    Attributes:
        job: its record.
        images: the files, by index.
    """

    job: JobView
    images: tuple[bytes, ...]


def id_of(job: Job) -> str:
    """The id of a job."""
    return job if isinstance(job, str) else job.id


def require_success(job: JobView) -> None:
    """Returns if a final job has all its images.

    Raises:
        JobFailed: it hasn't.
    """
    if job.status is not JobStatus.SUCCEEDED:
        raise JobFailed(job)

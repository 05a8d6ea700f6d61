"""Entity tags: whether a client already holds what it asks for (RFC 9110, 8.8 and 13.1)."""

import hashlib

from starlette.requests import Request

from service.jobs import Job
from service.views.job import JobView


def job_state(job: Job) -> tuple[object, ...]:
    """Equal for a job to which nothing happened; all else of it never changes."""
    return (
        job.id,
        job.status,
        job.attempt,
        job.step,
        job.started_at_ms,
        job.finished_at_ms,
        job.expires_at_ms,
        job.cancel_requested,
        tuple(image.sha256 for image in job.images),
    )


def job_tag(job: Job, view: JobView) -> str:
    """A tag for what a client is shown of a job.

    `eta_seconds` doesn't count: it is a forecast of this moment, and no news of the job.
    """
    shown = (*job_state(job), view.links.self, view.queue_position, *view.warnings)
    return f'"{hashlib.sha256(repr(shown).encode()).hexdigest()[:32]}"'


def is_held(request: Request, tag: str) -> bool:
    """Whether `If-None-Match` names `tag`."""
    asked = request.headers.get("if-none-match", "").split(",")
    held = [each.strip().removeprefix("W/") for each in asked]
    return tag in held or "*" in held

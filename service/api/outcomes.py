"""The end of a job, for front doors that answer with its images or not at all.

Knows no dialect: what went wrong is raised, and the path's own dialect says it.
"""

import asyncio
import contextlib
import math

from starlette.requests import Request

from service.api.intake import hold
from service.api.services import Services
from service.errors import ImageRejected, JobCanceled, JobError, PromptRejected, Unavailable
from service.jobs import Job, JobStatus

_LOOK_AGAIN_S = 1.0
_REJECTIONS = {kind.code: kind for kind in (PromptRejected, ImageRejected)}


async def ended(request: Request, job: Job, services: Services, *, named: bool) -> Job:
    """The job once it has succeeded, however long that takes and though Redis goes meanwhile.

    Args:
        request: whose client waits; when it goes, so does the job, see `leave`.
        job: what for.
        services: of the process.
        named: the client has a name for it, by which it may ask again.

    Raises:
        JobError: it failed, or was canceled.
        NotFound: it is forgotten.
    """
    job = await hold(request, job, math.inf, services)
    while not job.status.is_final:
        if await request.is_disconnected():
            await leave(job, services, named=named)
            raise JobCanceled("The client has gone.")
        await asyncio.sleep(_LOOK_AGAIN_S)
        job = await hold(request, job, math.inf, services)
    require_success(job)
    return job


async def leave(job: Job, services: Services, *, named: bool) -> None:
    """Stops a job whose client has gone, unless others wait for it.

    Others are those who follow it through this process, and whoever may come back for a job that
    has a name.
    """
    if named or services.queue.is_watched(job.id):
        return
    with contextlib.suppress(Unavailable):
        await services.queue.cancel(job.id, "the client has gone")


def require_success(job: Job) -> None:
    """Returns if a final job has all its images.

    Raises:
        JobError: it hasn't.
    """
    failure = job.failure
    if job.status is JobStatus.CANCELED:
        raise JobCanceled(f"Job {job.id} was canceled: {job.cancel_reason}.")
    if failure is not None:
        kind = _REJECTIONS.get(failure.code, JobError)
        raise kind(f"Job {job.id} failed: {failure.detail}")

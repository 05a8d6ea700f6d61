"""Signed links, followed: what they lead to, for whoever has them. Knows no route."""

import time
from typing import Annotated

from fastapi import Query

from service.api.services import Services
from service.errors import Forbidden, NotFound
from service.jobs import ImageRecord, Job, is_job_id
from service.views.links import file_path

ExpiresQuery = Annotated[int, Query(ge=0, le=1 << 40, description="Unix time, s")]
SignatureQuery = Annotated[str, Query(max_length=128)]
"""Routes give both a default that no link has: one without them is forbidden, not malformed."""


async def signed_job(
    services: Services, job_id: str, path: str, expires_s: int, signature: str
) -> Job:
    """The job that a signed path belongs to.

    Raises:
        Forbidden: the signature is wrong, or its time is over.
        NotFound: there is no such job any more.
    """
    signer = await services.signing.signer()
    if not signer.verify(path, expires_s, signature, now_s=time.time()):
        raise Forbidden("The link's signature is wrong, or its time is over: fetch the job anew.")
    job = await services.queue.get(job_id) if is_job_id(job_id) else None
    if job is None:
        raise NotFound("There is no such job any more.")
    return job


async def signed_image(
    services: Services, job_id: str, path: str, expires_s: int, signature: str
) -> tuple[Job, ImageRecord]:
    """The image at a signed path, and its job.

    Raises:
        Forbidden: the signature is wrong, or its time is over.
        NotFound: there is no such image any more.
    """
    job = await signed_job(services, job_id, path, expires_s, signature)
    for image in job.images:
        if file_path(job_id, image) == path:
            return job, image
    raise NotFound("There is no such image any more.")

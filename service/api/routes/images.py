"""Finished images, as bytes: for their owner's key, or for whoever has a signed link."""

import asyncio
import time
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response

from service.api.dependencies import JobDep
from service.api.entity_tags import is_held
from service.api.problems import declared
from service.api.ranges import byte_range
from service.api.services import Services, ServicesDep
from service.errors import Forbidden, NotFound
from service.jobs import ImageRecord, Job, is_job_id
from service.views.links import EXTENSIONS, file_path

router = APIRouter(tags=["images"])

_BYTES = {"schema": {"type": "string", "format": "binary"}}
_FOUND = {
    "description": "the image",
    "content": {"image/png": _BYTES, "image/jpeg": _BYTES, "image/webp": _BYTES},
}
_PART = {**_FOUND, "description": "the bytes that `Range` asks for"}
_UNCHANGED = {"description": "not changed"}


@router.get(
    "/v1/jobs/{job_id}/images/{index}",
    response_class=Response,
    responses={200: _FOUND, 206: _PART, 304: _UNCHANGED, **declared(404, 416, 422)},
)
async def get_image(
    request: Request,
    job: JobDep,
    services: ServicesDep,
    index: Annotated[int, Path(ge=0, description="k, the image's number in its job")],
) -> Response:
    """Image k of a job; there as soon as it is finished, before its job ends."""
    record = next((image for image in job.images if image.index == index), None)
    if record is None:
        raise NotFound(f"Job {job.id} has no image {index}: {_why(index, job.params.n)}.")
    return await image_response(request, job, record, services)


@router.get(
    "/v1/files/{job_id}/{name}",
    response_class=Response,
    responses={200: _FOUND, 206: _PART, 304: _UNCHANGED, **declared(403, 404, 416, 422)},
)
async def get_file(
    request: Request,
    services: ServicesDep,
    job_id: str,
    name: str,
    expires: Annotated[int, Query(ge=0, le=1 << 40, description="Unix time, s")],
    signature: Annotated[str, Query(max_length=128)],
) -> Response:
    """An image by the signed link of a job's `images`; asks for no key."""
    signer = await services.signing.signer()
    path = f"/v1/files/{job_id}/{name}"
    if not signer.verify(path, expires, signature, now_s=time.time()):
        raise Forbidden("The link's signature is wrong, or its time is over: fetch the job anew.")
    job = await services.queue.get(job_id) if is_job_id(job_id) else None
    images = job.images if job else ()
    record = next((image for image in images if file_path(job_id, image) == path), None)
    if job is None or record is None:
        raise NotFound("There is no such image any more.")
    return await image_response(request, job, record, services)


async def image_response(
    request: Request, job: Job, record: ImageRecord, services: Services
) -> Response:
    """The bytes of an image, or a part of them, or 304 where the client has them.

    Raises:
        HTTPException: status 416, a part that isn't there.
        NotFound: the store has lost them.
        Unavailable: the store can't be reached.
    """
    tag = f'"{record.sha256}"'
    headers = {"ETag": tag, "Cache-Control": "private, max-age=31536000, immutable"}
    if is_held(request, tag):
        return Response(status_code=304, headers=headers)
    part = byte_range(request, record.image_bytes, tag)
    data = await asyncio.to_thread(services.store.get, record.key)
    headers |= image_headers(job, record)
    if part is None:
        return Response(data, headers=headers, media_type=record.content_type)
    headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{len(data)}"
    return Response(data[part.start : part.stop], 206, headers, media_type=record.content_type)


def image_headers(job: Job, record: ImageRecord) -> dict[str, str]:
    """What goes with the bytes of an image, beside its type and how long it may be kept."""
    name = f"{job.id}-{record.index}.{EXTENSIONS[record.content_type]}"
    return {
        "ETag": f'"{record.sha256}"',
        "Accept-Ranges": "bytes",
        "Content-Disposition": f'inline; filename="{name}"',
        "X-Content-Type-Options": "nosniff",
        "X-Seed": str(record.seed),
    }


def _why(index: int, count: int) -> str:
    return "it is not finished" if index < count else f"it was asked for {count}, counted from 0"

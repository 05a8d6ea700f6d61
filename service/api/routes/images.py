"""Finished images, as bytes: for their owner's key, or for whoever has a signed link."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response

from service.api.auth import NO_KEY
from service.api.dependencies import JobDep
from service.api.entity_tags import is_held
from service.api.problems import declared
from service.api.services import Services, ServicesDep
from service.api.signed import signed_image
from service.errors import NotFound
from service.jobs import ImageRecord, Job
from service.views.links import EXTENSIONS

router = APIRouter(tags=["images"])

_BYTES = {"schema": {"type": "string", "format": "binary"}}
_FOUND = {
    "description": "the image",
    "content": {"image/png": _BYTES, "image/jpeg": _BYTES, "image/webp": _BYTES},
}
_UNCHANGED = {"description": "not changed"}


@router.get(
    "/v1/jobs/{job_id}/images/{index}",
    response_class=Response,
    responses={200: _FOUND, 304: _UNCHANGED, **declared(404, 422)},
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
    openapi_extra=NO_KEY,
    responses={200: _FOUND, 304: _UNCHANGED, **declared(403, 404, 422)},
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
    path = f"/v1/files/{job_id}/{name}"
    job, record = await signed_image(services, job_id, path, expires, signature)
    return await image_response(request, job, record, services)


async def image_response(
    request: Request, job: Job, record: ImageRecord, services: Services
) -> Response:
    """The bytes of an image, or 304 where the client has them.

    Raises:
        NotFound: the store has lost them.
        Unavailable: the store can't be reached.
    """
    tag = f'"{record.sha256}"'
    headers = {"ETag": tag, "Cache-Control": "private, max-age=31536000, immutable"}
    if is_held(request, tag):
        return Response(status_code=304, headers=headers)
    data = await asyncio.to_thread(services.store.get, record.key)
    name = f"{job.id}-{record.index}.{EXTENSIONS[record.content_type]}"
    headers["Content-Disposition"] = f'inline; filename="{name}"'
    headers["X-Content-Type-Options"] = "nosniff"
    return Response(data, headers=headers, media_type=record.content_type)


def _why(index: int, count: int) -> str:
    return "it is not finished" if index < count else f"it was asked for {count}, counted from 0"

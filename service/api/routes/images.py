"""Finished images, as bytes."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from service.api.dependencies import JobDep, ServicesDep
from service.api.entity_tags import is_held
from service.api.problems import declared
from service.errors import NotFound

router = APIRouter(prefix="/v1/jobs", tags=["images"])

_BYTES = {"schema": {"type": "string", "format": "binary"}}
_FOUND = {
    "description": "the image",
    "content": {"image/png": _BYTES, "image/jpeg": _BYTES, "image/webp": _BYTES},
}


@router.get(
    "/{job_id}/images/{index}",
    response_class=Response,
    responses={200: _FOUND, 304: {"description": "not changed"}, **declared(404, 422)},
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
    tag = f'"{record.sha256}"'
    headers = {"ETag": tag, "Cache-Control": "private, max-age=31536000, immutable"}
    if is_held(request, tag):
        return Response(status_code=304, headers=headers)
    data = await asyncio.to_thread(services.store.get, record.key)
    extension = record.content_type.removeprefix("image/")
    headers["Content-Disposition"] = f'inline; filename="{job.id}-{index}.{extension}"'
    headers["X-Content-Type-Options"] = "nosniff"
    return Response(data, headers=headers, media_type=record.content_type)


def _why(index: int, count: int) -> str:
    return "it is not finished" if index < count else f"it was asked for {count}, counted from 0"

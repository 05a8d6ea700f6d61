"""Finished images, as bytes: for their owner's key, or for whoever has a signed link."""

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from service.api.auth import NO_KEY
from service.api.declarations import IMAGE_CONTENT, UNCHANGED
from service.api.dependencies import JobDep
from service.api.image_bytes import image_response
from service.api.problems import declared
from service.api.services import ServicesDep
from service.api.signed import ExpiresQuery, SignatureQuery, signed_image
from service.errors import NotFound

router = APIRouter(tags=["images"])

_FOUND = {"description": "the image", "content": IMAGE_CONTENT}
_PART = {**_FOUND, "description": "the bytes that `Range` asks for"}


@router.get(
    "/v1/jobs/{job_id}/images/{index}",
    response_class=Response,
    responses={200: _FOUND, 206: _PART, 304: UNCHANGED, **declared(404, 416, 422)},
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
    responses={200: _FOUND, 206: _PART, 304: UNCHANGED, **declared(403, 404, 416, 422)},
)
async def get_file(
    request: Request,
    services: ServicesDep,
    job_id: str,
    name: str,
    expires: ExpiresQuery = 0,
    signature: SignatureQuery = "",
) -> Response:
    """An image by the signed link of a job's `images`; asks for no key."""
    path = f"/v1/files/{job_id}/{name}"
    job, record = await signed_image(services, job_id, path, expires, signature)
    return await image_response(request, job, record, services)


def _why(index: int, count: int) -> str:
    return "it is not finished" if index < count else f"it was asked for {count}, counted from 0"

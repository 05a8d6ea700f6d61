"""Finished images at another size, by signed links: what a client gets that asked for a `url`."""

import asyncio
import time
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from service.api.auth import NO_KEY
from service.api.entity_tags import is_held
from service.api.problems import declared
from service.api.scaling import Size, parse_size, scaled
from service.api.services import ServicesDep
from service.api.signed import ExpiresQuery, SignatureQuery
from service.errors import Forbidden, NotFound
from service.jobs import ImageRecord, Job, is_job_id
from service.views.links import EXTENSIONS, Links

router = APIRouter(tags=["images"])

_BYTES = {"schema": {"type": "string", "format": "binary"}}
_FOUND = {
    "description": "the image",
    "content": {"image/png": _BYTES, "image/jpeg": _BYTES, "image/webp": _BYTES},
}


def scaled_url(job: Job, image: ImageRecord, size: Size, links: Links) -> str:
    """Where an image is fetched at `size`, without a key."""
    return links.signed(_path(job.id, image, "{}x{}".format(*size)), job)


@router.get(
    "/v1/files/{job_id}/{size}/{name}",
    response_class=Response,
    openapi_extra=NO_KEY,
    responses={200: _FOUND, 304: {"description": "not changed"}, **declared(403, 404, 422)},
)
async def get_scaled_file(
    request: Request,
    services: ServicesDep,
    job_id: str,
    size: Annotated[str, Path(description="such as `1024x1024`")],
    name: str,
    expires: ExpiresQuery = 0,
    signature: SignatureQuery = "",
) -> Response:
    """A finished image at another size, by the signed link of an image's `url`; asks for no key."""
    signer = await services.signing.signer()
    path = f"/v1/files/{job_id}/{size}/{name}"
    if not signer.verify(path, expires, signature, now_s=time.time()):
        raise Forbidden("The link's signature is wrong, or its time is over.")
    job = await services.queue.get(job_id) if is_job_id(job_id) else None
    images = job.images if job else ()
    record = next((image for image in images if _path(job_id, image, size) == path), None)
    wanted = parse_size(size)
    if job is None or record is None or wanted is None:
        raise NotFound("There is no such image any more.")
    tag = f'"{record.sha256}-{size}"'
    headers = {"ETag": tag, "Cache-Control": "private, max-age=31536000, immutable"}
    if is_held(request, tag):
        return Response(status_code=304, headers=headers)
    data = await asyncio.to_thread(services.store.get, record.key)
    async with services.unpacking:
        data = await asyncio.to_thread(scaled, data, wanted, job.output_format)
    headers["Content-Disposition"] = f'inline; filename="{job.id}-{size}-{name}"'
    headers["X-Content-Type-Options"] = "nosniff"
    return Response(data, headers=headers, media_type=record.content_type)


def _path(job_id: str, image: ImageRecord, size: str) -> str:
    return f"/v1/files/{job_id}/{size}/{image.index}.{EXTENSIONS[image.content_type]}"

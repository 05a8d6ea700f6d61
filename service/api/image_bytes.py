"""Finished images as the bodies of answers. Knows no route."""

import asyncio

from starlette.requests import Request
from starlette.responses import Response

from service.api.entity_tags import is_held
from service.api.problems import refusal_of_job, respond
from service.api.ranges import byte_range
from service.api.services import Services
from service.jobs import ImageRecord, Job, JobStatus
from service.views.links import EXTENSIONS, Links

_FOR_EVER = "private, max-age=31536000, immutable"


async def image_response(
    request: Request, job: Job, record: ImageRecord, services: Services
) -> Response:
    """The bytes of an image, or a part of them, or 304 where the client has them.

    Raises:
        HTTPException: status 416, a part that isn't there.
        NotFound: the store has lost them.
        Unavailable: the store can't be reached.
    """
    headers = {**_headers(job, record), "Cache-Control": _FOR_EVER}
    if is_held(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    part = byte_range(request, record.image_bytes, headers["ETag"])
    data = await asyncio.to_thread(services.store.get, record.key)
    if part is None:
        return Response(data, headers=headers, media_type=record.content_type)
    headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{len(data)}"
    return Response(data[part.start : part.stop], 206, headers, media_type=record.content_type)


async def first_image_response(
    request: Request, job: Job, services: Services, links: Links
) -> Response:
    """What a client that asked for pictures gets of a final job: the first of them, or a refusal.

    The header `Link` leads to the others.

    Raises:
        NotFound: the store has lost it.
        Unavailable: the store can't be reached.
    """
    if not job.images or job.status is not JobStatus.SUCCEEDED:
        return respond(refusal_of_job(job), request.scope)
    first, *others = job.images
    data = await asyncio.to_thread(services.store.get, first.key)
    headers = _headers(job, first)
    if others:
        headers["Link"] = ", ".join(f'<{links.image(job, each)}>; rel="item"' for each in others)
    return Response(data, headers=headers, media_type=first.content_type)


def _headers(job: Job, record: ImageRecord) -> dict[str, str]:
    name = f"{job.id}-{record.index}.{EXTENSIONS[record.content_type]}"
    return {
        "ETag": f'"{record.sha256}"',
        "Accept-Ranges": "bytes",
        "Content-Disposition": f'inline; filename="{name}"',
        "X-Content-Type-Options": "nosniff",
        "X-Seed": str(record.seed),
    }

"""A prediction followed live, by a signed link: its outputs and logs, to the end."""

import contextlib
import json
import re
from collections.abc import AsyncGenerator
from typing import Annotated

from fastapi import APIRouter, Header, Response
from fastapi.sse import format_sse_event

from service.api.auth import NO_KEY
from service.api.dependencies import LinksDep
from service.api.following import followed, patiently
from service.api.problems import declared
from service.api.services import Services, ServicesDep
from service.api.signed import ExpiresQuery, SignatureQuery, signed_job
from service.api.streams import EventStream
from service.errors import FieldError, InvalidRequest, NotFound
from service.events import Event, Failed, Image, Progress
from service.jobs import Job, JobStatus
from service.views.links import Links
from service.views.prediction import progress_line, stream_path

router = APIRouter(tags=["replicate"])

_DONE = "done"
_EVENT_ID = re.compile(r"\d{1,18}", re.ASCII)
_REASONS = {
    JobStatus.FAILED: {"reason": "error"},
    JobStatus.CANCELED: {"reason": "canceled"},
}
_STREAM = {
    "description": "`output` with the URL of an image, `logs`, `error`, and at last `done`",
    "content": {"text/event-stream": {"schema": {"type": "string"}}},
}


@router.get(
    "/v1/files/{job_id}/stream",
    response_class=Response,
    responses={
        200: _STREAM,
        204: {"description": "the client has seen the end"},
        **declared(403, 404, 422),
    },
    openapi_extra=NO_KEY,
)
async def stream_prediction(
    services: ServicesDep,
    links: LinksDep,
    job_id: str,
    expires: ExpiresQuery = 0,
    signature: SignatureQuery = "",
    last_event_id: Annotated[str | None, Header(description="resume after this event")] = None,
) -> Response:
    """What happens to a prediction, from its start or from `Last-Event-ID` on."""
    job = await signed_job(services, job_id, stream_path(job_id), expires, signature)
    after = last_event_id or None
    if after == _DONE:
        return Response(status_code=204)
    if after is not None and not _EVENT_ID.fullmatch(after):
        detail = "not the id of an event of this stream"
        raise InvalidRequest.of([FieldError("/header/last-event-id", detail)])
    blocks = _blocks(services, job, links, after)
    return EventStream(blocks, services.settings.api.keepalive_s)


async def _blocks(
    services: Services, job: Job, links: Links, after: str | None
) -> AsyncGenerator[bytes, None]:
    """Every event as a block; each has an id, since clients drop those without."""
    queue = services.queue
    try:
        async with contextlib.aclosing(followed(queue, job.id, after)) as events:
            async for event_id, event in events:
                told = _told(job, links, event)
                if told is not None:
                    name, data = told
                    yield format_sse_event(event=name, data_str=data, id=event_id)
    except NotFound:
        return
    ended = await patiently(lambda: queue.get(job.id))
    if ended is not None:
        data = json.dumps(_REASONS.get(ended.status, {}))
        yield format_sse_event(event=_DONE, data_str=data, id=_DONE)


def _told(job: Job, links: Links, event: Event) -> tuple[str, str] | None:
    """The name and the data of an event of ours; None for those that clients don't know."""
    match event:
        case Image(record=image):
            return "output", links.image(job, image)
        case Progress(step=step, total_steps=total) if total:
            return "logs", progress_line(step, total).rstrip("\n")
        case Failed(detail=detail):
            return "error", detail
    return None

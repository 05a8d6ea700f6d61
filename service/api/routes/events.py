"""What happens to a job, as server-sent events: the past first, then live, to the end."""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncGenerator
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response
from fastapi.sse import format_sse_event

from service.api.dependencies import JobDep, LinksDep
from service.api.problems import declared
from service.api.services import ServicesDep
from service.api.streams import EventStream
from service.errors import FieldError, InvalidRequest, NotFound, Unavailable
from service.events import Event, Image, Progress, event_to_record
from service.jobs import Job
from service.queue.redis import RedisJobQueue
from service.views.job import image_view
from service.views.links import Links

router = APIRouter(prefix="/v1/jobs", tags=["events"])


_END = "end"
_EVENT_ID = re.compile(r"\d{1,18}", re.ASCII)
_RECONNECT_AFTER_MS = 2000
_RETRY_S = 1.0
_STREAM = {
    "description": "`queued`, `started`, `progress`, `preview`, `image`, one of `succeeded`, "
    "`failed` and `canceled`, then `end`",
    "content": {"text/event-stream": {"schema": {"type": "string"}}},
}


@router.get(
    "/{job_id}/events",
    response_class=Response,
    responses={
        200: _STREAM,
        204: {"description": "the client has seen the end"},
        **declared(404, 422),
    },
)
async def get_events(
    job: JobDep,
    services: ServicesDep,
    links: LinksDep,
    last_event_id: Annotated[str | None, Header(description="resume after this event")] = None,
    query_id: Annotated[
        str | None, Query(alias="last_event_id", description="the same, without a header")
    ] = None,
) -> Response:
    """The events of a job, from its first or from `Last-Event-ID` on, until it ends."""
    after = last_event_id or query_id or None
    if after == _END:
        return Response(status_code=204)
    if after is not None and not _EVENT_ID.fullmatch(after):
        where = "/header/last-event-id" if last_event_id else "/query/last_event_id"
        raise InvalidRequest.of([FieldError(where, "not the id of an event of this stream")])
    events = _blocks(services.queue, job, links, after)
    return EventStream(events, services.settings.api.keepalive_s)


async def _blocks(
    queue: RedisJobQueue, job: Job, links: Links, after: str | None
) -> AsyncGenerator[bytes, None]:
    """Every event as a block of the stream; outlives a queue that can't be reached for a while."""
    yield format_sse_event(retry=_RECONNECT_AFTER_MS)
    job_id = job.id
    while True:
        try:
            async with contextlib.aclosing(queue.follow(job_id, after)) as events:
                async for event_id, event in events:
                    after = event_id
                    data = json.dumps(_data(job, links, event))
                    yield format_sse_event(event=event.name, data_str=data, id=event_id)
            ended = await queue.get(job_id)
        except Unavailable:
            await asyncio.sleep(_RETRY_S)
        except NotFound:
            return
        else:
            break
    if ended is not None:
        data = json.dumps({"type": _END, "job_id": job_id, "status": ended.status})
        yield format_sse_event(event=_END, data_str=data, id=_END)


def _data(job: Job, links: Links, event: Event) -> dict[str, Any]:
    """An event's record as clients see it: an image with its URL, progress as a fraction too."""
    record = {**event_to_record(event), "job_id": job.id}
    match event:
        case Image(record=image):
            del record["record"]
            record["image"] = image_view(job, image, links).model_dump()
        case Progress(step=step, total_steps=total):
            record["progress"] = min(step / total, 1.0) if total else 0.0
    return record

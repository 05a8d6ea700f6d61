"""What happens to a job, as server-sent events: the past first, then live, to the end."""

import contextlib
import json
import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Response
from fastapi.sse import format_sse_event

from service.api.auth import NO_KEY
from service.api.dependencies import JobDep, LinksDep
from service.api.following import followed, patiently
from service.api.problems import declared
from service.api.services import Services, ServicesDep
from service.api.signed import ExpiresQuery, SignatureQuery, signed_job
from service.api.streams import EventStream
from service.errors import FieldError, InvalidRequest, NotFound
from service.events import Event, Image, Preview, Progress, event_to_record
from service.jobs import Job
from service.views.job import image_view, job_view
from service.views.links import Links, events_path

router = APIRouter(prefix="/v1", tags=["events"])


_END = "end"
_SNAPSHOT = "snapshot"
_EVENT_ID = re.compile(r"[0-9]{1,18}")
_ID_SCHEMA: dict[str, Any] = {"pattern": f"^({_EVENT_ID.pattern}|{_END})?$"}
_RECONNECT_AFTER_MS = 2000
_STREAM = {
    "description": "`queued`, `started`, `progress`, `preview`, `image`, one of `succeeded`, "
    "`failed` and `canceled`, then `end`; a `snapshot` stands for events that are gone",
    "content": {
        "text/event-stream": {
            "itemSchema": {
                "type": "object",
                "properties": {
                    "event": {"type": "string"},
                    "data": {"type": "string", "contentMediaType": "application/json"},
                    "id": {"type": "string"},
                    "retry": {"type": "integer"},
                },
            }
        }
    },
}
_SEEN = {"description": "the client has seen the end"}


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Which events a client asks for: those after one, with previews or without."""

    after: str | None
    previews: bool


async def _wanted(
    last_event_id: Annotated[
        str | None, Header(description="resume after this event", json_schema_extra=_ID_SCHEMA)
    ] = None,
    query_id: Annotated[
        str | None,
        Query(
            alias="last_event_id",
            description="the same, without a header",
            json_schema_extra=_ID_SCHEMA,
        ),
    ] = None,
    previews: Annotated[bool, Query(description="whether `preview` events are sent")] = True,
) -> _Wanted:
    after = last_event_id or query_id or None
    if after not in (None, _END) and not _EVENT_ID.fullmatch(after):
        where = "/header/last-event-id" if last_event_id else "/query/last_event_id"
        raise InvalidRequest.of([FieldError(where, "not the id of an event of this stream")])
    return _Wanted(after, previews)


_WantedDep = Annotated[_Wanted, Depends(_wanted)]


@router.get(
    "/jobs/{job_id}/events",
    response_class=Response,
    responses={200: _STREAM, 204: _SEEN, **declared(404, 422)},
)
async def get_events(
    job: JobDep, services: ServicesDep, links: LinksDep, wanted: _WantedDep
) -> Response:
    """The events of a job, from its first or from `Last-Event-ID` on, until it ends."""
    return _answer(job, services, links, wanted)


@router.get(
    "/events/{job_id}",
    response_class=Response,
    openapi_extra=NO_KEY,
    responses={200: _STREAM, 204: _SEEN, **declared(403, 404, 422)},
)
async def get_signed_events(
    services: ServicesDep,
    links: LinksDep,
    wanted: _WantedDep,
    job_id: str,
    expires: ExpiresQuery = 0,
    signature: SignatureQuery = "",
) -> Response:
    """The same by the link `events_signed` of a job; asks for no key."""
    job = await signed_job(services, job_id, events_path(job_id), expires, signature)
    return _answer(job, services, links, wanted)


def _answer(job: Job, services: Services, links: Links, wanted: _Wanted) -> Response:
    if wanted.after == _END:
        return Response(status_code=204)
    return EventStream(_blocks(services, job, links, wanted), services.settings.api.keepalive_s)


async def _blocks(
    services: Services, job: Job, links: Links, wanted: _Wanted
) -> AsyncGenerator[bytes, None]:
    """The stream in blocks; outlives a queue that can't be reached for a while."""
    yield format_sse_event(retry=_RECONNECT_AFTER_MS)
    queue, after, whole = services.queue, wanted.after, True
    try:
        async with contextlib.aclosing(followed(queue, job.id, after)) as events:
            async for event_id, event in events:
                if whole and int(event_id) != int(after or 0) + 1:
                    whole = False  # events are numbered without gaps: some are gone
                    yield await _snapshot(services, job, links)
                after = event_id
                if wanted.previews or not isinstance(event, Preview):
                    yield _block(event.name, _data(job, links, event), event_id)
    except NotFound:
        return
    ended = await patiently(lambda: queue.get(job.id))
    if ended is not None:
        yield _block(_END, {"type": _END, "job_id": job.id, "status": ended.status}, _END)


async def _snapshot(services: Services, job: Job, links: Links) -> bytes:
    """The job as it is now. Without an id: whoever resumes still gets the events that follow."""
    now = await patiently(lambda: services.queue.get(job.id))
    view = job_view(now or job, links)
    data = {"type": _SNAPSHOT, "job_id": job.id, "job": view.model_dump(mode="json")}
    return _block(_SNAPSHOT, data)


def _block(name: str, data: dict[str, Any], event_id: str | None = None) -> bytes:
    return format_sse_event(event=name, data_str=json.dumps(data), id=event_id)


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

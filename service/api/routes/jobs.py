"""Jobs: submit, look, list, cancel, delete."""

import asyncio
import dataclasses
import logging
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import Field, TypeAdapter, ValidationError

from service.api.bodies import read_submission
from service.api.declarations import (
    ACCEPTED,
    FINISHED,
    SUBMISSION_BODY,
    SUBMISSION_HEADERS,
    UNCHANGED,
)
from service.api.dependencies import JobDep, LinksDep, TenantDep, find_standing, links_of
from service.api.direct import DirectRoute, principal_of
from service.api.entity_tags import is_held, job_state, job_tag
from service.api.image_bytes import first_image_response
from service.api.intake import hold, take, terms_of
from service.api.outlook import shown, shown_accepted, shown_one, standing_of, standings_of
from service.api.preferences import preferences, wanted_image
from service.api.problems import declared
from service.api.schemas import Moment
from service.api.services import Services, ServicesDep, services_of
from service.errors import Conflict, FieldError, InvalidRequest, NotFound, Unavailable
from service.jobs import Job, JobStatus
from service.queue.records import JobFilter, Standing
from service.views.job import JobList, JobView, MetricsView, metrics_view
from service.views.links import job_path

log = logging.getLogger(__name__)
router = APIRouter(prefix="/v1/jobs", tags=["jobs"])
direct = APIRouter(prefix="/v1/jobs", tags=["jobs"], route_class=DirectRoute)

_POLL_AFTER_S = "1"

CursorQuery = Annotated[
    str | None,
    Query(
        max_length=200,
        description="`next_cursor` of a page",
        json_schema_extra={"pattern": "^job_[0-9a-hjkmnp-tv-z]{26}$"},
    ),
]
_WAIT = TypeAdapter(Annotated[float, Field(ge=0, allow_inf_nan=False)])
_JOB_ID = {"name": "job_id", "in": "path", "required": True, "schema": {"type": "string"}}
_WAIT_QUERY = {
    "name": "wait",
    "in": "query",
    "required": False,
    "description": "s; answers early when the job ends or changes",
    "schema": {"type": "number", "minimum": 0, "default": 0.0},
}


async def _wanted(
    status: JobStatus | None = None,
    model: Annotated[str | None, Query(max_length=200)] = None,
    created_after: Annotated[Moment | None, Query(description="or at that time")] = None,
    created_before: Moment | None = None,
) -> JobFilter:
    return JobFilter(
        status=status,
        model=model,
        created_after_ms=_unix_ms(created_after),
        created_before_ms=_unix_ms(created_before),
    )


WantedDep = Annotated[JobFilter, Depends(_wanted)]


@direct.post(
    "",
    status_code=202,
    response_model=JobView,
    openapi_extra={"requestBody": SUBMISSION_BODY, "parameters": SUBMISSION_HEADERS},
    responses={200: FINISHED, 202: ACCEPTED, **declared(400, 408, 409, 413, 415, 422, 429, 504)},
)
async def submit(request: Request) -> Response:
    """Accepts a job; `Accept: image/*` with `Prefer: wait` gives its first image."""
    services, principal = services_of(request), principal_of(request)
    submission, links = await read_submission(request), await links_of(request)
    asked, image_format = preferences(request), wanted_image(request)
    terms = terms_of(request, submission.members, submission.files)
    submission = submission.in_format(image_format)
    accepted = await take(request, submission, terms, services, principal)
    standing = Standing(accepted.job, accepted.queue_position, accepted.work_before)
    wait_s = asked.wait_s(services.settings.api.max_wait_s)
    if wait_s and not accepted.job.status.is_final:
        standing = await _held(request, accepted.job, wait_s, services)
    finished = standing.job.status.is_final
    said = {
        "Location": job_path(accepted.job.id),
        "Vary": "Prefer, Accept",
        **asked.applied(finished=finished),
        **({"Idempotency-Replayed": "true"} if accepted.replayed else {}),
    }
    if finished and image_format:
        response = await first_image_response(request, standing.job, services, links)
        response.headers.update(said | _timing(metrics_view(standing.job)))
        return response
    view = await shown_accepted(standing, services, links)
    return _answer(view, 200 if finished else 202, said)


@router.get("", responses=declared(422))
async def list_jobs(
    request: Request,
    response: Response,
    services: ServicesDep,
    tenant: TenantDep,
    links: LinksDep,
    wanted: WantedDep,
    cursor: CursorQuery = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> JobList:
    """Jobs, newest first; a page may be short and yet not the last."""
    try:
        jobs, next_cursor = await services.queue.list(
            tenant, cursor=cursor, limit=limit, **dataclasses.asdict(wanted)
        )
    except InvalidRequest as error:
        raise InvalidRequest.of([FieldError("/query/cursor", error.detail)]) from error
    standings = await standings_of(jobs, services)
    if next_cursor is not None:
        page = request.url.include_query_params(cursor=next_cursor)
        response.headers["Link"] = f'<{links.to(f"{page.path}?{page.query}")}>; rel="next"'
    return JobList(
        data=await shown(standings, services, links),
        has_more=next_cursor is not None,
        next_cursor=next_cursor,
    )


@direct.get(
    "/{job_id}",
    response_model=JobView,
    openapi_extra={"parameters": [_JOB_ID, _WAIT_QUERY]},
    responses={304: UNCHANGED, **declared(404, 422)},
)
async def get_job(request: Request) -> Response:
    """A job: at once, or, with `wait`, when it ends or is no longer as `If-None-Match` has it."""
    services, links, wait = services_of(request), await links_of(request), _wait_s(request)
    job_id, tenant = request.path_params["job_id"], principal_of(request).tenant
    standing = await find_standing(job_id, services, tenant)
    view = await shown_one(standing, services, links)
    tag = job_tag(standing.job, view)
    held, conditional = is_held(request, tag), "if-none-match" in request.headers
    if wait > 0 and not view.status.is_final and (held or not conditional):
        before = job_state(standing.job)
        wait_s = min(wait, services.settings.api.max_wait_s)
        job = await services.queue.wait(
            view.id, wait_s, until=lambda job: conditional and job_state(job) != before
        )
        standing = await standing_of(job, services)
        view = await shown_one(standing, services, links)
        tag = job_tag(standing.job, view)
        held = is_held(request, tag)
    headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
    if held:
        return Response(status_code=304, headers=headers)
    return _answer(view, 200, headers)


@router.post("/{job_id}/cancel", response_model=JobView, responses=declared(404, 422))
async def cancel_job(job: JobDep, services: ServicesDep, links: LinksDep) -> Response:
    """Stops a job; one that is already final stays as it is."""
    canceled = await services.queue.cancel(job.id, "canceled by the client")
    if canceled is None:
        raise NotFound(f"There is no job {job.id!r} any more.")
    log.info("job cancel asked", extra={"job_id": job.id})
    return _answer(await shown_one(Standing(canceled, None, None), services, links), 200, {})


@router.delete("/{job_id}", status_code=204, responses=declared(404, 409, 422))
async def delete_job(job: JobDep, services: ServicesDep) -> None:
    """Removes a final job, its events and its images; what it started from may serve others."""
    if not job.status.is_final:
        raise Conflict(f"Job {job.id} is {job.status}: cancel it first, and wait for its end.")
    # The record goes last, so that whoever was interrupted can ask again.
    for image in job.images:
        await asyncio.to_thread(services.store.delete, image.key)
    if await services.queue.delete(job.id) is None:
        raise NotFound(f"There is no job {job.id!r} any more.")
    log.info("job deleted", extra={"job_id": job.id})


def _wait_s(request: Request) -> float:
    try:
        return _WAIT.validate_python(request.query_params.get("wait", 0.0))
    except ValidationError as error:
        found = [{**each, "loc": ("query", "wait")} for each in error.errors()]
        raise RequestValidationError(found) from error


def _unix_ms(moment: datetime | None) -> int | None:
    return None if moment is None else round(moment.timestamp() * 1000)


async def _held(request: Request, job: Job, wait_s: float, services: Services) -> Standing:
    """The job after the wait that its client prefers, and what is before it, if that is known."""
    job = await hold(request, job, wait_s, services)
    try:
        return await standing_of(job, services)
    except Unavailable:
        return Standing(job, None, None)


def _answer(view: JobView, status: int, headers: dict[str, str]) -> Response:
    if not view.status.is_final:
        headers["Retry-After"] = _POLL_AFTER_S
    headers |= _timing(view.metrics)
    return Response(view.model_dump_json(), status, headers, media_type="application/json")


def _timing(metrics: MetricsView) -> dict[str, str]:
    """The header `Server-Timing` of a job, ms, for as much as is known."""
    spent = {"queue": metrics.queue_seconds, "run": metrics.run_seconds}
    timing = [f"{name};dur={1000 * s:.0f}" for name, s in spent.items() if s is not None]
    return {"Server-Timing": ", ".join(timing)} if timing else {}

"""Jobs: submit, look, list, cancel."""

import logging
import re
from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response

from service.api.auth import PrincipalDep
from service.api.bodies import SUBMISSION_BODY, SubmissionDep
from service.api.dependencies import JobDep, LinksDep, TenantDep
from service.api.entity_tags import entity_tag, is_held
from service.api.intake import hold, take, terms_of
from service.api.problems import declared
from service.api.schemas import JobList
from service.api.services import Services, ServicesDep
from service.errors import FieldError, InvalidRequest, NotFound, Unavailable
from service.jobs import Job, JobStatus
from service.views.job import JobView, job_view
from service.views.links import Links, job_path

log = logging.getLogger(__name__)
router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

_POLL_AFTER_S = "1"
_PREFER_WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,6})\b", re.IGNORECASE | re.ASCII)

PreferHeader = Annotated[str | None, Header(description="`wait=N`: answer when done, or in N s")]
CursorQuery = Annotated[str | None, Query(max_length=200, description="`next_cursor` of a page")]
_ACCEPTED = {
    "description": "accepted; poll `Location`",
    "headers": {
        "Location": {"schema": {"type": "string"}, "description": "path of the job"},
        "Retry-After": {"schema": {"type": "integer"}, "description": "seconds"},
    },
}


@router.post(
    "",
    status_code=202,
    response_model=JobView,
    openapi_extra={"requestBody": SUBMISSION_BODY},
    responses={
        200: {"model": JobView, "description": "finished within `Prefer: wait=N`"},
        202: _ACCEPTED,
        **declared(400, 413, 415, 422, 429),
    },
)
async def submit(
    request: Request,
    submission: SubmissionDep,
    services: ServicesDep,
    principal: PrincipalDep,
    links: LinksDep,
    prefer: PreferHeader = None,
) -> Response:
    """Accepts a job."""
    terms = terms_of(request, submission.members, submission.files)
    accepted = await take(request, submission, terms, services, principal)
    job = accepted.job
    headers = {"Location": job_path(job.id), "Vary": "Prefer"}
    if accepted.replayed:
        headers["Idempotency-Replayed"] = "true"
    wait = _PREFER_WAIT.search(prefer or "")
    if wait:
        headers["Preference-Applied"] = f"wait={wait[1]}"
    if wait:
        job = await hold(request, job, _bounded(float(wait[1]), services), services)
    view = await _view_of_accepted(job, services, links)
    if not view.status.is_final:
        headers["Retry-After"] = _POLL_AFTER_S
    return _json(view, 200 if view.status.is_final else 202, headers)


@router.get("", responses=declared(422))
async def list_jobs(
    services: ServicesDep,
    tenant: TenantDep,
    links: LinksDep,
    cursor: CursorQuery = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    status: JobStatus | None = None,
) -> JobList:
    """Jobs, newest first."""
    try:
        jobs, next_cursor = await services.queue.list(
            tenant, cursor=cursor, limit=limit, status=status
        )
    except InvalidRequest as error:
        raise InvalidRequest.of([FieldError("/query/cursor", error.detail)]) from error
    return JobList(
        data=await _views(jobs, services, links),
        has_more=next_cursor is not None,
        next_cursor=next_cursor,
    )


@router.get(
    "/{job_id}",
    response_model=JobView,
    responses={304: {"description": "as the `If-None-Match` has it"}, **declared(404, 422)},
)
async def get_job(
    request: Request,
    job: JobDep,
    services: ServicesDep,
    links: LinksDep,
    wait: Annotated[
        float, Query(ge=0, allow_inf_nan=False, description="s; answers early when the job ends")
    ] = 0.0,
) -> Response:
    """A job, at once or when it is final."""
    if wait > 0 and not job.status.is_final:
        job = await services.queue.wait(job.id, _bounded(wait, services))
    body = await _view(job, services, links)
    tag = entity_tag(body.model_dump_json())
    headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
    if not job.status.is_final:
        headers["Retry-After"] = _POLL_AFTER_S
    if is_held(request, tag):
        return Response(status_code=304, headers=headers)
    return _json(body, 200, headers)


@router.post("/{job_id}/cancel", responses=declared(404, 422))
async def cancel_job(job: JobDep, services: ServicesDep, links: LinksDep) -> JobView:
    """Stops a job; one that is already final stays as it is."""
    canceled = await services.queue.cancel(job.id, "canceled by the client")
    if canceled is None:
        raise NotFound(f"There is no job {job.id!r} any more.")
    log.info("job cancel asked", extra={"job_id": job.id})
    return await _view(canceled, services, links)


def _bounded(wait_s: float, services: Services) -> float:
    return min(wait_s, services.settings.api.max_wait_s)


async def _view_of_accepted(job: Job, services: Services, links: Links) -> JobView:
    """The job with its place in the queue, or without it if Redis goes: it is accepted."""
    try:
        return await _view(job, services, links)
    except Unavailable:
        return job_view(job, links)


async def _view(job: Job, services: Services, links: Links) -> JobView:
    return (await _views([job], services, links))[0]


async def _views(jobs: Sequence[Job], services: Services, links: Links) -> list[JobView]:
    """The jobs with what only this moment knows: places in the queue, and who could serve them."""
    if all(job.status is not JobStatus.QUEUED for job in jobs):
        return [job_view(job, links) for job in jobs]
    served = {model for worker in await services.queue.workers() for model in worker.models}
    views = []
    for job in jobs:
        if job.status is not JobStatus.QUEUED:
            views.append(job_view(job, links))
            continue
        model = job.params.model
        warnings = () if model in served else (f"no live worker serves the model {model!r}",)
        position = await services.queue.queue_position(job.id)
        views.append(job_view(job, links, queue_position=position, warnings=warnings))
    return views


def _json(body: JobView, status: int, headers: dict[str, str]) -> Response:
    return Response(body.model_dump_json(), status, headers, media_type="application/json")

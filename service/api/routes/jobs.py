"""Jobs: submit, look, list, cancel."""

import asyncio
import functools
import logging
import re
import secrets
from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response

from service.api.acceptance import accept
from service.api.bodies import SUBMISSION_BODY, Submission, SubmissionDep
from service.api.dependencies import JobDep, Services, ServicesDep, TenantDep
from service.api.entity_tags import entity_tag, is_held
from service.api.pictures import NO_INPUTS, Inputs, find_inputs
from service.api.problems import declared
from service.api.schemas import JobList, JobView, job_path, job_view
from service.errors import FieldError, InvalidRequest, NotFound, Unavailable
from service.jobs import Job, JobStatus, new_job_id
from service.store.inputs import fetch_input, keep_input
from service.telemetry.logging import bound

log = logging.getLogger(__name__)
router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

_POLL_AFTER_S = "1"
_DRAWN_SEEDS = 1 << 32  # short to type again, and exact in every JSON reader
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
    submission: SubmissionDep,
    services: ServicesDep,
    tenant: TenantDep,
    prefer: PreferHeader = None,
) -> Response:
    """Accepts a job."""
    if submission.has_pictures:
        async with services.unpacking:
            job = await asyncio.to_thread(_accept_with_pictures, submission, services, tenant)
    else:
        job = _accept(submission, services, tenant)
    with bound(job_id=job.id):
        job = await services.queue.submit(job)
        log.info("job accepted", extra={"model": job.params.model, "images": job.params.n})
        log.debug("caption", extra={"prompt": job.params.prompt})
    headers = {"Location": job_path(job.id), "Vary": "Prefer"}
    wait = _PREFER_WAIT.search(prefer or "")
    if wait:
        headers["Preference-Applied"] = f"wait={wait[1]}"
    view = await _view_of_accepted(job, float(wait[1]) if wait else 0.0, services)
    if not view.status.is_final:
        headers["Retry-After"] = _POLL_AFTER_S
    return _json(view, 200 if view.status.is_final else 202, headers)


def _accept(
    submission: Submission, services: Services, tenant: str, inputs: Inputs = NO_INPUTS
) -> Job:
    return accept(
        submission.body,
        catalog=services.catalog,
        tokenizers=services.tokenizers,
        job_id=new_job_id(),
        tenant=tenant,
        seed=secrets.randbelow(_DRAWN_SEEDS),
        inputs=inputs,
        ranking=services.settings.models.clip is not None,
    )


def _accept_with_pictures(submission: Submission, services: Services, tenant: str) -> Job:
    """Accepts a job and keeps its pictures, for its worker to find."""
    inputs = find_inputs(
        submission.body,
        submission.files,
        fetch=functools.partial(fetch_input, services.store),
        max_bytes=services.settings.api.max_picture_bytes,
    )
    job = _accept(submission, services, tenant, inputs)
    for data in (inputs.image, inputs.mask):
        if data is not None:
            keep_input(services.store, data)
    return job


@router.get("", responses=declared(422))
async def list_jobs(
    services: ServicesDep,
    tenant: TenantDep,
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
        data=await _views(jobs, services),
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
    wait: Annotated[
        float, Query(ge=0, allow_inf_nan=False, description="s; answers early when the job ends")
    ] = 0.0,
) -> Response:
    """A job, at once or when it is final."""
    if wait > 0 and not job.status.is_final:
        job = await services.queue.wait(job.id, _bounded(wait, services))
    body = await _view(job, services)
    tag = entity_tag(body.model_dump_json())
    headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
    if not job.status.is_final:
        headers["Retry-After"] = _POLL_AFTER_S
    if is_held(request, tag):
        return Response(status_code=304, headers=headers)
    return _json(body, 200, headers)


@router.post("/{job_id}/cancel", responses=declared(404, 422))
async def cancel_job(job: JobDep, services: ServicesDep) -> JobView:
    """Stops a job; one that is already final stays as it is."""
    canceled = await services.queue.cancel(job.id, "canceled by the client")
    if canceled is None:
        raise NotFound(f"There is no job {job.id!r} any more.")
    log.info("job cancel asked", extra={"job_id": job.id})
    return await _view(canceled, services)


def _bounded(wait_s: float, services: Services) -> float:
    return min(wait_s, services.settings.api.max_wait_s)


async def _view_of_accepted(job: Job, wait_s: float, services: Services) -> JobView:
    """The job after the wait; as it was accepted if Redis goes meanwhile, for it is accepted."""
    try:
        if wait_s > 0:
            job = await services.queue.wait(job.id, _bounded(wait_s, services))
        return await _view(job, services)
    except Unavailable:
        return job_view(job)


async def _view(job: Job, services: Services) -> JobView:
    return (await _views([job], services))[0]


async def _views(jobs: Sequence[Job], services: Services) -> list[JobView]:
    """The jobs with what only this moment knows: places in the queue, and who could serve them."""
    if all(job.status is not JobStatus.QUEUED for job in jobs):
        return [job_view(job) for job in jobs]
    served = {model for worker in await services.queue.workers() for model in worker.models}
    views = []
    for job in jobs:
        if job.status is not JobStatus.QUEUED:
            views.append(job_view(job))
            continue
        model = job.params.model
        warnings = () if model in served else (f"no live worker serves the model {model!r}",)
        position = await services.queue.queue_position(job.id)
        views.append(job_view(job, queue_position=position, warnings=warnings))
    return views


def _json(body: JobView, status: int, headers: dict[str, str]) -> Response:
    return Response(body.model_dump_json(), status, headers, media_type="application/json")

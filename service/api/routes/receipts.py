"""Receipts: what a picture says of its making, and whether the same request makes it again."""

import asyncio
from collections.abc import Callable
from typing import Annotated, TypeVar

from fastapi import APIRouter, Header, Query, Request, Response

from model.errors import ConditioningError
from service.api.auth import Principal, PrincipalDep
from service.api.bodies import Submission
from service.api.dependencies import LinksDep
from service.api.idempotency import KEY_PATTERN
from service.api.intake import hold, take, terms_of
from service.api.preferences import preferences
from service.api.problems import declared
from service.api.receipts import (
    index_again,
    is_of,
    receipt_of,
    request_again,
    unfinished,
    verdict,
)
from service.api.routes.uploads import PICTURE_BODY, read_upload
from service.api.schemas import JobCreate
from service.api.services import Services, ServicesDep
from service.errors import FieldError, InvalidRequest, NotFound
from service.imagefile.reading import ImageFile, read_file
from service.jobs import Job, JobStatus, is_job_id
from service.views.links import Links
from service.views.receipt import ReceiptView, RerunView

router = APIRouter(prefix="/v1/receipts", tags=["receipts"])

T = TypeVar("T")

_RERUN = {"model": ReceiptView, "description": "the re-run is not finished: ask with `rerun_job`"}


@router.post(
    "",
    response_model=ReceiptView,
    responses={202: _RERUN, **declared(404, 413, 422, 429)},
    openapi_extra={"requestBody": PICTURE_BODY},
)
async def read_receipt(
    request: Request,
    response: Response,
    services: ServicesDep,
    principal: PrincipalDep,
    links: LinksDep,
    rerun: Annotated[bool, Query(description="make the same request again, and compare")] = False,
    rerun_job: Annotated[
        str | None, Query(max_length=64, description="compare with this re-run of the picture")
    ] = None,
    _prefer: Annotated[
        str | None, Header(alias="prefer", description="`wait=N`: hold for the re-run, N s")
    ] = None,
    _idempotency_key: Annotated[
        str | None, Header(alias="idempotency-key", pattern=KEY_PATTERN)
    ] = None,
) -> ReceiptView:
    """What the picture says of its making, and with a re-run whether that is so."""
    if rerun and rerun_job is not None:
        raise _refusal("/query/rerun_job", "leave it out, or leave out rerun")
    data, pointer = await read_upload(request, services)
    file = await _unpacked(services, pointer, lambda: read_file(data))
    receipt = await asyncio.to_thread(receipt_of, file, services.catalog)
    if not rerun and rerun_job is None:
        return receipt
    body = await asyncio.to_thread(request_again, file, services.catalog)
    if rerun_job is None:
        job = await _start(request, body, data, services, principal)
    else:
        job = await _find(rerun_job, body, services, principal)
    wish = preferences(request)
    wait_s = wish.wait_s(services.settings.api.max_wait_s)
    if wait_s and not job.status.is_final:
        job = await hold(request, job, wait_s, services)
    receipt.rerun = await _verdict(file, job, services, links)
    response.headers["Vary"] = "Prefer"
    response.headers.update(wish.applied(finished=job.status.is_final))
    response.status_code = 200 if job.status.is_final else 202
    return receipt


async def _start(
    request: Request, body: JobCreate, data: bytes, services: Services, principal: Principal
) -> Job:
    """Makes the request again.

    Raises:
        InvalidRequest: it can't be made any more.
        KeyReused, RateLimited, QueueFull, Unavailable: as `take`.
    """
    members = body.model_dump(mode="json", exclude_none=True)
    terms = terms_of(request, members, {"image": data})
    try:
        accepted = await take(
            request, Submission(body, members=members), terms, services, principal
        )
    except InvalidRequest as error:
        errors = [FieldError(f"/parameters{each.pointer}", each.detail) for each in error.errors]
        sentence = f"The picture can't be drawn again: {error.detail}"
        raise InvalidRequest(sentence, errors=errors) from error
    return accepted.job


async def _find(job_id: str, body: JobCreate, services: Services, principal: Principal) -> Job:
    """The re-run that a client names.

    Raises:
        NotFound: there is no such job, or none of this tenant's.
        InvalidRequest: it made something else.
    """
    job = await services.queue.get(job_id) if is_job_id(job_id) else None
    if job is None or job.tenant != principal.tenant:
        raise NotFound(f"There is no job {job_id!r}; finished jobs are forgotten in time.")
    if not is_of(job, body):
        raise _refusal("/query/rerun_job", "is a job of another request than the picture's")
    return job


async def _verdict(file: ImageFile, job: Job, services: Services, links: Links) -> RerunView:
    link = links.job(job.id)
    if job.status is not JobStatus.SUCCEEDED:
        return unfinished(job.id, job.status, link, _why(job))
    assert file.record is not None
    wanted = index_again(file.record)
    record = next((image for image in job.images if image.index == wanted), None)
    if record is None:
        note = f"The re-run has no image {wanted}, so there is nothing to compare with."
        return unfinished(job.id, job.status, link, note)
    data = await asyncio.to_thread(services.store.get, record.key)
    again = await _unpacked(services, "", lambda: read_file(data))
    return await asyncio.to_thread(verdict, file, again, job_id=job.id, link=link)


def _why(job: Job) -> str:
    if not job.status.is_final:
        return "The re-run is not finished: send the picture again with its rerun_job."
    reason = job.cancel_reason if job.failure is None else job.failure.detail
    return f"The re-run is {job.status}, so there is nothing to compare with: {reason}"


async def _unpacked(services: Services, pointer: str, read: Callable[[], T]) -> T:
    async with services.unpacking:
        try:
            return await asyncio.to_thread(read)
        except ConditioningError as error:
            raise _refusal(pointer, str(error).rstrip(".")) from error


def _refusal(pointer: str, detail: str) -> InvalidRequest:
    return InvalidRequest.of([FieldError(pointer, detail)])

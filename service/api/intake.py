"""From an accepted request to a queued job, and the wait for its end: the one way in.

The native routes and every adapter submit through here, so that keys, limits, pictures and
idempotency work the same whatever words a client speaks.
"""

import asyncio
import logging
import random
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from starlette.requests import Request

from service.api import deadlines
from service.api.acceptance import accept, deliverable
from service.api.auth import Principal
from service.api.bodies import Submission
from service.api.dependencies import base_url_of
from service.api.forecast import Deadline
from service.api.idempotency import idempotency_key, request_digest
from service.api.model_names import real_name
from service.api.pictures import NO_INPUTS, Inputs, find_inputs, uploads_named
from service.api.schemas import JobCreate
from service.api.services import Services
from service.api.stopping import stop
from service.errors import Unavailable
from service.jobs import Api, Job, WebhookTarget, new_job_id
from service.queue.quota import Quota
from service.queue.submission import Accepted, TooMuchWorkBefore
from service.store.inputs import fetch_input, keep_input, no_upload
from service.telemetry.logging import bound

log = logging.getLogger(__name__)

_SEED_BITS = 32  # short to type again, and exact in every JSON reader
_LOOK_S = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a front door adds to the body of a request.

    Attributes:
        api: which door.
        idempotency_key: the client's own name for this request.
        body_hash: of the request as it came; None: the job's own parameters stand for it.
        timeout_s: a deadline from a header, where the body has none.
        webhook: whom to tell, where the body doesn't say.
        echo: see `Job.echo`.
    """

    api: Api = "native"
    idempotency_key: str | None = None
    body_hash: str | None = None
    timeout_s: float | None = None
    webhook: WebhookTarget | None = None
    echo: Mapping[str, Any] | None = None


def terms_of(
    request: Request, members: Mapping[str, Any], files: Mapping[str, bytes] | None = None
) -> Terms:
    """The terms in a request's headers: `Idempotency-Key` and `Cancel-After`.

    An adapter adds its own with `dataclasses.replace`.

    Args:
        request: whose headers.
        members: its JSON, or the fields of its form, as they came.
        files: that came beside them, by field.

    Raises:
        InvalidRequest: a header can't be understood.
    """
    key = idempotency_key(request)
    body_hash = None if key is None else request_digest(request, members, files)
    return Terms(
        idempotency_key=key, body_hash=body_hash, timeout_s=deadlines.cancel_after_s(request)
    )


async def take(
    request: Request,
    submission: Submission,
    terms: Terms,
    services: Services,
    principal: Principal,
) -> Accepted:
    """Accepts a request and queues its job.

    Raises:
        InvalidRequest: the pipeline can't serve it.
        KeyReused: its idempotency key stands for another request.
        DeadlineTooShort: its deadline can't be met.
        PromptRejected: policy refuses a caption.
        RateLimited, QueueFull, Unmeetable, Unavailable: not now.
    """
    if principal.key_id is not None and principal.rate is not None:
        await services.limits.charge(request, principal.key_id, principal.rate)
    services.policy.check(submission.body.prompt, submission.body.negative_prompt)
    if submission.has_pictures:
        job = await _accept_with_pictures(submission, services, principal)
    else:
        job = _accept(submission, services, principal)
    job = replace(
        job,
        api=terms.api,
        base_url=base_url_of(request),
        echo=terms.echo,
        timeout_s=terms.timeout_s if job.timeout_s is None else job.timeout_s,
        webhook=_webhook(job, terms, services),
    )
    with bound(job_id=job.id):
        accepted = await _enqueue(job, terms, services, principal)
        request.state.accepted = True
        request.state.logged = {
            "job_id": accepted.job.id,
            "model": job.params.model,
            "images": job.params.n,
            "api": terms.api,
            "replayed": accepted.replayed,
        }
        log.debug("caption", extra={"prompt": job.params.prompt})
    return accepted


async def hold(
    request: Request, job: Job, wait_s: float, services: Services, *, cancel_if_gone: bool = False
) -> Job:
    """The job when it is final, at the latest after `wait_s`, or when its client has gone.

    It is accepted, so Redis going away meanwhile is no error: the job comes back as it was known.

    Args:
        request: whose client waits.
        job: what for.
        wait_s: how long.
        services: of the process.
        cancel_if_gone: nobody else knows of the job, so it is stopped if its client goes.
    """
    waiting = asyncio.create_task(services.queue.wait(job.id, wait_s))
    try:
        while not waiting.done():
            await asyncio.wait({waiting}, timeout=_LOOK_S)
            if not waiting.done() and await request.is_disconnected():
                if cancel_if_gone:
                    await services.queue.cancel(job.id, "the client has gone")
                return job
        return waiting.result()
    except Unavailable:
        return job
    finally:
        await stop(waiting)


async def _deadline(job: Job, terms: Terms, services: Services) -> Deadline | None:
    """A new job's deadline, if it has one and the pace is known that it must be met with."""
    if job.timeout_s is None:
        return None
    pace = (await services.paces.now()).get(job.params.model)
    if pace is None:
        return None
    if job.timeout_s == terms.timeout_s:
        return Deadline(job.timeout_s, job.work, pace, deadlines.POINTER)
    return Deadline(job.timeout_s, job.work, pace)


async def _enqueue(job: Job, terms: Terms, services: Services, principal: Principal) -> Accepted:
    """Queues a job, unless it has a deadline that is known to be too early."""
    deadline = await _deadline(job, terms, services)
    try:
        return await services.queue.enqueue(
            job,
            idempotency_key=terms.idempotency_key,
            body_hash=terms.body_hash,
            quota=_quota(principal),
            most_work_before=None if deadline is None else deadline.most_work_before,
        )
    except TooMuchWorkBefore as error:
        assert deadline is not None
        raise deadline.refusal(error.work, now_s=time.time()) from error


def _quota(principal: Principal) -> Quota | None:
    if principal.key_id is None or principal.quota is None:
        return None
    return Quota(principal.key_id, principal.quota.count, principal.quota.window_s)


def _webhook(job: Job, terms: Terms, services: Services) -> WebhookTarget | None:
    target, pointer = (job.webhook, "/webhook/url") if job.webhook else (terms.webhook, "/webhook")
    allow_private = services.settings.webhooks.allow_private
    return target and deliverable(target, pointer, allow_private=allow_private)


def _accept(
    submission: Submission, services: Services, principal: Principal, inputs: Inputs = NO_INPUTS
) -> Job:
    return accept(
        _under_its_own_name(submission.body, services),
        catalog=services.catalog,
        tokenizers=services.tokenizers,
        job_id=new_job_id(),
        tenant=principal.tenant,
        seed=random.getrandbits(_SEED_BITS),
        inputs=inputs,
        ranking=services.settings.models.clip is not None,
    )


def _under_its_own_name(body: JobCreate, services: Services) -> JobCreate:
    """The request with its model's own name in place of an alias."""
    if body.model is None:
        return body
    return body.model_copy(update={"model": real_name(body.model, services)})


async def _accept_with_pictures(
    submission: Submission, services: Services, principal: Principal
) -> Job:
    """Accepts a job and keeps its pictures, for its worker to find."""
    own = await services.uploads.of(principal.tenant, uploads_named(submission.body))
    async with services.unpacking:
        job, kept = await asyncio.to_thread(_unpack, submission, services, principal, own)
    await services.uploads.add(principal.tenant, kept)
    return job


def _unpack(
    submission: Submission, services: Services, principal: Principal, own: Collection[str]
) -> tuple[Job, list[str]]:
    """The job and the digests of its pictures; of uploads it sees the tenant's `own` alone."""

    def fetch(digest: str) -> bytes:
        if digest not in own:
            raise no_upload(digest)
        return fetch_input(services.store, digest)

    inputs = find_inputs(
        submission.body,
        submission.files,
        fetch=fetch,
        max_bytes=services.settings.api.max_picture_bytes,
    )
    job = _accept(submission, services, principal, inputs)
    pictures = [data for data in (inputs.image, inputs.mask) if data is not None]
    return job, [keep_input(services.store, data) for data in pictures]

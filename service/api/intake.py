"""From an accepted request to a queued job, and the wait for its end: the one way in.

The native routes and every adapter submit through here, so that keys, limits, pictures and
idempotency work the same whatever words a client speaks.
"""

import asyncio
import contextlib
import functools
import logging
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from starlette.requests import Request

from service.api.acceptance import accept
from service.api.auth import Principal
from service.api.bodies import Submission
from service.api.deadlines import cancel_after_s
from service.api.dependencies import base_url_of
from service.api.idempotency import idempotency_key, request_digest
from service.api.pictures import NO_INPUTS, Inputs, find_inputs
from service.api.services import Services
from service.errors import Unavailable
from service.jobs import Api, Job, WebhookTarget, new_job_id
from service.queue.redis import Accepted
from service.store.inputs import fetch_input, keep_input
from service.telemetry.logging import bound

log = logging.getLogger(__name__)

_DRAWN_SEEDS = 1 << 32  # short to type again, and exact in every JSON reader
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
    return Terms(idempotency_key=key, body_hash=body_hash, timeout_s=cancel_after_s(request))


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
        PromptRejected: policy refuses a caption.
        RateLimited, QueueFull, Unavailable: not now.
    """
    services.policy.check(submission.body.prompt, submission.body.negative_prompt)
    if submission.has_pictures:
        async with services.unpacking:
            job = await asyncio.to_thread(_accept_with_pictures, submission, services, principal)
    else:
        job = _accept(submission, services, principal)
    job = replace(
        job,
        api=terms.api,
        base_url=base_url_of(request),
        echo=terms.echo,
        timeout_s=terms.timeout_s if job.timeout_s is None else job.timeout_s,
        webhook=job.webhook or terms.webhook,
    )
    with bound(job_id=job.id):
        accepted = await services.queue.enqueue(
            job, idempotency_key=terms.idempotency_key, body_hash=terms.body_hash
        )
        request.state.accepted = True
        fields = {"model": job.params.model, "images": job.params.n, "api": terms.api}
        log.info("job accepted", extra={**fields, "replayed": accepted.replayed})
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
        waiting.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await waiting


def _accept(
    submission: Submission, services: Services, principal: Principal, inputs: Inputs = NO_INPUTS
) -> Job:
    return accept(
        submission.body,
        catalog=services.catalog,
        tokenizers=services.tokenizers,
        job_id=new_job_id(),
        tenant=principal.tenant,
        seed=secrets.randbelow(_DRAWN_SEEDS),
        inputs=inputs,
        ranking=services.settings.models.clip is not None,
    )


def _accept_with_pictures(submission: Submission, services: Services, principal: Principal) -> Job:
    """Accepts a job and keeps its pictures, for its worker to find."""
    inputs = find_inputs(
        submission.body,
        submission.files,
        fetch=functools.partial(fetch_input, services.store),
        max_bytes=services.settings.api.max_picture_bytes,
    )
    job = _accept(submission, services, principal, inputs)
    for data in (inputs.image, inputs.mask):
        if data is not None:
            keep_input(services.store, data)
    return job

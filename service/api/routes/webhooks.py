"""Webhooks: what was delivered of a job, again on request, and the secret that verifies it."""

import logging
from datetime import UTC, datetime

from fastapi import APIRouter, Response

from service.api.dependencies import TenantDep
from service.api.problems import declared
from service.api.services import Services, ServicesDep
from service.errors import NotFound
from service.jobs import is_job_id
from service.queue.deliveries import Attempt, Delivery, is_delivery_id
from service.queue.outbox import WebhookSecrets
from service.views.delivery import AttemptView, DeliveryList, DeliveryView, WebhookSecretView

log = logging.getLogger(__name__)
router = APIRouter(prefix="/v1", tags=["webhooks"])

_UNSTORED = {"Cache-Control": "no-store"}


@router.get("/jobs/{job_id}/webhooks", responses=declared(404, 422))
async def list_deliveries(job_id: str, services: ServicesDep, tenant: TenantDep) -> DeliveryList:
    """What the job's webhook was told, and what came of it; known for longer than the job."""
    return DeliveryList(data=[_view(each) for each in await _deliveries(job_id, services, tenant)])


@router.post(
    "/jobs/{job_id}/webhooks/{delivery_id}/redeliver",
    status_code=202,
    responses=declared(404, 422),
)
async def redeliver(
    job_id: str, delivery_id: str, services: ServicesDep, tenant: TenantDep
) -> DeliveryView:
    """Sends a delivery again, at once, with the same id; a URL that was disabled is no longer."""
    if is_job_id(job_id) and is_delivery_id(delivery_id):
        await services.queue.outbox.redeliver(job_id, tenant, delivery_id)
    for delivery in await _deliveries(job_id, services, tenant):
        if delivery.id == delivery_id:
            log.info("webhook asked again", extra={"job_id": job_id, "delivery": delivery_id})
            return _view(delivery)
    raise NotFound(f"There is no delivery {delivery_id!r} of job {job_id!r}.")


@router.get("/webhooks/secret", responses=declared())
async def webhook_secret(
    response: Response, services: ServicesDep, tenant: TenantDep
) -> WebhookSecretView:
    """The secret that verifies deliveries to your servers."""
    response.headers.update(_UNSTORED)
    return _secret_view(await services.queue.outbox.secrets(tenant))


@router.post("/webhooks/secret/rotate", responses=declared())
async def rotate_webhook_secret(
    response: Response, services: ServicesDep, tenant: TenantDep
) -> WebhookSecretView:
    """Makes a new secret; for a day deliveries carry a signature by each of the two."""
    secrets = await services.queue.outbox.rotate_secret(tenant)
    response.headers.update(_UNSTORED)
    log.info("webhook secret rotated", extra={"tenant": tenant})
    return _secret_view(secrets)


async def _deliveries(job_id: str, services: Services, tenant: str) -> tuple[Delivery, ...]:
    """The deliveries of a job; none for a job without a webhook.

    Raises:
        NotFound: there is no such job of this tenant, and no delivery of one.
    """
    found = await services.queue.outbox.log(job_id, tenant) if is_job_id(job_id) else ()
    if not found:
        job = await services.queue.get(job_id) if is_job_id(job_id) else None
        if job is None or job.tenant != tenant:
            raise NotFound(f"There is no job {job_id!r}; finished jobs are forgotten in time.")
    return found


def _view(delivery: Delivery) -> DeliveryView:
    due_ms = delivery.next_attempt_at_ms
    return DeliveryView(
        id=delivery.id,
        event=delivery.event,
        url=delivery.url,
        state=delivery.state,
        created_at=_time(delivery.created_at_ms),
        attempts=[_attempt_view(attempt) for attempt in delivery.attempts],
        next_attempt_at=None if due_ms is None else _time(due_ms),
    )


def _attempt_view(attempt: Attempt) -> AttemptView:
    return AttemptView(
        at=_time(attempt.at_ms),
        duration_seconds=attempt.duration_ms / 1000,
        status=attempt.status,
        error=attempt.error,
        response=attempt.response,
    )


def _secret_view(secrets: WebhookSecrets) -> WebhookSecretView:
    ends_ms = secrets.previous_ends_at_ms
    return WebhookSecretView(
        secret=secrets.newest, previous_signs_until=None if ends_ms is None else _time(ends_ms)
    )


def _time(time_ms: int) -> datetime:
    return datetime.fromtimestamp(time_ms / 1000, UTC)

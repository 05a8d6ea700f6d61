"""Every request that the client makes, and how its answer is read. Pure: nothing here is sent.

Both clients, the blocking and the asynchronous one, send these calls and nothing else.
"""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, TypeVar
from urllib.parse import quote

import httpx

from service.client.answers import api_error, view_of
from service.jobs import JobStatus
from service.views.delivery import DeliveryList, DeliveryView, WebhookSecretView
from service.views.job import JobList, JobView
from service.views.model import ModelList, ModelView
from service.views.receipt import ReceiptView
from service.views.sampler import SamplerList, SamplerView
from service.views.upload import UploadView

T = TypeVar("T")

LONG_POLL_S = 30.0

_BYTES = {"Content-Type": "application/octet-stream"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[T]):
    """One request.

    Attributes:
        method: of HTTP.
        path: below the server's address.
        read: makes the result of a good answer.
        query: of the address.
        headers: beside those of every request.
        body: its JSON.
        content: its bytes, where it isn't JSON.
        wait_s: how long the server is asked to hold the answer.
        repeatable: asking twice does no harm, even if the first answer was lost.
        gone_is_done: it removes something: a repetition that finds nothing has succeeded.
    """

    method: str
    path: str
    read: Callable[[httpx.Response], T]
    query: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    content: bytes | None = None
    wait_s: float = 0.0
    repeatable: bool = True
    gone_is_done: bool = False

    def options(self, timeout_s: float) -> dict[str, Any]:
        """What httpx is told beside method and path.

        Args:
            timeout_s: for an answer, beyond `wait_s`.
        """
        given = {name: value for name, value in self.query.items() if value is not None}
        return {
            "params": given,
            "headers": dict(self.headers),
            "json": self.body,
            "content": self.content,
            "timeout": self.wait_s + timeout_s,
        }

    def outcome(self, response: httpx.Response, attempt: int) -> T:
        """The result.

        Args:
            response: to this call.
            attempt: counts from 1.

        Raises:
            ApiError: the server refused.
            UnreadableAnswer: it said what this release doesn't understand.
        """
        already_gone = self.gone_is_done and attempt > 1 and response.status_code == 404
        if not (response.is_success or already_gone):
            raise api_error(response)
        return self.read(response)


def new_idempotency_key() -> str:
    """A name for a request, by which the server knows its repetitions."""
    return uuid.uuid4().hex


def submit(fields: Mapping[str, Any], *, wait_s: float, idempotency_key: str) -> Call[JobView]:
    """`POST /v1/jobs`."""
    headers = {"Idempotency-Key": idempotency_key, **_prefer(wait_s)}
    return Call(
        method="POST",
        path="/v1/jobs",
        read=view_of(JobView),
        headers=headers,
        body=dict(fields),
        wait_s=wait_s,
    )


def upload(picture: bytes) -> Call[UploadView]:
    """`POST /v1/images`; the same bytes are the same upload."""
    return Call(
        method="POST",
        path="/v1/images",
        read=view_of(UploadView),
        headers=_BYTES,
        content=picture,
    )


def get(job_id: str, *, wait_s: float = 0.0) -> Call[JobView]:
    """`GET /v1/jobs/{job_id}`."""
    return Call(
        method="GET",
        path=path_of(job_id),
        read=view_of(JobView),
        query={"wait": wait_s or None},
        wait_s=wait_s,
    )


def list_jobs(
    *,
    cursor: str | None,
    limit: int,
    status: JobStatus | str | None,
    model: str | None,
    created_after: datetime | None,
    created_before: datetime | None,
) -> Call[JobList]:
    """`GET /v1/jobs`, one page."""
    query = {
        "cursor": cursor,
        "limit": limit,
        "status": status,
        "model": model,
        "created_after": created_after and created_after.isoformat(),
        "created_before": created_before and created_before.isoformat(),
    }
    return Call(method="GET", path="/v1/jobs", read=view_of(JobList), query=query)


def cancel(job_id: str) -> Call[JobView]:
    """`POST /v1/jobs/{job_id}/cancel`."""
    return Call(method="POST", path=f"{path_of(job_id)}/cancel", read=view_of(JobView))


def delete(job_id: str) -> Call[None]:
    """`DELETE /v1/jobs/{job_id}`."""
    return Call(method="DELETE", path=path_of(job_id), read=_nothing, gone_is_done=True)


def image(job_id: str, index: int) -> Call[bytes]:
    """`GET /v1/jobs/{job_id}/images/{index}`."""
    return Call(method="GET", path=f"{path_of(job_id)}/images/{index}", read=_contents)


def models() -> Call[list[ModelView]]:
    """`GET /v1/models`."""
    read = view_of(ModelList)
    return Call(method="GET", path="/v1/models", read=lambda response: read(response).data)


def model(name: str) -> Call[ModelView]:
    """`GET /v1/models/{model_id}`."""
    return Call(method="GET", path=f"/v1/models/{_segment(name)}", read=view_of(ModelView))


def samplers() -> Call[list[SamplerView]]:
    """`GET /v1/samplers`."""
    read = view_of(SamplerList)
    return Call(method="GET", path="/v1/samplers", read=lambda response: read(response).data)


def receipt(picture: bytes) -> Call[ReceiptView]:
    """`POST /v1/receipts`."""
    return Call(
        method="POST",
        path="/v1/receipts",
        read=view_of(ReceiptView),
        headers=_BYTES,
        content=picture,
    )


def rerun(picture: bytes, *, idempotency_key: str, job_id: str | None = None) -> Call[ReceiptView]:
    """`POST /v1/receipts` with a re-run, held for its end; with `job_id` one that was begun."""
    started = job_id is not None
    return Call(
        method="POST",
        path="/v1/receipts",
        read=view_of(ReceiptView),
        query={"rerun_job": job_id} if started else {"rerun": "true"},
        headers={**_BYTES, **_prefer(LONG_POLL_S), "Idempotency-Key": idempotency_key},
        content=picture,
        wait_s=LONG_POLL_S,
    )


def deliveries(job_id: str) -> Call[list[DeliveryView]]:
    """`GET /v1/jobs/{job_id}/webhooks`."""
    read, path = view_of(DeliveryList), f"{path_of(job_id)}/webhooks"
    return Call(method="GET", path=path, read=lambda response: read(response).data)


def redeliver(job_id: str, delivery_id: str) -> Call[DeliveryView]:
    """`POST /v1/jobs/{job_id}/webhooks/{delivery_id}/redeliver`; each is one more."""
    path = f"{path_of(job_id)}/webhooks/{_segment(delivery_id)}/redeliver"
    return Call(method="POST", path=path, read=view_of(DeliveryView), repeatable=False)


def webhook_secret() -> Call[WebhookSecretView]:
    """`GET /v1/webhooks/secret`."""
    return Call(method="GET", path="/v1/webhooks/secret", read=view_of(WebhookSecretView))


def rotate_webhook_secret() -> Call[WebhookSecretView]:
    """`POST /v1/webhooks/secret/rotate`; each drops the secret before the last one."""
    path = "/v1/webhooks/secret/rotate"
    return Call(method="POST", path=path, read=view_of(WebhookSecretView), repeatable=False)


def _prefer(wait_s: float) -> dict[str, str]:
    return {"Prefer": f"wait={wait_s:.0f}"} if wait_s else {}


def path_of(job_id: str) -> str:
    """Where a job is found, whatever is in its id."""
    return f"/v1/jobs/{_segment(job_id)}"


def _segment(text: str) -> str:
    return quote(text, safe="")


def _contents(response: httpx.Response) -> bytes:
    return response.content


def _nothing(_: httpx.Response) -> None:
    return None

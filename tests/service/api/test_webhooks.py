"""Webhooks over HTTP: what is refused at once, the log, redelivery, and the secret."""

import asyncio
import base64
from typing import Any

import pytest

from service.queue.deliveries import Attempt
from service.queue.outbox import Load
from service.queue.redis import RedisJobQueue
from service.views.delivery import DeliveryState
from tests.service.live_api import LiveApi, Worker

HOOK = "https://hooks.example/x"
ALL = Load(free=9, lanes={}, tenants={}, per_lane=9, per_tenant=9)


def log_of(api: LiveApi, job_id: str) -> list[dict[str, Any]]:
    response = api.http.get(f"/v1/jobs/{job_id}/webhooks")
    assert response.status_code == 200, response.text
    found: list[dict[str, Any]] = response.json()["data"]
    return found


def ended(api: LiveApi, **webhook: object) -> str:
    job_id = api.submit(webhook={"url": HOOK, **webhook})
    assert api.http.post(f"/v1/jobs/{job_id}/cancel").status_code == 200
    return job_id


def attempt(api: LiveApi, status: int) -> None:
    """Plays a sender that makes one attempt at whatever is due."""

    async def once() -> None:
        redis = api.settings.redis
        queue = RedisJobQueue(redis.url or "", prefix=redis.prefix)
        for claim in (await queue.outbox.claim(ALL, 60.0)).claims:
            error = None if status < 300 else f"answered {status}"
            made = Attempt(at_ms=1_700_000_000_000, duration_ms=1500, status=status, error=error)
            state: DeliveryState = "pending" if error else "delivered"
            await queue.outbox.settle(claim, made, state, retry_s=300.0)
        await queue.aclose()

    asyncio.run(once())


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://hooks.example/x", "https"),
        ("ftp://hooks.example/x", "https"),
        ("hooks.example", "not a URL"),
        ("https://user:secret@hooks.example/", "password"),
        ("https://127.0.0.1/", "not a public address"),
        ("https://0x7f.1/", "not a public address"),
        ("https://[::1]:8000/", "not a public address"),
        ("https://localhost/", "local name"),
        ("https://169.254.169.254/latest/meta-data/", "metadata"),
        ("https://[::ffff:169.254.169.254]/", "metadata"),
        ("https://hooks.example/\u0000", "control"),
    ],
)
def test_a_url_that_is_never_called_is_refused_at_once(
    shared_api: LiveApi, url: str, said: str
) -> None:
    response = shared_api.http.post("/v1/jobs", json={"prompt": "a", "webhook": {"url": url}})
    assert response.status_code == 422
    (error,) = response.json()["errors"]
    assert error["pointer"] == "/webhook/url"
    assert said in error["detail"]
    assert "secret" not in response.json()["detail"]


def test_the_log_shows_every_attempt(api: LiveApi) -> None:
    job_id = ended(api)
    (delivery,) = log_of(api, job_id)
    assert delivery["id"].startswith("msg_")
    assert (delivery["event"], delivery["url"]) == ("job.canceled", HOOK)
    assert (delivery["state"], delivery["attempts"]) == ("pending", [])
    assert delivery["next_attempt_at"] is not None
    attempt(api, 500)
    (delivery,) = log_of(api, job_id)
    assert delivery["state"] == "pending"
    assert delivery["attempts"] == [
        {
            "at": "2023-11-14T22:13:20Z",
            "duration_seconds": 1.5,
            "status": 500,
            "error": "answered 500",
            "response": None,
        }
    ]


def test_a_job_without_a_webhook_has_an_empty_log(api: LiveApi) -> None:
    assert log_of(api, api.submit()) == []


def test_a_delivery_can_be_asked_for_again(api: LiveApi) -> None:
    job_id = ended(api)
    attempt(api, 204)
    (delivered,) = log_of(api, job_id)
    assert (delivered["state"], delivered["next_attempt_at"]) == ("delivered", None)
    response = api.http.post(f"/v1/jobs/{job_id}/webhooks/{delivered['id']}/redeliver")
    assert response.status_code == 202
    assert (response.json()["id"], response.json()["state"]) == (delivered["id"], "pending")
    attempt(api, 204)
    (again,) = log_of(api, job_id)
    assert [each["status"] for each in again["attempts"]] == [204, 204]


@pytest.mark.parametrize(
    "path",
    [
        "/v1/jobs/job_01m83t1gp9njq9884t5h7g211x/webhooks",
        "/v1/jobs/*/webhooks",
        "/v1/jobs/..%2f..%2fx/webhooks",
    ],
)
def test_the_log_of_no_job_is_not_found(shared_api: LiveApi, path: str) -> None:
    assert shared_api.http.get(path).status_code == 404


@pytest.mark.parametrize(
    "delivery", ["msg_01m83t1gp9njq9884t5h7g211x_1", "msg_x", "*", "..%2f..", "secret"]
)
def test_the_redelivery_of_nothing_is_not_found(shared_api: LiveApi, delivery: str) -> None:
    job_id = shared_api.submit()
    for job in (job_id, "job_01m83t1gp9njq9884t5h7g211x", "nothing"):
        path = f"/v1/jobs/{job}/webhooks/{delivery}/redeliver"
        assert shared_api.http.post(path).status_code == 404


def test_the_secret_stays_until_it_is_rotated(api: LiveApi) -> None:
    answer = api.http.get("/v1/webhooks/secret")
    assert answer.headers["cache-control"] == "no-store"
    first = answer.json()
    assert api.http.get("/v1/webhooks/secret").json() == first
    assert first["previous_signs_until"] is None
    assert len(base64.b64decode(first["secret"].removeprefix("whsec_"), validate=True)) == 32
    rotated = api.http.post("/v1/webhooks/secret/rotate")
    assert rotated.headers["cache-control"] == "no-store"
    second = rotated.json()
    assert second["secret"] != first["secret"]
    assert second["previous_signs_until"] is not None
    assert api.http.get("/v1/webhooks/secret").json() == second


def test_a_webhook_is_told_of_each_image_in_the_order_of_events(
    api: LiveApi, worker: Worker
) -> None:
    events = ["job.started", "job.image", "job.succeeded"]
    job_id = api.submit(webhook={"url": HOOK, "events": events})
    worker.finish(worker.take(), b"png")
    assert [delivery["event"] for delivery in log_of(api, job_id)] == events


def test_a_tenant_sees_only_its_own_deliveries_and_secret(api: LiveApi) -> None:
    keys = {tenant: {"authorization": f"Bearer {api.new_key(tenant)}"} for tenant in ("a", "b")}
    api.http.headers.update(keys["a"])
    job_id = ended(api)
    (delivery,) = log_of(api, job_id)
    log, again = f"/v1/jobs/{job_id}/webhooks", f"{delivery['id']}/redeliver"
    assert api.http.get(log, headers=keys["b"]).status_code == 404
    assert api.http.post(f"{log}/{again}", headers=keys["b"]).status_code == 404
    assert api.http.post(f"{log}/{again}").status_code == 202
    secrets = [api.http.get("/v1/webhooks/secret", headers=keys[name]).json() for name in "ab"]
    assert secrets[0]["secret"] != secrets[1]["secret"]

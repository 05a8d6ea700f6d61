import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from service.queue.embedded import EmbeddedRedis
from service.settings import RedisSettings
from tests.service.live_api import LiveApi, Worker, live_api


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis(tmp_path / "redis", maxmemory_mb=64) as server:
        yield server


@pytest.fixture
def api(redis: EmbeddedRedis, tmp_path: Path) -> Iterator[LiveApi]:
    with live_api(RedisSettings(url=redis.url), tmp_path) as api:
        yield api


def crash(redis: EmbeddedRedis) -> None:
    os.kill(redis.pid, signal.SIGKILL)
    while redis.is_alive:
        time.sleep(0.01)


def test_without_redis_every_route_says_unavailable_and_when_to_ask_again(
    api: LiveApi, redis: EmbeddedRedis
) -> None:
    job = f"/v1/jobs/{api.submit()}"
    crash(redis)
    asks = [("POST", "/v1/jobs"), ("POST", f"{job}/cancel")]
    asks += [("GET", p) for p in ("/v1/jobs", job, f"{job}/events", f"{job}/images/0")]
    asks += [("GET", path) for path in ("/v1/models", "/readyz")]
    for method, path in asks:
        body = {"json": {"prompt": ""}} if path == "/v1/jobs" and method == "POST" else {}
        response = api.http.request(method, path, **body)  # type: ignore[arg-type]
        assert (response.status_code, response.json()["code"]) == (503, "unavailable"), path
        assert int(response.headers["retry-after"]) > 0
    checks = api.http.get("/readyz").json()["checks"]
    assert (checks["redis"]["ok"], checks["worker"]["ok"]) == (False, False)
    assert api.http.get("/healthz").status_code == 200
    redis.start()
    assert api.http.get(job).json()["status"] == "queued"


def test_a_followed_job_is_followed_through_an_outage(api: LiveApi, redis: EmbeddedRedis) -> None:
    job_id = api.submit()
    with api.http.stream("GET", f"/v1/jobs/{job_id}/events") as response:
        names = (line[7:] for line in response.iter_lines() if line.startswith("event: "))
        assert next(names) == "queued"
        crash(redis)
        redis.start()
        worker = Worker(api)
        worker.finish(worker.take(), b"image")
        assert list(names)[-2:] == ["succeeded", "end"]
        assert response.status_code == 200


def test_a_job_accepted_before_an_outage_is_answered_as_accepted(
    api: LiveApi, redis: EmbeddedRedis
) -> None:
    answers: list[httpx.Response] = []
    prefer = {"Prefer": "wait=60"}
    post = threading.Thread(
        target=lambda: answers.append(
            api.http.post("/v1/jobs", json={"prompt": "a red apple"}, headers=prefer)
        )
    )
    post.start()
    worker = Worker(api)
    while not (leased := worker.leases.lease(("tiny",), 1)):
        time.sleep(0.01)
    crash(redis)
    post.join()
    assert answers[0].status_code == 202
    assert answers[0].headers["location"] == f"/v1/jobs/{leased[0].job.id}"

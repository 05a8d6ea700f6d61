import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from redis import Redis

from service.events import Preview, Progress
from service.jobs import JobFailure
from tests.service.event_blocks import Block, blocks
from tests.service.live_api import LiveApi, Worker


@contextmanager
def stream(api: LiveApi, job_id: str, **options: Any) -> Iterator[tuple[httpx.Response, Any]]:
    with api.http.stream("GET", f"/v1/jobs/{job_id}/events", **options) as response:
        yield response, blocks(response.iter_lines())


def events(api: LiveApi, job_id: str, **options: Any) -> list[Block]:
    with stream(api, job_id, **options) as (response, found):
        assert response.status_code == 200
        return [block for block in found if "event" in block]


def names(found: list[Block]) -> list[str]:
    return [block["event"] for block in found]


def test_a_finished_job_is_told_from_its_start_to_the_end(api: LiveApi, worker: Worker) -> None:
    job_id = api.submit(seed=3)
    lease = worker.take()
    worker.leases.event(job_id, lease.token, Progress(step=13, total_steps=39))
    worker.leases.event(job_id, lease.token, Preview(index=0, step=13, png_base64="iVBO"))
    record = worker.deliver(lease, 0, b"image")
    worker.leases.finish(job_id, lease.token)

    found = events(api, job_id)
    data = [json.loads(block["data"]) for block in found]
    assert names(found)[:2] == ["queued", "started"]
    assert names(found)[-2:] == ["succeeded", "end"]
    assert all(each["job_id"] == job_id for each in data)
    assert [each["type"] for each in data] == names(found)
    progress = [each for each in data if each["type"] == "progress"]
    assert progress[0]["progress"] == pytest.approx(1 / 3)
    steps = [each["step"] for each in progress]
    assert steps == sorted(steps)
    (preview,) = (each for each in data if each["type"] == "preview")
    assert preview["png_base64"] == "iVBO"
    (image,) = (each["image"] for each in data if each["type"] == "image")
    assert image["url"].startswith(f"{api.url}/v1/files/{job_id}/0.png?expires=")
    assert httpx.get(image["url"]).content == b"image"
    assert (image["sha256"], image["seed"]) == (record.sha256, 3)
    assert "key" not in image
    assert data[-1]["status"] == "succeeded"
    assert len({block["id"] for block in found}) == len(found)


def test_the_stream_is_not_buffered_and_says_when_to_come_back(api: LiveApi) -> None:
    with stream(api, api.submit()) as (response, found):
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["cache-control"] == "no-cache"
        assert response.headers["x-accel-buffering"] == "no"
        assert next(found) == {"retry": "2000"}
        assert next(found)["event"] == "queued"
        assert next(found) == {"": "ping"}  # while nothing happens


def test_a_running_job_is_followed_live(api: LiveApi, worker: Worker) -> None:
    job_id = api.submit()
    with stream(api, job_id) as (_, found):
        live = (block for block in found if "event" in block)
        assert next(live)["event"] == "queued"
        lease = worker.take()
        assert next(live)["event"] == "started"
        worker.leases.renew([(job_id, lease.token, 5)])
        assert json.loads(next(live)["data"])["step"] == 5
        failure = JobFailure(code="bad", detail="broken", retryable=False)
        worker.leases.fail(job_id, lease.token, failure, None)
        failed = next(live)
        assert failed["event"] == "failed"
        assert json.loads(failed["data"])["detail"] == "broken"
        assert next(live)["event"] == "end"
        assert next(live, None) is None


@pytest.mark.parametrize("place", ["header", "query"])
def test_a_stream_resumes_after_the_last_event_seen(
    api: LiveApi, worker: Worker, place: str
) -> None:
    job_id = api.submit()
    lease = worker.take()
    worker.leases.renew([(job_id, lease.token, 5)])
    worker.finish(lease, b"image")
    whole = events(api, job_id)
    for index, block in enumerate(whole[:-1]):
        resume = (
            {"headers": {"Last-Event-ID": block["id"]}}
            if place == "header"
            else {"params": {"last_event_id": block["id"]}}
        )
        assert events(api, job_id, **resume) == whole[index + 1 :]


def test_after_the_end_a_reconnection_is_turned_away(api: LiveApi) -> None:
    job_id = api.submit()
    api.http.post(f"/v1/jobs/{job_id}/cancel")
    last = events(api, job_id)[-1]
    assert last["event"] == "end"
    again = api.http.get(f"/v1/jobs/{job_id}/events", headers={"Last-Event-ID": last["id"]})
    assert (again.status_code, again.content) == (204, b"")


@pytest.mark.parametrize("event_id", ["x", "1-0", "-1", "9" * 40, "١", "1\n"])
def test_a_foreign_event_id_is_refused(api: LiveApi, event_id: str) -> None:
    path = f"/v1/jobs/{api.submit()}/events"
    response = api.http.get(path, params={"last_event_id": event_id})
    assert response.status_code == 422
    assert response.json()["errors"][0]["pointer"] == "/query/last_event_id"


def test_many_clients_follow_one_job(api: LiveApi, worker: Worker) -> None:
    job_id = api.submit()
    told: list[list[str]] = []
    followers = [
        threading.Thread(target=lambda: told.append(names(events(api, job_id)))) for _ in range(4)
    ]
    for follower in followers:
        follower.start()
    worker.finish(worker.take(), b"image")
    for follower in followers:
        follower.join()
    assert all(each[0] == "queued" and each[-1] == "end" for each in told)
    assert len(told) == 4


def test_a_client_that_leaves_does_not_disturb_the_others(api: LiveApi, worker: Worker) -> None:
    job_id = api.submit()
    with stream(api, job_id) as (_, staying):
        live = (block for block in staying if "event" in block)
        assert next(live)["event"] == "queued"
        with stream(api, job_id) as (_, leaving):
            next(leaving)
        worker.finish(worker.take(), b"image")
        assert [block["event"] for block in live][-1] == "end"


def forget_progress(api: LiveApi, job_id: str) -> None:
    """Does at once what time does: progress and previews are kept for minutes only."""
    redis = api.settings.redis
    with Redis.from_url(redis.url or "") as client:
        client.delete(f"{redis.prefix}updates:{job_id}")


def test_a_snapshot_stands_for_events_that_are_gone(api: LiveApi, worker: Worker) -> None:
    job_id = api.submit()
    lease = worker.take()
    for step in (5, 6):
        worker.leases.renew([(job_id, lease.token, step)])
    forget_progress(api, job_id)
    worker.finish(lease, b"image")
    found = events(api, job_id)
    assert names(found)[:4] == ["queued", "started", "snapshot", "image"]
    assert names(found).count("snapshot") == 1
    snapshot = found[2]
    assert "id" not in snapshot
    job = json.loads(snapshot["data"])["job"]
    assert (job["id"], job["status"], job["step"]) == (job_id, "succeeded", 39)


def test_whoever_resumes_where_events_are_gone_gets_a_snapshot_first(
    api: LiveApi, worker: Worker
) -> None:
    job_id = api.submit()
    lease = worker.take()
    worker.leases.renew([(job_id, lease.token, 5)])
    forget_progress(api, job_id)
    worker.finish(lease, b"image")
    found = events(api, job_id, headers={"Last-Event-ID": "2"})
    assert names(found) == ["snapshot", "image", "progress", "succeeded", "end"]


def test_previews_may_be_left_out(api: LiveApi, worker: Worker) -> None:
    job_id = api.submit()
    lease = worker.take()
    worker.leases.event(job_id, lease.token, Preview(index=0, step=13, png_base64="iVBO"))
    worker.finish(lease, b"image")
    assert "preview" in names(events(api, job_id))
    found = names(events(api, job_id, params={"previews": "false"}))
    assert found == ["queued", "started", "image", "progress", "succeeded", "end"]


def test_a_signed_stream_asks_for_no_key(api: LiveApi, worker: Worker) -> None:
    key = {"Authorization": f"Bearer {api.new_key()}"}
    while api.http.get("/v1/jobs").status_code != 401:
        pass  # the key is known to the server in a moment
    job = api.http.post("/v1/jobs", json={"prompt": ""}, headers=key).json()
    worker.finish(worker.take(), b"image")
    assert httpx.get(job["links"]["events"]).status_code == 401
    url = job["links"]["events_signed"]
    signed = httpx.get(f"{url}&last_event_id=2&previews=false").text
    assert signed.startswith("retry: 2000")
    assert "event: end" in signed
    assert "event: queued" not in signed
    other = url.replace(job["id"], job["id"][:-1] + ("0" if job["id"][-1] != "0" else "1"))
    assert httpx.get(other).status_code == 403
    assert httpx.get(url[:-1] + ("0" if url[-1] != "0" else "1")).status_code == 403

import re
import threading
from typing import Any

import httpx
import pytest

from tests.service.live_api import LiveApi, Worker


def poll(api: LiveApi, path: str, tag: str | None = None, **query: Any) -> httpx.Response:
    headers = {} if tag is None else {"If-None-Match": tag}
    return api.http.get(path, params=query, headers=headers)


def in_background(api: LiveApi, path: str, tag: str | None = None) -> Any:
    """A long poll under way: its answers, and the thread to join."""
    answers: list[httpx.Response] = []
    thread = threading.Thread(target=lambda: answers.append(poll(api, path, tag, wait=1e9)))
    thread.start()
    return answers, thread


def test_an_unchanged_job_is_not_sent_again(api: LiveApi, worker: Worker) -> None:
    path = f"/v1/jobs/{api.submit()}"
    tag = api.http.get(path).headers["etag"]
    again = api.http.get(path, headers={"If-None-Match": f'"other", W/{tag}'})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == tag
    worker.take()
    assert poll(api, path, tag).status_code == 200


def test_whatever_happens_to_a_job_changes_its_tag(api: LiveApi, worker: Worker) -> None:
    path = f"/v1/jobs/{api.submit(n=2)}"
    tags = [poll(api, path).headers["etag"]]
    lease = worker.take()
    tags.append(poll(api, path).headers["etag"])
    worker.leases.renew([(lease.job.id, lease.token, 5)])
    tags.append(poll(api, path).headers["etag"])
    worker.deliver(lease, 0, b"image")
    tags.append(poll(api, path).headers["etag"])
    api.http.post(f"{path}/cancel")
    tags.append(poll(api, path).headers["etag"])
    worker.leases.release(lease.job.id, lease.token)
    tags.append(poll(api, path).headers["etag"])
    assert len(set(tags)) == len(tags)
    assert all(re.fullmatch(r'"[0-9a-f]{32}"', tag) for tag in tags)


def test_a_place_in_the_queue_is_part_of_the_tag_and_an_estimate_is_not(
    api: LiveApi, worker: Worker
) -> None:
    worker.announce(work_rate=1.0)
    first, path = api.submit(), f"/v1/jobs/{api.submit()}"
    tag = poll(api, path).headers["etag"]
    api.http.post(f"/v1/jobs/{first}/cancel")
    moved = poll(api, path, tag)
    assert (moved.status_code, moved.json()["queue_position"]) == (200, 0)
    lease = worker.take()
    worker.leases.renew([(lease.job.id, lease.token, 5)])
    running = poll(api, path)
    assert running.json()["eta_seconds"] is not None
    while poll(api, path).json()["eta_seconds"] == running.json()["eta_seconds"]:
        pass
    assert poll(api, path, running.headers["etag"]).status_code == 304


def test_a_long_poll_ends_with_the_job(api: LiveApi, worker: Worker) -> None:
    path = f"/v1/jobs/{api.submit()}"
    answers, thread = in_background(api, path)
    lease = worker.take()
    worker.leases.renew([(lease.job.id, lease.token, 5)])
    worker.finish(lease, b"image")
    thread.join()
    assert answers[0].json()["status"] == "succeeded"


def test_a_long_poll_answers_with_the_job_as_it_is_in_the_end(api: LiveApi) -> None:
    response = poll(api, f"/v1/jobs/{api.submit()}", wait=0.05)
    assert response.json()["status"] == "queued"
    assert "retry-after" in response.headers


def test_a_long_poll_with_a_tag_ends_with_the_next_change(api: LiveApi, worker: Worker) -> None:
    path = f"/v1/jobs/{api.submit()}"
    answers, thread = in_background(api, path, poll(api, path).headers["etag"])
    worker.take()
    thread.join()
    assert (answers[0].status_code, answers[0].json()["status"]) == (200, "running")


def test_a_long_poll_with_an_old_tag_is_answered_at_once(api: LiveApi, worker: Worker) -> None:
    path = f"/v1/jobs/{api.submit()}"
    tag = poll(api, path).headers["etag"]
    worker.take()
    response = poll(api, path, tag, wait=1e9)
    assert (response.status_code, response.json()["status"]) == (200, "running")


def test_a_long_poll_without_a_change_ends_as_not_modified(api: LiveApi) -> None:
    path = f"/v1/jobs/{api.submit()}"
    tag = poll(api, path).headers["etag"]
    response = poll(api, path, tag, wait=0.05)
    assert (response.status_code, response.headers["etag"]) == (304, tag)


def test_nobody_waits_for_a_final_job(api: LiveApi, worker: Worker) -> None:
    path = f"/v1/jobs/{api.submit()}"
    worker.finish(worker.take(), b"image")
    tag = poll(api, path).headers["etag"]
    assert poll(api, path, tag, wait=1e9).status_code == 304


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_finished_job_says_where_its_time_went(api: LiveApi, worker: Worker, method: str) -> None:
    path = f"/v1/jobs/{api.submit()}"
    worker.finish(worker.take(), b"image")
    response = api.http.request(method, path if method == "GET" else f"{path}/cancel")
    timing = r"queue;dur=\d+, run;dur=\d+, total;dur=\d+\.\d"
    assert re.fullmatch(timing, response.headers["server-timing"])

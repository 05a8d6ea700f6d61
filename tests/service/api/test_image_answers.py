import hashlib
import re
import threading
from typing import Any

import httpx
import pytest

from service.jobs import JobFailure
from service.queue.leases import Lease
from tests.service.api.test_bad_requests import JSON
from tests.service.live_api import LiveApi, Worker

WANTS = {"Accept": "image/png", "Prefer": "wait=5"}


def ask(api: LiveApi, headers: dict[str, str] | None = None, **body: Any) -> Any:
    """A submission under way: its answers, and the thread to join."""
    answers: list[httpx.Response] = []
    asked = {"prompt": "a red apple", **body}
    thread = threading.Thread(
        target=lambda: answers.append(
            api.http.post("/v1/jobs", json=asked, headers=headers or WANTS)
        )
    )
    thread.start()
    return answers, thread


def lease(worker: Worker) -> Lease:
    while not (leased := worker.leases.lease(("tiny",), 1)):
        worker.leases.wait(("tiny",))
    return leased[0]


def test_a_client_that_takes_images_gets_the_bytes(api: LiveApi, worker: Worker) -> None:
    answers, thread = ask(api, seed=7)
    leased = lease(worker)
    worker.finish(leased, b"\x89PNG")
    thread.join()
    (response,) = answers
    assert (response.status_code, response.content) == (200, b"\x89PNG")
    assert response.headers["content-type"] == "image/png"
    assert response.headers["location"] == f"/v1/jobs/{leased.job.id}"
    assert response.headers["x-seed"] == "7"
    assert response.headers["etag"] == f'"{hashlib.sha256(response.content).hexdigest()}"'
    assert response.headers["preference-applied"] == "wait=5"
    assert response.headers["vary"] == "Prefer, Accept"
    assert re.match(r"queue;dur=\d+, run;dur=\d+, total;", response.headers["server-timing"])
    assert "link" not in response.headers


def test_of_many_images_the_first_is_sent_with_links_to_the_others(
    api: LiveApi, worker: Worker
) -> None:
    answers, thread = ask(api, n=3)
    worker.finish(lease(worker), b"first", b"second", b"third")
    thread.join()
    assert answers[0].content == b"first"
    links = [part.split(">")[0].strip(" <") for part in answers[0].headers["link"].split(",")]
    assert answers[0].headers["link"].count('rel="item"') == 2
    assert [httpx.get(link).content for link in links] == [b"second", b"third"]


def test_a_bare_wait_waits_as_long_as_the_server_does(api: LiveApi, worker: Worker) -> None:
    answers, thread = ask(api, {"Accept": "image/*", "Prefer": "wait"})
    worker.finish(lease(worker), b"image")
    thread.join()
    assert answers[0].content == b"image"
    assert answers[0].headers["preference-applied"] == "wait"


@pytest.mark.parametrize(
    ("accept", "body", "expected"),
    [
        ("image/webp", {}, "webp"),
        ("image/png;q=0.5, image/jpeg", {}, "jpeg"),
        ("image/*", {}, "png"),
        ("image/webp", {"output_format": "jpeg"}, "jpeg"),
        ("application/json", {}, "png"),
    ],
)
def test_what_is_accepted_decides_the_format_unless_the_body_does(
    api: LiveApi, accept: str, body: dict[str, str], expected: str
) -> None:
    headers = {"Accept": accept}
    response = api.http.post("/v1/jobs", json={"prompt": "", **body}, headers=headers)
    assert response.status_code == 202
    assert response.json()["input"]["output_format"] == expected


def test_a_job_that_is_not_done_in_time_is_answered_as_accepted(api: LiveApi) -> None:
    headers = {**WANTS, "Prefer": "wait=0"}
    response = api.http.post("/v1/jobs", json={"prompt": ""}, headers=headers)
    assert response.status_code == 202
    assert response.json()["status"] == "queued"
    assert response.headers["content-type"] == "application/json"


@pytest.mark.parametrize(("code", "status"), [("out_of_memory", 500), ("prompt_rejected", 422)])
def test_a_failed_job_is_a_problem_that_is_not_to_be_repeated(
    api: LiveApi, worker: Worker, code: str, status: int
) -> None:
    answers, thread = ask(api)
    leased = lease(worker)
    failure = JobFailure(code=code, detail="no room", retryable=True)
    worker.leases.fail(leased.job.id, leased.token, failure, None)
    thread.join()
    (response,) = answers
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["x-should-retry"] == "false"
    assert response.headers["location"] == f"/v1/jobs/{leased.job.id}"
    assert response.json()["job_id"] == leased.job.id


def test_a_canceled_job_is_a_problem_too(api: LiveApi, worker: Worker) -> None:
    answers, thread = ask(api)
    leased = lease(worker)
    api.http.post(f"/v1/jobs/{leased.job.id}/cancel")
    worker.leases.release(leased.job.id, leased.token)
    thread.join()
    (response,) = answers
    assert (response.status_code, response.json()["code"]) == (409, "canceled")
    assert response.headers["x-should-retry"] == "false"


def test_a_job_that_missed_its_deadline_is_a_problem_too(api: LiveApi) -> None:
    response = api.http.post(
        "/v1/jobs", json={"prompt": "", "timeout_seconds": 0.01}, headers=WANTS
    )
    assert (response.status_code, response.json()["code"]) == (504, "canceled")
    assert "deadline" in response.json()["detail"]


def test_a_replay_gives_the_image_at_once(api: LiveApi, worker: Worker) -> None:
    headers = {"Accept": "image/png", "Idempotency-Key": "k1"}
    body = b'{"prompt": "a red apple"}'
    assert api.http.post("/v1/jobs", content=body, headers={**headers, **JSON}).status_code == 202
    worker.finish(lease(worker), b"image")
    again = api.http.post("/v1/jobs", content=body, headers={**headers, **JSON})
    assert (again.status_code, again.content) == (200, b"image")
    assert again.headers["idempotency-replayed"] == "true"


def test_a_client_that_goes_leaves_its_job_behind(api: LiveApi, worker: Worker) -> None:
    with pytest.raises(httpx.ReadTimeout):
        api.http.post("/v1/jobs", json={"prompt": ""}, headers=WANTS, timeout=0.2)
    leased = lease(worker)
    worker.finish(leased, b"image")
    job = api.http.get(f"/v1/jobs/{leased.job.id}").json()
    assert job["status"] == "succeeded"

import threading
from typing import Any

import httpx
import pytest

from tests.service.api.test_bad_requests import assert_problem, pointers
from tests.service.live_api import LiveApi, Worker
from tests.service.some_pictures import picture

BODY = {"prompt": "a red apple", "n": 2, "metadata": {"a": "1", "b": "2"}}


def post(api: LiveApi, key: str, body: dict[str, Any] | None = None, **options: Any) -> Any:
    headers = {"Idempotency-Key": key, **options.pop("headers", {})}
    return api.http.post("/v1/jobs", json=body or BODY, headers=headers, **options)


def test_the_same_request_is_answered_with_the_same_job(api: LiveApi) -> None:
    first, again = post(api, "k1"), post(api, "k1", dict(reversed(BODY.items())))
    assert (first.status_code, again.status_code) == (202, 202)
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert again.json() == first.json()  # with its drawn seed
    assert again.headers["location"] == first.headers["location"]
    assert len(api.http.get("/v1/jobs").json()["data"]) == 1


def test_a_key_is_the_same_with_and_without_quotes(api: LiveApi) -> None:
    assert post(api, r'"a\"b"').json()["id"] == post(api, 'a"b').json()["id"]


def test_a_replay_of_a_finished_job_shows_its_images(api: LiveApi, worker: Worker) -> None:
    body = {"prompt": "a red apple"}
    post(api, "k1", body)
    worker.finish(worker.take(), b"image")
    again = post(api, "k1", body)
    assert again.status_code == 200
    assert again.headers["idempotency-replayed"] == "true"
    assert again.json()["images"][0]["bytes"] == 5


@pytest.mark.parametrize("other", [{"prompt": "a cat"}, {**BODY, "seed": 1}, {**BODY, "n": 1}])
def test_another_request_with_the_key_is_refused(api: LiveApi, other: dict[str, Any]) -> None:
    post(api, "k1")
    assert_problem(post(api, "k1", other), 422, "idempotency_key_reused")


def test_files_of_a_form_tell_requests_apart(api: LiveApi) -> None:
    def send(data: bytes) -> httpx.Response:
        return api.http.post(
            "/v1/jobs",
            data={"prompt": "a red apple"},
            files={"image": data},
            headers={"Idempotency-Key": "k1"},
        )

    first, again, other = send(picture()), send(picture()), send(picture(50))
    assert first.json()["id"] == again.json()["id"]
    assert_problem(other, 422, "idempotency_key_reused")


@pytest.mark.parametrize("key", ["", '""', "x" * 256, "a b", '"open', "schlüssel".encode()])
def test_a_key_that_is_none_is_refused(api: LiveApi, key: str) -> None:
    problem = assert_problem(post(api, key), 422, "invalid_request")
    assert pointers(problem) == ["/header/idempotency-key"]


def test_two_keys_are_refused(api: LiveApi) -> None:
    headers = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    response = api.http.post("/v1/jobs", json=BODY, headers=headers)
    assert pointers(assert_problem(response, 422, "invalid_request")) == ["/header/idempotency-key"]


def test_a_refused_request_leaves_its_key_free(api: LiveApi) -> None:
    assert post(api, "k1", {"prompt": "a cat", "n": 0}).status_code == 422
    assert post(api, "k1").status_code == 202


def test_of_many_requests_at_once_one_is_accepted(api: LiveApi) -> None:
    answers: list[httpx.Response] = []
    posts = [threading.Thread(target=lambda: answers.append(post(api, "k1"))) for _ in range(8)]
    for each in posts:
        each.start()
    for each in posts:
        each.join()
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum("idempotency-replayed" not in answer.headers for answer in answers) == 1

import re

import pytest

from tests.service.api.test_bad_requests import assert_problem
from tests.service.live_api import LiveApi, Worker

TOTAL = re.compile(r"total;dur=\d+\.\d")


@pytest.mark.parametrize("path", ["/healthz", "/v1/models", "/v1/jobs", "/openapi.json", "/docs"])
def test_head_is_get_without_the_body(shared_api: LiveApi, path: str) -> None:
    head, got = shared_api.http.head(path), shared_api.http.get(path)
    assert (head.status_code, head.content) == (200, b"")
    for name in ("content-type", "content-length"):
        assert head.headers[name] == got.headers[name]


def test_head_of_a_job_and_its_image_tells_their_tags_and_sizes(
    api: LiveApi, worker: Worker
) -> None:
    path = f"/v1/jobs/{api.submit()}"
    worker.finish(worker.take(), b"image")
    assert api.http.head(path).headers["etag"] == api.http.get(path).headers["etag"]
    image = api.http.head(f"{path}/images/0")
    assert (image.headers["content-length"], image.content) == ("5", b"")
    assert image.headers["accept-ranges"] == "bytes"


def test_head_of_a_stream_without_end_ends(api: LiveApi) -> None:
    head = api.http.head(f"/v1/jobs/{api.submit()}/events")
    assert head.status_code == 200
    assert head.headers["content-type"].startswith("text/event-stream")


def test_head_of_what_is_not_there_is_not_found(shared_api: LiveApi) -> None:
    assert shared_api.http.head("/v1/jobs/nothing").status_code == 404
    assert shared_api.http.head("/nothing").status_code == 404
    assert shared_api.http.head("/v1/jobs/job_1/cancel").status_code == 405


@pytest.mark.parametrize(
    ("path", "allow"),
    [
        ("/v1/jobs", "GET, HEAD, OPTIONS, POST"),
        ("/v1/jobs/job_1/cancel", "OPTIONS, POST"),
        ("/healthz", "GET, HEAD, OPTIONS"),
    ],
)
def test_options_tells_the_methods(shared_api: LiveApi, path: str, allow: str) -> None:
    response = shared_api.http.options(path)
    assert (response.status_code, response.content) == (204, b"")
    assert response.headers["allow"] == allow
    assert_problem(shared_api.http.request("TRACE", path), 405, "method_not_allowed")


@pytest.mark.parametrize("path", ["/healthz", "/v1/jobs", "/nothing", "/v1/jobs?limit=0"])
def test_every_answer_says_how_long_it_took_and_its_id(shared_api: LiveApi, path: str) -> None:
    headers = shared_api.http.get(path).headers
    assert TOTAL.fullmatch(headers["server-timing"])
    assert headers["x-request-id"]

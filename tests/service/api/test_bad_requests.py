import io
import json
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.responses import StreamingResponse

from service.api.schemas import JobCreate
from service.settings import LogSettings, RedisSettings, Settings
from service.telemetry.logging import configure_logging
from tests.service.live_api import LiveApi, serving, tiny_app

JSON = {"content-type": "application/json"}
MEMBERS = {"type", "title", "status", "detail", "code", "errors", "request_id"}


def assert_problem(response: Any, status: int, code: str) -> dict[str, Any]:
    problem: dict[str, Any] = response.json()
    assert (response.status_code, problem["code"]) == (status, code), problem
    assert response.headers["content-type"] == "application/problem+json"
    assert set(problem) == MEMBERS
    assert problem["status"] == status
    assert problem["type"] == f"urn:problem-type:glide:{code}"
    assert problem["request_id"] == response.headers["x-request-id"]
    assert problem["title"]
    assert problem["detail"]
    return problem


def pointers(problem: dict[str, Any]) -> list[str]:
    return [error["pointer"] for error in problem["errors"]]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ("{}", "/prompt"),
        ("[]", ""),
        ("null", ""),
        ('"a cat"', ""),
        ("", ""),
        ('{"prompt": null}', "/prompt"),
        ('{"prompt": 1}', "/prompt"),
        (r'{"prompt": "\ud800"}', "/prompt"),
        ('{"prompt": "", "colour": 1}', "/colour"),
        ('{"prompt": "", "a/b~c": 1}', "/a~1b~0c"),
        ('{"prompt": "", "model": "other"}', "/model"),
        ('{"prompt": "", "model": 1}', "/model"),
        ('{"prompt": "", "sampler": "euler"}', "/sampler"),
        ('{"prompt": "", "width": 100, "height": 100}', "/width"),
        ('{"prompt": "", "width": "64"}', "/width"),
        ('{"prompt": "", "width": 64.0}', "/width"),
        ('{"prompt": "", "n": true}', "/n"),
        ('{"prompt": "", "n": 100}', "/n"),
        ('{"prompt": "", "seed": 1e3}', "/seed"),
        ('{"prompt": "", "seed": 99999999999999999999999}', "/seed"),
        ('{"prompt": "", "steps": 0}', "/steps"),
        ('{"prompt": "", "steps": 1000000}', "/steps"),
        ('{"prompt": "", "steps": 2.5}', "/steps"),
        ('{"prompt": "", "steps": true}', "/steps"),
        ('{"prompt": "", "steps": "many"}', "/steps"),
        ('{"prompt": "", "guidance_scale": NaN}', "/guidance_scale"),
        ('{"prompt": "", "guidance_scale": Infinity}', "/guidance_scale"),
        ('{"prompt": "", "guidance_scale": -Infinity}', "/guidance_scale"),
        ('{"prompt": "", "guidance_scale": 1e999}', "/guidance_scale"),
        ('{"prompt": "", "guidance_scale": "3"}', "/guidance_scale"),
        ('{"prompt": "", "guidance_scale": 1' + "0" * 400 + "}", "/guidance_scale"),
        ('{"prompt": "", "guidance_interval": [0, NaN]}', "/guidance_interval/1"),
        ('{"prompt": "", "guidance_interval": [0]}', "/guidance_interval"),
        ('{"prompt": "", "guidance_interval": {"0": 1}}', "/guidance_interval"),
        ('{"prompt": "", "upsample": 4}', "/upsample"),
        ('{"prompt": "", "upsample": {"step": 4}}', "/upsample/step"),
        ('{"prompt": "", "upsample": {"temperature": NaN}}', "/upsample/temperature"),
        ('{"prompt": "", "output_format": "gif"}', "/output_format"),
        ('{"prompt": "", "metadata": {"a": 1}}', "/metadata/a"),
        ('{"prompt": "", "metadata": []}', "/metadata"),
    ],
)
def test_a_bad_field_is_named(shared_api: LiveApi, body: str, pointer: str) -> None:
    response = shared_api.http.post("/v1/jobs", content=body, headers=JSON)
    assert pointers(assert_problem(response, 422, "invalid_request")) == [pointer]


def test_every_bad_field_is_named_at_once(shared_api: LiveApi) -> None:
    body = {"prompt": 1, "n": "2", "extra": 0}
    problem = assert_problem(shared_api.http.post("/v1/jobs", json=body), 422, "invalid_request")
    assert set(pointers(problem)) == {"/prompt", "/n", "/extra"}


def test_too_long_a_caption_is_refused(shared_api: LiveApi) -> None:
    response = shared_api.http.post("/v1/jobs", json={"prompt": "é" * 32_001})
    assert "at most 32000 characters" in response.json()["detail"]
    assert pointers(assert_problem(response, 422, "invalid_request")) == ["/prompt"]
    job = shared_api.http.post("/v1/jobs", json={"prompt": "é " * 16_000}).json()
    assert "ignored" in job["warnings"][0]


@pytest.mark.parametrize(
    "body",
    [b"{", b"{'prompt': 1}", b"\xff\xfe\x00", b'{"prompt": "\xff"}', b"[" * 100_000, b"1" * 5000],
)
def test_malformed_json_is_refused(shared_api: LiveApi, body: bytes) -> None:
    assert_problem(
        shared_api.http.post("/v1/jobs", content=body, headers=JSON), 400, "malformed_json"
    )


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "json"},
        {"content-type": "multipart/mixed; boundary=x"},
    ],
)
def test_another_content_type_is_refused(shared_api: LiveApi, headers: dict[str, str]) -> None:
    response = shared_api.http.post("/v1/jobs", content=b'{"prompt": ""}', headers=headers)
    assert_problem(response, 415, "unsupported_media_type")


def test_json_by_another_name_is_json(shared_api: LiveApi) -> None:
    for kind in ("application/json; charset=utf-8", "APPLICATION/JSON", "application/ld+json"):
        headers = {"content-type": kind}
        response = shared_api.http.post("/v1/jobs", content=b'{"prompt": ""}', headers=headers)
        assert response.status_code == 202


def test_too_large_a_body_is_refused_declared_or_not(small_api: LiveApi) -> None:
    def unannounced() -> Iterator[bytes]:
        for _ in range(40):
            yield b" " * 500

    for body in (b" " * 20_000, unannounced()):
        response = small_api.http.post("/v1/jobs", content=body, headers=JSON)
        assert_problem(response, 413, "body_too_large")


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/nothing",
        "/v1/jobs/",
        "/v1/jobs/nothing",
        "/v1/jobs/job_01m83t1gp9njq9884t5h7g211x",
        "/v1/jobs/job_01m83t1gp9njq9884t5h7g211x/events",
        "/v1/jobs/job_01m83t1gp9njq9884t5h7g211x/images/0",
        "/v1/jobs/..%2f..%2fetc",
        "/v1/jobs/%00",
        "/v1/jobs/%ff",
        "/v1/jobs/*",
    ],
)
def test_what_is_not_there_is_not_found(shared_api: LiveApi, path: str) -> None:
    assert_problem(shared_api.http.get(path), 404, "not_found")


def test_cancelling_an_unknown_job_is_not_found(shared_api: LiveApi) -> None:
    path = "/v1/jobs/job_01m83t1gp9njq9884t5h7g211x/cancel"
    assert_problem(shared_api.http.post(path), 404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PUT", "/v1/jobs", "GET, HEAD, OPTIONS, POST"),
        ("PATCH", "/v1/jobs/job_1", "DELETE, GET, HEAD, OPTIONS"),
        ("GET", "/v1/jobs/job_1/cancel", "OPTIONS, POST"),
        ("POST", "/healthz", "GET, HEAD, OPTIONS"),
    ],
)
def test_another_method_is_answered_with_the_allowed_ones(
    shared_api: LiveApi, method: str, path: str, allow: str
) -> None:
    response = shared_api.http.request(method, path)
    assert_problem(response, 405, "method_not_allowed")
    assert response.headers["allow"] == allow


@pytest.mark.parametrize(
    ("path", "pointer"),
    [
        ("/v1/jobs?limit=0", "/query/limit"),
        ("/v1/jobs?limit=101", "/query/limit"),
        ("/v1/jobs?limit=" + "9" * 5000, "/query/limit"),
        ("/v1/jobs?status=lost", "/query/status"),
        ("/v1/jobs?cursor=%00", "/query/cursor"),
        ("/v1/jobs?cursor=nonsense", "/query/cursor"),
        ("/v1/jobs?cursor=" + "x" * 300, "/query/cursor"),
    ],
)
def test_a_bad_query_is_refused(shared_api: LiveApi, path: str, pointer: str) -> None:
    problem = assert_problem(shared_api.http.get(path), 422, "invalid_request")
    assert pointers(problem) == [pointer]


@pytest.mark.parametrize("wait", ["nan", "inf", "-1", "soon", ""])
def test_a_bad_wait_is_refused(shared_api: LiveApi, wait: str) -> None:
    response = shared_api.http.get(f"/v1/jobs/{shared_api.submit()}", params={"wait": wait})
    assert pointers(assert_problem(response, 422, "invalid_request")) == ["/query/wait"]


def test_a_request_id_is_echoed_or_made(shared_api: LiveApi) -> None:
    echoed = shared_api.http.get("/nothing", headers={"x-request-id": "my-id.1"})
    assert echoed.headers["x-request-id"] == echoed.json()["request_id"] == "my-id.1"
    made = {shared_api.http.get("/healthz").headers["x-request-id"] for _ in range(2)}
    assert len(made) == 2
    forged = shared_api.http.get("/healthz", headers={"x-request-id": 'x" forged="1'})
    assert "forged" not in forged.headers["x-request-id"]


def test_a_caption_is_not_logged_above_debug(shared_api: LiveApi) -> None:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    configure_logging(LogSettings(format="json"), stream)
    try:
        job_id = shared_api.submit(prompt="a secret giraffe")
        shared_api.http.post("/v1/jobs", json={"prompt": "a secret giraffe", "n": "x"})
        shared_api.http.get("/healthz")  # a request is logged after its answer, before the next
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert job_id in [line.get("job_id") for line in lines]
    assert [line["status"] for line in lines if line["event"] == "request"] == [202, 422]
    assert "giraffe" not in stream.getvalue()


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(
        ["scenes", "tiny", "ddim50", "fast27", "25,25", "ddim", "png", 64, 256, 10**40]
    ),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=4,
)
BODIES = st.dictionaries(
    st.sampled_from([*JobCreate.model_fields]) | st.text(max_size=8), ANYTHING, max_size=5
).map(lambda members: {"prompt": "a red apple", **members})


@settings(max_examples=60)
@given(body=BODIES)
def test_no_body_breaks_the_service(shared_api: LiveApi, body: dict[str, Any]) -> None:
    response = shared_api.http.post("/v1/jobs", content=json.dumps(body), headers=JSON)
    if response.status_code == 202:
        shown = response.json()["input"]
        given = {name: value for name, value in body.items() if value is not None}
        for name in given.keys() & {"prompt", "n", "seed", "steps", "width"}:
            assert shown[name] == given[name]
    else:
        assert_problem(response, 422, "invalid_request")


@settings(max_examples=60)
@given(
    path=st.sampled_from(
        ["/v1/jobs", "/v1/jobs/{}", "/v1/jobs/{}/events", "/v1/jobs/{}/images/{}"]
    ),
    parts=st.tuples(st.text(min_size=1, max_size=30), st.text(min_size=1, max_size=30)),
    query=st.dictionaries(
        st.sampled_from(["cursor", "limit", "status", "wait", "last_event_id"]),
        st.text(max_size=20) | st.integers().map(str),
        max_size=3,
    ),
)
def test_no_address_breaks_the_service(
    shared_api: LiveApi, path: str, parts: tuple[str, str], query: dict[str, str]
) -> None:
    address = path.format(*(quote(part, safe="") for part in parts))
    assert shared_api.http.get(address, params=query).status_code in (200, 404, 422)


def test_a_bug_is_answered_without_a_traceback(
    redis_url: str, redis_prefix: str, tmp_path: Path
) -> None:
    redis = RedisSettings(url=redis_url, prefix=redis_prefix)
    app = tiny_app(Settings(redis=redis), tmp_path)

    async def bug() -> None:
        raise ZeroDivisionError("a secret of the code")

    async def late_bug() -> StreamingResponse:
        async def half() -> AsyncIterator[bytes]:
            yield b"half"
            raise ZeroDivisionError("a secret of the code")

        return StreamingResponse(half())

    app.add_api_route("/bug", bug)
    app.add_api_route("/late-bug", late_bug)
    with serving(app) as url:
        response = httpx.get(f"{url}/bug")
        assert "secret" not in json.dumps(assert_problem(response, 500, "internal_error"))
        with pytest.raises(httpx.RemoteProtocolError):
            httpx.get(f"{url}/late-bug")

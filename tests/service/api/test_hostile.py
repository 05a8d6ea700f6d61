"""What hostile or broken clients ask: no 5xx, no leak, and the service lives on."""

import pytest

from tests.service.api.test_bad_requests import assert_problem, pointers
from tests.service.live_api import LiveApi
from tests.service.raw_http import JOB, JSON, assert_alive, connected, head


@pytest.mark.parametrize("opening", ["[", '{"a":', '{"prompt": ['])
def test_json_of_100_000_levels_is_refused(shared_api: LiveApi, opening: str) -> None:
    body = opening * 100_000
    refused = shared_api.http.post("/v1/jobs", content=body, headers=JSON)
    assert_problem(refused, 400, "malformed_json")
    whole = b"[" * 100_000 + b"]" * 100_000
    refused = shared_api.http.post("/v1/jobs", content=whole, headers=JSON)
    assert_problem(refused, 400, "malformed_json")
    assert_alive(shared_api)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ('{"prompt": "a", "prompt": "b"}', "/prompt"),
        ('{"prompt": "a", "upsample": {"steps": 2, "steps": 2}}', "/upsample/steps"),
        ('{"prompt": "a", "metadata": {"a/b": "1", "a/b": "1"}}', "/metadata/a~1b"),
    ],
)
def test_a_member_that_is_there_twice_is_named(
    shared_api: LiveApi, body: str, pointer: str
) -> None:
    response = shared_api.http.post("/v1/jobs", content=body, headers=JSON)
    problem = assert_problem(response, 422, "invalid_request")
    assert pointers(problem) == [pointer]
    assert "twice" in problem["detail"]


@pytest.mark.parametrize(
    "caption",
    [r"\ud800", r"a\udfffb", r"\ude00\ud83d", r"\u0000", r"\u0007", r"\u001b[2J", r"\u007f"],
)
def test_a_caption_with_half_a_character_or_a_control_is_refused(
    shared_api: LiveApi, caption: str
) -> None:
    for name in ("prompt", "negative_prompt"):
        body = f'{{"prompt": "", "{name}": "{caption}"}}'.replace(
            '"prompt": "", "prompt"', '"prompt"'
        )
        response = shared_api.http.post("/v1/jobs", content=body, headers=JSON)
        problem = assert_problem(response, 422, "invalid_request")
        assert pointers(problem) == [f"/{name}"]


def test_tabs_and_line_ends_and_every_script_are_captions(shared_api: LiveApi) -> None:
    caption = "a red\tapple\r\non grass\n\u202eלהפוך 🦊 🏳️‍🌈"
    response = shared_api.http.post("/v1/jobs", json={"prompt": caption})
    assert response.json()["input"]["prompt"] == caption


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_numbers_that_json_does_not_have_are_refused(shared_api: LiveApi, constant: str) -> None:
    for name in ("guidance_scale", "timeout_seconds", "n", "seed", "strength"):
        body = f'{{"prompt": "", "{name}": {constant}}}'
        response = shared_api.http.post("/v1/jobs", content=body, headers=JSON)
        assert pointers(assert_problem(response, 422, "invalid_request")) == [f"/{name}"]


@pytest.mark.parametrize("accept", ["text/html", "application/xml", "x/y;q=0", "*", "é", ""])
def test_whatever_is_accepted_the_answer_is_json(shared_api: LiveApi, accept: str) -> None:
    headers = {b"accept": accept.encode()}
    for path, status in (("/v1/jobs", 200), ("/nothing", 404), ("/healthz", 200)):
        response = shared_api.http.get(path, headers=headers)
        assert response.status_code == status
        assert response.json() is not None


@pytest.mark.parametrize(
    "target",
    [
        "/v1/jobs/{}/images/..%2f..%2f..%2fetc%2fpasswd",
        "/v1/jobs/{}/images/-1",
        "/v1/jobs/{}/images/0%00.png",
        "/v1/jobs/{}/images/99999999999999999999",
        "/v1/jobs/{}/../../../etc/passwd",
        "/v1/jobs/..%2f{}/images/0",
        "/v1/files/{}/..%2f..%2fetc%2fpasswd?expires=9999999999&signature=x",
        "/v1/files/..%2f..%2f/0.png?expires=9999999999&signature=x",
        "/v1/files/{}/0.png?expires=9999999999&signature=%ff%00",
        "/v1/files/{}/0.png?expires=-1&signature=x",
        "//v1/jobs/{}",
        "/v1/jobs/{}%0d%0aset-cookie:%20a=b",
    ],
)
def test_tricks_with_paths_find_nothing(shared_api: LiveApi, target: str) -> None:
    job_id = shared_api.submit()
    with connected(shared_api) as connection:
        connection.send(head(target.format(job_id), method="GET"))
        response = connection.answer()
        assert response.status in (403, 404, 422)
        assert "set-cookie" not in response.headers
        assert "root:" not in response.body.decode()


@pytest.mark.parametrize("name", ["x-request-id", "idempotency-key", "x-forwarded-host", "prefer"])
@pytest.mark.parametrize(
    "value", ["a\r\nset-cookie: a=b", "a\nset-cookie: a=b", "a\x00b", "\x7f", "é"]
)
def test_no_header_of_a_request_writes_one_of_the_answer(
    shared_api: LiveApi, name: str, value: str
) -> None:
    with connected(shared_api) as connection:
        connection.send(head("/v1/jobs", f"{name}: {value}", f"content-length: {len(JOB)}") + JOB)
        response = connection.answer()
        assert response.status in (202, 400, 422)
        assert "set-cookie" not in response.headers
        assert "set-cookie" not in response.body.decode().replace("cookie: a=b", "")
    assert_alive(shared_api)


def test_a_huge_query_or_head_is_refused(shared_api: LiveApi) -> None:
    for target, line in (
        ("/v1/jobs?a=" + "x" * 100_000, "a: b"),
        ("/v1/jobs", "a: " + "x" * 100_000),
    ):
        with connected(shared_api) as connection:
            connection.send(head(target, line, method="GET"))
            response = connection.answer()
            assert (response.status, response.problem()["code"]) == (431, "head_too_large")
            connection.assert_closed()
    many = "&".join(f"limit={index}" for index in range(1, 4000))
    assert shared_api.http.get(f"/v1/jobs?{many}").status_code in (200, 422)
    assert_alive(shared_api)


def test_bytes_that_are_no_utf8_are_refused_or_ignored(shared_api: LiveApi) -> None:
    bad = b"\xff\xfe\xc3\x28"
    refused = shared_api.http.post("/v1/jobs", content=b'{"prompt": "%b"}' % bad, headers=JSON)
    assert_problem(refused, 400, "malformed_json")
    for path in ("/v1/jobs/%ff%fe", "/v1/jobs?cursor=%ff%fe", "/%c3%28"):
        assert shared_api.http.get(path).status_code in (404, 422)
    with connected(shared_api) as connection:
        connection.send(b"GET /healthz HTTP/1.1\r\nhost: t\r\nx-a: \xff\xfe\r\n\r\n")
        assert connection.answer().status == 200
    form = {b"content-type": b"multipart/form-data; boundary=\xff"}
    assert shared_api.http.post("/v1/jobs", content=bad, headers=form).status_code == 422

"""What hostile or broken clients send: no 5xx, no leak, and the service lives on."""

import asyncio
import json
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import parse_headers
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

import pytest

from service.api.edge import LINGER_BYTES
from service.settings import RedisSettings
from tests.service.api.test_auth import bearer
from tests.service.api.test_bad_requests import JSON, assert_problem, pointers
from tests.service.live_api import LiveApi, live_api

JOB = b'{"prompt": "a red apple"}'
HUNDRED_MB = 100 << 20
CHUNK = b" " * (1 << 16)
SOCKET_BUFFERS = 16 << 20
"""More than the kernel takes of a body that nobody reads."""


class Answer:
    """One response, read to its end."""

    def __init__(self, reader: BinaryIO) -> None:
        self.status = int(reader.readline().split()[1])
        self.headers = parse_headers(reader)
        length = self.headers["content-length"]
        self.body = reader.read() if length is None else reader.read(int(length))

    def problem(self) -> dict[str, object]:
        problem: dict[str, object] = json.loads(self.body)
        assert problem["status"] == self.status
        return problem


class Connection:
    """A client that writes bytes."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.send = connection.sendall
        self.recv = connection.recv
        self._reader = connection.makefile("rb")

    def answer(self) -> Answer:
        return Answer(self._reader)

    def close(self) -> None:
        self._reader.close()

    def assert_closed(self) -> None:
        """The server has ended the connection, in good order or not."""
        try:
            while self._reader.read(1 << 16):
                pass
        except ConnectionResetError:
            pass


@contextmanager
def connected(api: LiveApi) -> Iterator[Connection]:
    address = urlsplit(api.url)
    with (
        socket.create_connection((address.hostname, address.port)) as connected,
        closing(Connection(connected)) as connection,
    ):
        yield connection


def head(target: str, *lines: str, method: str = "POST") -> bytes:
    fields = ("host: test", "content-type: application/json", *lines)
    return "\r\n".join((f"{method} {target} HTTP/1.1", *fields, "", "")).encode("latin-1")


def assert_alive(api: LiveApi) -> None:
    assert api.http.get("/healthz").status_code == 200
    key = {} if api.http.get("/v1/jobs").status_code == 200 else bearer(api.new_key())
    sent = api.http.post("/v1/jobs", content=JOB, headers=JSON | key)
    assert sent.status_code == 202, sent.text


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def send_all(connection: Connection, total: int, chunked: bool) -> int:
    """Sends a body, until the server ends that; returns how much went out."""
    piece = b"%x\r\n%b\r\n" % (len(CHUNK), CHUNK) if chunked else CHUNK
    sent = 0
    try:
        while sent < total:
            connection.send(piece)
            sent += len(piece)
    except OSError:
        return sent
    return sent


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(
    ("target", "status", "key"),
    [
        ("/v1/jobs", 413, True),
        ("/v1/jobs", 401, False),
        ("/v1/images", 413, True),
        ("/", 404, True),
    ],
)
def test_a_huge_body_is_refused_unread(
    small_api: LiveApi, target: str, status: int, key: bool, chunked: bool
) -> None:
    length = "transfer-encoding: chunked" if chunked else f"content-length: {HUNDRED_MB}"
    text = small_api.new_key()
    lines = [length, *([f"authorization: Bearer {text}"] if key else [])]
    before = resident_bytes()
    with connected(small_api) as connection:
        connection.send(head(target, *lines))
        sent = send_all(connection, HUNDRED_MB, chunked)
        response = connection.answer()
        assert response.status == status
        assert response.headers["connection"] == "close"
        assert response.problem()
        connection.assert_closed()
    assert sent < LINGER_BYTES + SOCKET_BUFFERS
    assert resident_bytes() - before < 16 << 20
    assert_alive(small_api)


def test_a_client_that_asks_first_sends_no_body_in_vain(small_api: LiveApi) -> None:
    with connected(small_api) as connection:
        lines = (f"content-length: {HUNDRED_MB}", "expect: 100-continue")
        connection.send(head("/v1/jobs", *lines))
        response = connection.answer()
        assert response.status == 413
    with connected(small_api) as connection:
        connection.send(head("/v1/jobs", f"content-length: {len(JOB)}", "expect: 100-continue"))
        assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
        connection.send(JOB)
        assert connection.answer().status == 202


@pytest.fixture
def hasty_api(redis_url: str, redis_prefix: str, tmp_path: Path) -> Iterator[LiveApi]:
    """A server that waits 0.3 s for the next piece of a request."""
    redis = RedisSettings(url=redis_url, prefix=redis_prefix)
    with live_api(redis, tmp_path, body_timeout_s=0.3) as api:
        yield api


@pytest.mark.parametrize("length", [f"content-length: {len(JOB)}", "transfer-encoding: chunked"])
def test_a_body_that_does_not_come_is_given_up(hasty_api: LiveApi, length: str) -> None:
    with connected(hasty_api) as connection:
        connection.send(head("/v1/jobs", length))
        response = connection.answer()
        problem = response.problem()
        assert (response.status, problem["code"]) == (408, "body_too_slow")
        connection.assert_closed()
    assert_alive(hasty_api)


def test_a_body_that_drips_is_given_up(hasty_api: LiveApi) -> None:
    with connected(hasty_api) as connection:
        connection.send(head("/v1/jobs", "content-length: 100000"))
        connection.socket.settimeout(0.05)
        while True:  # never silent for long, and never done
            connection.send(b" ")
            try:
                assert connection.recv(12) == b"HTTP/1.1 408"
                break
            except TimeoutError:
                continue
    assert_alive(hasty_api)


@pytest.mark.parametrize("sent", [b"", b"GET /healthz HT", b"GET /healthz HTTP/1.1\r\nhost: t"])
def test_a_head_that_does_not_come_is_given_up(hasty_api: LiveApi, sent: bytes) -> None:
    with connected(hasty_api) as connection:
        connection.send(sent)
        connection.assert_closed()
    assert_alive(hasty_api)


def test_a_quiet_stream_is_not_taken_for_a_body_that_does_not_come(hasty_api: LiveApi) -> None:
    job_id = hasty_api.submit()
    with hasty_api.http.stream("GET", f"/v1/jobs/{job_id}/events") as events:
        time.sleep(0.5)  # longer than the time for a body
        hasty_api.http.post(f"/v1/jobs/{job_id}/cancel")
        assert "event: canceled" in events.read().decode()


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


def test_a_body_shorter_than_it_says_harms_nobody(shared_api: LiveApi) -> None:
    for end in (socket.SHUT_WR, socket.SHUT_RDWR):
        with connected(shared_api) as connection:
            connection.send(head("/v1/jobs", "content-length: 1000") + JOB)
            connection.socket.shutdown(end)
            if end == socket.SHUT_WR:
                connection.assert_closed()
    assert_alive(shared_api)


def test_what_follows_a_body_is_the_next_request(shared_api: LiveApi) -> None:
    with connected(shared_api) as connection:
        connection.send(head("/v1/jobs", f"content-length: {len(JOB)}") + JOB + b"and more\r\n\r\n")
        first = connection.answer()
        assert (first.status, json.loads(first.body)["status"]) == (202, "queued")
        second = connection.answer()
        assert (second.status, second.problem()["code"]) == (400, "malformed_http")
        connection.assert_closed()
    assert_alive(shared_api)


@pytest.mark.parametrize(
    "lines",
    [
        ("content-length: 4", "transfer-encoding: chunked"),
        ("transfer-encoding: chunked", "content-length: 0"),
        ("content-length: 4", "content-length: 5"),
        ("content-length: -1",),
        ("content-length: 1e3",),
        ("content-length: " + "9" * 5000,),
        ("transfer-encoding: gzip",),
        ("transfer-encoding: chunked, chunked",),
        ("transfer-encoding : chunked",),
    ],
)
def test_a_length_that_can_be_read_in_two_ways_ends_the_connection(
    shared_api: LiveApi, lines: tuple[str, ...]
) -> None:
    smuggled = b"0\r\n\r\n" + head("/v1/jobs/x/cancel", "content-length: 0")
    with connected(shared_api) as connection:
        connection.send(head("/v1/jobs", *lines) + smuggled)
        response = connection.answer()
        assert response.status in (400, 413)
        assert response.headers["connection"] == "close"
        assert response.problem()
        connection.assert_closed()
    assert_alive(shared_api)


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\x00" * 1000,
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /v1/jobs HTTP/1.1\r\n\r\n",
        b"GET http://[ HTTP/1.1\r\nhost: t\r\n\r\n",
        b"POST /v1/jobs HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"POST / HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffffffff\r\n",
    ],
)
def test_what_is_no_http_gets_a_4xx_and_the_end(shared_api: LiveApi, sent: bytes) -> None:
    with connected(shared_api) as connection:
        connection.send(sent)
        connection.socket.shutdown(socket.SHUT_WR)
        received = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    assert received == b"" or received.startswith(b"HTTP/1.1 4"), received
    assert_alive(shared_api)


def test_an_unread_body_of_any_route_ends_the_connection(shared_api: LiveApi) -> None:
    for method, target, status in (("GET", "/healthz", 200), ("POST", "/nothing", 404)):
        with connected(shared_api) as connection:
            connection.send(head(target, "content-length: 9", method=method))
            response = connection.answer()
            assert (response.status, response.headers["connection"]) == (status, "close")
            connection.assert_closed()
    with connected(shared_api) as connection:  # while one without a body keeps it
        for _ in range(3):
            connection.send(head("/healthz", method="GET"))
            response = connection.answer()
            assert response.status == 200
            assert response.headers["connection"] is None


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


async def _ask(api: LiveApi) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    address = urlsplit(api.url)
    return await asyncio.open_connection(address.hostname, address.port)


async def test_two_thousand_connections_at_once_are_all_answered(api: LiveApi) -> None:
    count = 2_000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * count + 500  # both ends are in this process
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    opened = await asyncio.gather(*(_ask(api) for _ in range(count)))
    request = head("/v1/jobs", f"content-length: {len(JOB)}", "connection: close") + JOB
    for _, writer in opened:
        writer.write(request)
    statuses = [(await reader.read()).split(b" ", 2)[1] for reader, _ in opened]
    for _, writer in opened:
        writer.close()
    queued = statuses.count(b"202")
    assert queued == 1_000, {s: statuses.count(s) for s in statuses}  # the bound of one tenant
    assert statuses.count(b"429") == count - queued, {s: statuses.count(s) for s in statuses}
    assert api.http.get("/healthz").status_code == 200


@pytest.fixture
def narrow_api(redis_url: str, redis_prefix: str, tmp_path: Path) -> Iterator[LiveApi]:
    """A server of at most four connections."""
    redis = RedisSettings(url=redis_url, prefix=redis_prefix)
    with live_api(redis, tmp_path, max_connections=4) as api:
        yield api


async def test_connections_above_the_bound_are_told_so(narrow_api: LiveApi) -> None:
    held = [await _ask(narrow_api) for _ in range(4)]
    for reader, writer in held:
        writer.write(head("/healthz", method="GET"))
        assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200")
    for target, shape in (("/v1/jobs", "code"), ("/v1/images/generations", "error")):
        with connected(narrow_api) as connection:
            connection.send(head(target, f"content-length: {len(JOB)}") + JOB)
            response = connection.answer()
            assert response.status == 503
            assert int(response.headers["retry-after"]) >= 1
            assert response.headers["connection"] == "close"
            assert response.headers["x-request-id"]
            assert shape in json.loads(response.body)
            connection.assert_closed()
    with connected(narrow_api) as connection:
        connection.send(head("/healthz", method="GET"))
        assert connection.answer().status == 200
    for _, writer in held:
        writer.close()
        await writer.wait_closed()
    assert_alive(narrow_api)

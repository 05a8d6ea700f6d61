"""What hostile or broken clients do to a connection: it ends in order, and the service lives on."""

import asyncio
import json
import resource
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from service.api.edge import LINGER_BYTES
from service.settings import RedisSettings
from tests.service.live_api import LiveApi, live_api
from tests.service.raw_http import JOB, Connection, assert_alive, connected, head

HUNDRED_MB = 100 << 20
CHUNK = b" " * (1 << 16)
SOCKET_BUFFERS = 16 << 20
"""More than the kernel takes of a body that nobody reads."""


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
        problem = second.problem()
        assert (second.status, problem["code"]) == (400, "malformed_http")
        assert problem["request_id"] == second.headers["x-request-id"]
        assert problem["detail"] == "The request can't be read as HTTP/1.1: illegal request line."
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

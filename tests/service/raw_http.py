"""A client that writes bytes, for what no HTTP library would send."""

import json
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import parse_headers
from typing import BinaryIO
from urllib.parse import urlsplit

from tests.service.live_api import LiveApi

JSON = {"content-type": "application/json"}
JOB = b'{"prompt": "a red apple"}'


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
    fields = ("host: localhost", "content-type: application/json", *lines)
    return "\r\n".join((f"{method} {target} HTTP/1.1", *fields, "", "")).encode("latin-1")


def assert_alive(api: LiveApi) -> None:
    assert api.http.get("/healthz").status_code == 200
    key = {} if api.http.get("/v1/jobs").status_code == 200 else {"x-api-key": api.new_key()}
    sent = api.http.post("/v1/jobs", content=JOB, headers=JSON | key)
    assert sent.status_code == 202, sent.text

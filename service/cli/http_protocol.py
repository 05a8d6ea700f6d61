"""uvicorn's HTTP/1.1, with what it lacks at the edge. Knows no route.

A connection must bring the whole head of a request in time; one above the bound has its requests
marked, so that the application refuses them in the words of their path; and what is no HTTP at all
is answered with a problem.
"""

import asyncio
import sys
from http import HTTPStatus
from typing import Any, cast

import h11
from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from service.api.edge import CROWDED, head_too_large
from service.api.middleware import new_request_id
from service.api.problems import respond
from service.api.refusals import Refusal
from service.cli.corked import CorkedTransport

_HEAD_TOO_LARGE = 431


class GuardedProtocol(H11Protocol):
    """One connection; takes its bounds from uvicorn's configuration.

    `limit_concurrency` is the number of connections; `head_timeout_s` is given by `partial`.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        head_timeout_s: float,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._most_connections = self.limit_concurrency
        self.limit_concurrency = None  # uvicorn's own refusal is plain text
        self._head_timeout_s = head_timeout_s
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Counts the connection, and gives it time for its first request."""
        super().connection_made(cast(asyncio.Transport, CorkedTransport(transport, self.loop)))
        most = self._most_connections
        if most is not None and len(self.connections) > most:
            self.app_state = {**self.app_state, CROWDED: True}
        self._time_the_head()

    def data_received(self, data: bytes) -> None:
        """Takes what the client sent."""
        super().data_received(data)
        self._time_the_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forgets the connection."""
        self._stop_timing()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Answers what is no HTTP, and ends the connection."""
        error = sys.exception()  # uvicorn calls this while it handles the parser's error
        hint = getattr(error, "error_status_hint", 400)
        status = _HEAD_TOO_LARGE if hint == _HEAD_TOO_LARGE else 400
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self._write(_not_http(status, str(error)))
        if self.cycle is not None:
            self.cycle.disconnected = True
        self.transport.close()

    def _write(self, refusal: Refusal) -> None:
        request_id = new_request_id()
        response = respond(refusal, {"path": "/", "state": {"request_id": request_id}})
        own = [(b"x-request-id", request_id.encode()), (b"connection", b"close")]
        head = h11.Response(
            status_code=refusal.status,
            headers=[*response.raw_headers, *own],
            reason=HTTPStatus(refusal.status).phrase,
        )
        for event in (head, h11.Data(data=bytes(response.body)), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")

    def _time_the_head(self) -> None:
        if self.conn.their_state is not h11.IDLE or self.transport.is_closing():
            self._stop_timing()
        elif self._head_timer is None:
            self._head_timer = self.loop.call_later(
                self._head_timeout_s, self.timeout_keep_alive_handler
            )

    def _stop_timing(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


def _not_http(status: int, reason: str) -> Refusal:
    if status == _HEAD_TOO_LARGE:
        return head_too_large()
    title = "The request is not HTTP"
    reason = reason.partition(": bytearray")[0].rstrip(":")  # h11 shows what it could not read
    detail = f"The request can't be read as HTTP/1.1: {reason}."
    return Refusal(status=status, code="malformed_http", title=title, detail=detail)

"""Calls sent over blocking connections, and repeated by the rules of `retries`.

Knows no call by name.
"""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import httpx
from tenacity import Retrying

from service.client.calls import Call
from service.client.retries import Patience, reported
from service.client.streams import Follower
from service.views.event import JobEvent

T = TypeVar("T")


class BlockingConnection:
    """Sends calls to one server.

    Args:
        options: of the `httpx` client.
        patience: when a call is sent again.
        sleep: how pauses are made.
    """

    def __init__(
        self, options: dict[str, Any], patience: Patience, sleep: Callable[[float], None]
    ) -> None:
        self._http = httpx.Client(**options)
        self._timeout_s: float = options["timeout"]
        self._patience = patience
        self._sleep = sleep

    def close(self) -> None:
        """Closes all connections."""
        self._http.close()

    def send(self, call: Call[T]) -> T:
        """The result of a call.

        Raises:
            ApiError: the server refused.
            UnreadableAnswer: it said what this release doesn't understand.
            Unavailable: it can't be reached.
        """
        rules = self._patience.rules(repeatable=call.repeatable)
        with reported(self._http.base_url):
            for attempt in Retrying(**rules, sleep=self._sleep):
                with attempt:
                    response = self._http.request(
                        call.method, call.path, **call.options(self._timeout_s)
                    )
                    return call.outcome(response, attempt.retry_state.attempt_number)
        raise AssertionError("the last attempt returns or raises")

    def follow(self, follower: Follower) -> Iterator[JobEvent]:
        """The events of a job to its end, over as many connections as it takes; raises as `send`.

        The attempts are counted anew with every event.
        """
        stream = _EventStream(self._http, follower, self._timeout_s)
        retrying = Retrying(**self._patience.rules(repeatable=True), sleep=self._sleep)
        try:
            while True:
                with reported(self._http.base_url):
                    event = retrying(stream.next)
                if event is None:
                    return
                yield event
        finally:
            stream.close()


class _EventStream:
    """The events of one job, one at a time, over one connection after another."""

    def __init__(self, http: httpx.Client, follower: Follower, timeout_s: float) -> None:
        self._http = http
        self._follower = follower
        self._timeout_s = timeout_s
        self._response: httpx.Response | None = None
        self._lines: Iterator[str] | None = None

    def next(self) -> JobEvent | None:
        """The next event, over a new connection if there is none; None after the end.

        Raises:
            TransportError: the connection broke; the next call makes another.
            ApiError: the server refused.
        """
        if self._follower.ended:
            return None
        try:
            for line in self._lines or self._connect():
                event = self._follower.feed(line)
                if event is not None:
                    return event
            raise httpx.RemoteProtocolError("the stream broke off")
        except httpx.TransportError:
            self.close()
            raise

    def close(self) -> None:
        """Closes the connection, if there is one."""
        response, self._response, self._lines = self._response, None, None
        if response is not None:
            response.close()

    def _connect(self) -> Iterator[str]:
        call = self._follower.connect()
        request = self._http.build_request(call.method, call.path, **call.options(self._timeout_s))
        self._response = response = self._http.send(request, stream=True)
        if not response.is_success:
            response.read()
            self.close()
        self._lines = call.outcome(response, attempt=1).iter_lines()
        return self._lines

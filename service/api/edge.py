"""What a client may do to a connection. Knows no route.

A request's body is bounded in size and in time, the connections in their number, and what is
refused has a defined end: a response that goes out before the whole body came in ends its
connection. What the client still sends is thrown away for a moment, so that it can read the
response, and then cut off. Plain ASGI, so that a stream passes through piece by piece.
"""

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.problems import refusal_of, respond
from service.api.refusals import Refusal
from service.errors import Unavailable

CROWDED = "crowded"
"""The server sets it in a request's state where it has more connections than it should."""
MAX_HEAD_BYTES = 1 << 16
LINGER_S, LINGER_BYTES = 1.0, 1 << 20
SLOWEST_BYTES_PER_S = 1024
"""A body that comes in slower than this, over all, is taken for an attack."""
_LONGEST_NUMBER = 20  # digits; more of them than Python would turn into an integer
_ALWAYS_ANSWERED = "/healthz"
_RETRY_AFTER_S = 2


class Edge:
    """Bounds what is served.

    Args:
        app: what is served.
        max_body_bytes: bound of a body.
        exceptions: other bounds, by method and path; one that ends in a slash is of all below it.
        body_timeout_s: longest time without a piece of a body.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        max_body_bytes: int,
        exceptions: Mapping[tuple[str, str], int],
        body_timeout_s: float,
    ) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes
        self._exceptions = exceptions
        self._below = [(*key, most) for key, most in exceptions.items() if key[1].endswith("/")]
        self._body_timeout_s = body_timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves a request within its bounds."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        most = self._bound(scope["method"], scope["path"])
        head = _head(scope)
        refusal = _refusal(scope, head)
        body = _Body(scope, receive, send, head, most=most, timeout_s=self._body_timeout_s)
        if refusal is None:
            await self._app(scope, body.receive, body.send)
        else:
            body.closes = True
            await respond(refusal, scope)(scope, body.receive, body.send)

    def _bound(self, method: str, path: str) -> int:
        exact = self._exceptions.get((method, path))
        if exact is not None:
            return exact
        for of, prefix, most in self._below:
            if method == of and path.startswith(prefix):
                return most
        return self._max_body_bytes


@dataclass(frozen=True, slots=True)
class _Head:
    """What the head of a request says of its size and of its body's."""

    size_bytes: int
    content_length: bytes | None
    is_chunked: bool


def _head(scope: Scope) -> _Head:
    """All in one pass over the headers."""
    size_bytes = len(scope["path"]) + len(scope["query_string"])
    content_length, is_chunked = None, False
    for name, value in scope["headers"]:
        size_bytes += len(name) + len(value)
        if name == b"content-length" and content_length is None:
            content_length = value
        elif name == b"transfer-encoding":
            is_chunked = True
    return _Head(size_bytes, content_length, is_chunked)


class _Body:
    """One request's body on its way in, and the response on its way out.

    `closes` is whether the connection ends with the response.
    """

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        head: _Head,
        *,
        most: int,
        timeout_s: float,
    ) -> None:
        self._receive, self._send = receive, send
        self._most, self._timeout_s = most, timeout_s
        declared = (head.content_length or b"0")[:_LONGEST_NUMBER]
        self._declared = int(declared) if declared.isdigit() else 0
        self._whole = self._declared == 0 and not head.is_chunked
        self._seen = 0
        self._started_s = time.monotonic()
        self._answered = False
        self.closes: bool = scope.get("state", {}).get(CROWDED, False)

    async def receive(self) -> Message:
        """The next piece of the body.

        Raises:
            HTTPException: status 413, it is too large; 408, it came too slowly.
        """
        if self._whole:
            return await self._receive()
        if self._answered:
            return await self._rest()
        if self._declared > self._most:
            raise self._too_large()
        try:
            async with asyncio.timeout(self._patience_s()):
                message = await self._piece()
        except TimeoutError:
            raise HTTPException(408, "The body came too slowly, or not at all.") from None
        if self._seen > self._most:
            raise self._too_large()
        return message

    async def send(self, message: Message) -> None:
        """Passes a piece of the response on."""
        if message["type"] == "http.response.start":
            self._answered = True
            self.closes = self.closes or not self._whole
            if self.closes:
                MutableHeaders(scope=message)["connection"] = "close"
        elif not (self._whole or message.get("more_body", False)):
            await self._send({**message, "more_body": True})
            await self._linger()
            message = {"type": "http.response.body", "body": b"", "more_body": False}
        await self._send(message)

    async def _piece(self) -> Message:
        message = await self._receive()
        self._seen += len(message.get("body", b""))
        self._whole = not message.get("more_body", False)
        return message

    async def _rest(self) -> Message:
        """The end of the connection, which is all that matters once the response has begun."""
        while not self._whole:
            await self._piece()
            if self._seen > self._most:
                return {"type": "http.disconnect"}
        return await self._receive()

    async def _linger(self) -> None:
        until = self._seen + LINGER_BYTES
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S):
                while not self._whole and self._seen < until:
                    await self._piece()

    def _patience_s(self) -> float:
        due_s = self._started_s + self._timeout_s + self._seen / SLOWEST_BYTES_PER_S
        return min(self._timeout_s, due_s - time.monotonic())

    def _too_large(self) -> HTTPException:
        return HTTPException(413, f"The body may have at most {self._most} bytes.")


def head_too_large() -> Refusal:
    """What is said of a request whose address and headers are too long."""
    title = "The head of the request is too large"
    detail = f"Address and headers may have at most {MAX_HEAD_BYTES} bytes."
    return Refusal(status=431, code="head_too_large", title=title, detail=detail)


def _refusal(scope: Scope, head: _Head) -> Refusal | None:
    """Why a request is not even looked at."""
    if head.is_chunked and head.content_length is not None:
        detail = "A body has a Content-Length or a Transfer-Encoding, never both."
        title = "The request is ambiguous"
        return Refusal(status=400, code="ambiguous_length", title=title, detail=detail)
    if head.size_bytes > MAX_HEAD_BYTES:
        return head_too_large()
    if scope.get("state", {}).get(CROWDED) and scope["path"] != _ALWAYS_ANSWERED:
        error = Unavailable("Too many connections are open.", retry_after_s=_RETRY_AFTER_S)
        return refusal_of(error)
    return None

"""A client's own server: keeps what it is sent, and answers as a test tells it."""

import asyncio
import contextlib
import json
import ssl
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Received:
    """One request."""

    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]


@dataclass(slots=True)
class Receiver:
    """A running server; `answers` are given in turn, then 204s.

    While `open_gate` is cleared it takes requests and does not answer. With `floods`, its answers
    have no end.
    """

    port: int = 0
    tls_names: list[str | None] = field(default_factory=list)
    answers: deque[bytes] = field(default_factory=deque)
    received: list[Received] = field(default_factory=list)
    arrivals: asyncio.Queue[Received] = field(default_factory=asyncio.Queue)
    open_gate: asyncio.Event = field(default_factory=asyncio.Event)
    floods: bool = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    def answer(self, status: int, *headers: str, body: bytes = b"") -> None:
        """Queues an answer."""
        lines = [f"HTTP/1.1 {status} Said", f"content-length: {len(body)}", *headers, "", ""]
        self.answers.append("\r\n".join(lines).encode() + body)

    async def next(self) -> Received:
        """The next request that was not asked for yet."""
        return await self.arrivals.get()

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            first, *lines = head.strip().split("\r\n")
            pairs = (line.split(": ", 1) for line in lines)
            headers = {name.lower(): value for name, value in pairs}
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            request = Received(first.split()[1], headers, body)
            self.received.append(request)
            self.arrivals.put_nowait(request)
            await self.open_gate.wait()
            answer = self.answers.popleft() if self.answers else b"HTTP/1.1 204 Good\r\n\r\n"
            writer.write(answer)
            await writer.drain()
            while self.floods:
                writer.write(b"x" * (1 << 16))
                await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def receiving(
    host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Receiver]:
    """Serves until the block ends."""
    receiver = Receiver()
    receiver.open_gate.set()
    if tls is not None:
        tls.sni_callback = lambda _socket, name, _context: receiver.tls_names.append(name)
    server = await asyncio.start_server(receiver.take, host, port, ssl=tls)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        receiver.open_gate.set()
        server.close()
        await server.wait_closed()

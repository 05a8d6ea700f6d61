"""Server-sent events as every front door sends them.

A stream closes its source when the client goes, and comments keep a quiet one open. Knows no job
and no dialect.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator

from fastapi.sse import KEEPALIVE_COMMENT, EventSourceResponse
from starlette.types import Receive, Scope, Send

_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


class EventStream(EventSourceResponse):
    """Closes its source as soon as the client has gone.

    Args:
        source: blocks of the stream, encoded.
        keepalive_s: a silence so long is broken by a comment, so that proxies keep it open.
    """

    def __init__(self, source: AsyncGenerator[bytes, None], keepalive_s: float) -> None:
        self._source = _with_keepalive(source, keepalive_s)
        super().__init__(self._source, headers=_HEADERS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the stream."""
        async with contextlib.aclosing(self._source):
            await super().__call__(scope, receive, send)


async def _with_keepalive(
    source: AsyncGenerator[bytes, None], interval_s: float
) -> AsyncGenerator[bytes, None]:
    upcoming: asyncio.Task[bytes | None] | None = None
    try:
        while True:
            upcoming = upcoming or asyncio.create_task(_next(source))
            done, _ = await asyncio.wait({upcoming}, timeout=interval_s)
            if not done:
                yield KEEPALIVE_COMMENT
                continue
            block, upcoming = upcoming.result(), None
            if block is None:
                return
            yield block
    finally:
        if upcoming is not None:
            upcoming.cancel()
            await asyncio.wait({upcoming})
        await source.aclose()


async def _next(source: AsyncIterator[bytes]) -> bytes | None:
    return await anext(source, None)

"""Server-sent events as every front door sends them.

A stream closes its source when the client goes, and comments keep a quiet one open. Knows no job
and no dialect.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator

from fastapi.sse import KEEPALIVE_COMMENT, EventSourceResponse
from starlette.types import Receive, Scope, Send

from service.api.stopping import stop

_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


class EventStream(EventSourceResponse):
    """Closes its source as soon as the client has gone.

    Args:
        source: blocks of the stream, encoded.
        keepalive_s: a silence so long is broken by a comment, so that proxies keep it open.
    """

    def __init__(self, source: AsyncGenerator[bytes, None], keepalive_s: float) -> None:
        self._source, self._keepalive_s = source, keepalive_s
        self._upcoming: asyncio.Task[bytes | None] | None = None
        super().__init__(self._blocks(), headers=_HEADERS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the stream; when this returns, the source is closed."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            # Here and not in the generator: there, whatever is awaited is canceled once more.
            if self._upcoming is not None:
                await stop(self._upcoming)
            await self._source.aclose()

    async def _blocks(self) -> AsyncGenerator[bytes, None]:
        while True:
            self._upcoming = self._upcoming or asyncio.create_task(_next(self._source))
            done, _ = await asyncio.wait({self._upcoming}, timeout=self._keepalive_s)
            if not done:
                yield KEEPALIVE_COMMENT
                continue
            block, self._upcoming = self._upcoming.result(), None
            if block is None:
                return
            yield block


async def _next(source: AsyncIterator[bytes]) -> bytes | None:
    return await anext(source, None)

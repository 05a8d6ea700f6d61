"""Following a job through outages: whoever follows waits until Redis is back. Knows no dialect."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TypeVar

from service.errors import Unavailable
from service.events import Event
from service.queue.redis import RedisJobQueue

RETRY_S = 1.0

T = TypeVar("T")


async def followed(
    queue: RedisJobQueue, job_id: str, after: str | None = None
) -> AsyncGenerator[tuple[str, Event], None]:
    """The events of a job after `after`, as `RedisJobQueue.follow` gives them, to its end.

    Raises:
        NotFound: there is no such job, or none any more.
        InvalidRequest: `after` is not an event id.
    """
    while True:
        try:
            async with contextlib.aclosing(queue.follow(job_id, after)) as events:
                async for after, event in events:
                    yield after, event
            return
        except Unavailable:
            await asyncio.sleep(RETRY_S)


async def patiently(ask: Callable[[], Awaitable[T]]) -> T:
    """What `ask` answers, as soon as Redis can be reached."""
    while True:
        try:
            return await ask()
        except Unavailable:
            await asyncio.sleep(RETRY_S)

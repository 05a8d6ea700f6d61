"""Wakes the coroutines of this process that wait for something to happen to a job.

One pub/sub connection serves all of them, however many clients follow. A hint may be lost, so who
waits also looks again after `FALLBACK_S`. Knows neither jobs nor events.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from redis.asyncio import Redis
from redis.exceptions import RedisError

FALLBACK_S = 1.0


class Hint:
    """One coroutine's wait for news of one job."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def give(self) -> None:
        """Ends the wait, or the next one."""
        self._event.set()

    async def wait(self, timeout_s: float = FALLBACK_S) -> None:
        """Returns when there may be news, at the latest after `timeout_s`."""
        with suppress(TimeoutError):
            # Not `wait_for`: in Python 3.11 it loses a cancellation that comes with the event.
            async with asyncio.timeout(min(timeout_s, FALLBACK_S)):
                await self._event.wait()
        self._event.clear()


class Hub:
    """Listens on one channel whose messages are job ids, and beats a pulse once a second."""

    def __init__(
        self, client: Redis, channel: str, pulse: Callable[[], Awaitable[None]], pulse_s: float
    ) -> None:
        self._client, self._channel = client, channel
        self._pulse, self._pulse_s = pulse, pulse_s
        self._hints: dict[str, set[Hint]] = defaultdict(set)
        self._tasks: list[asyncio.Task[None]] = []
        self._closing = asyncio.Event()

    def start(self) -> None:
        """Starts both tasks in the running loop, once."""
        if not self._tasks and not self._closing.is_set():
            self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._beat())]

    async def aclose(self) -> None:
        """Ends both tasks, for good."""
        # Both: the client may swallow a cancellation that comes while it connects.
        self._closing.set()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    def is_watched(self, job_id: str) -> bool:
        """Whether some coroutine of this process waits for news of the job."""
        return bool(self._hints.get(job_id))

    @asynccontextmanager
    async def watch(self, job_id: str) -> AsyncIterator[Hint]:
        """A hint that is given when something happens to the job."""
        hint = Hint()
        self._hints[job_id].add(hint)
        try:
            yield hint
        finally:
            self._hints[job_id].discard(hint)
            if not self._hints[job_id]:
                del self._hints[job_id]

    async def _beat(self) -> None:
        while not self._closing.is_set():
            await self._pulse()
            await self._pause(self._pulse_s)

    async def _listen(self) -> None:
        while not self._closing.is_set():
            with suppress(RedisError, OSError):
                await self._receive()
            await self._pause(FALLBACK_S / 2)

    async def _pause(self, pause_s: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._closing.wait(), pause_s)

    async def _receive(self) -> None:
        async with self._client.pubsub(ignore_subscribe_messages=True) as pubsub:
            await pubsub.subscribe(self._channel)
            while not self._closing.is_set():
                message = await pubsub.get_message(timeout=1.0)
                if message is not None:
                    for hint in self._hints.get(message["data"], ()):
                        hint.give()

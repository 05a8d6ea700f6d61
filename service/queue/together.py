"""Sends the calls of many coroutines together: one write and one read for all that wait.

A call alone costs a connection out of the pool, two system calls and two turns of the event loop;
under load, most of that is shared. While one batch is under way the next one gathers, so that a
lone call waits for nobody. Knows no job.
"""

import asyncio
import copy
from collections import deque
from collections.abc import Mapping
from hashlib import sha1
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError

MOST = 128
"""So many calls go together at most, so that no answer waits for too many others."""
LANES = 2
"""So many batches are under way at a time: one is read while another one is sent."""


class Together:
    """Runs scripts for any number of coroutines of one event loop.

    Every script must be safe to repeat: when the connection breaks, the client repeats a batch.

    Args:
        client: whose pool the batches use.
        scripts: texts of the scripts, by name.
    """

    def __init__(self, client: "Redis", scripts: Mapping[str, str]) -> None:
        self._client, self._scripts = client, scripts
        self._digests = {
            name: sha1(text.encode(), usedforsecurity=False).hexdigest()
            for name, text in scripts.items()
        }
        self._waiting: deque[tuple[str, tuple[str, ...], asyncio.Future[Any]]] = deque()
        self._lanes: set[asyncio.Task[None]] = set()

    async def run(self, script: str, key: str, argument: str) -> Any:
        """What a script answers; raises what Redis and its client raise."""
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((script, (key, argument), answer))
        if len(self._lanes) < LANES:
            lane = asyncio.create_task(self._send_all())
            self._lanes.add(lane)
            lane.add_done_callback(self._lanes.discard)
        return await answer

    async def _send_all(self) -> None:
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(MOST, len(self._waiting)))]
            try:
                answers = await self._send(batch)
            except BaseException as error:
                for _, _, future in batch:
                    if not future.done():
                        future.set_exception(_of_its_own(error))
                if not isinstance(error, Exception):
                    raise
                continue
            for (_, _, future), answer in zip(batch, answers, strict=True):
                _settle(future, answer)

    async def _send(
        self, batch: list[tuple[str, tuple[str, ...], asyncio.Future[Any]]]
    ) -> list[Any]:
        async with self._client.pipeline(transaction=False) as pipeline:
            for script, arguments, _ in batch:
                pipeline.evalsha(self._digests[script], 1, *arguments)
            answers: list[Any] = await pipeline.execute(raise_on_error=False)
        if any(isinstance(answer, NoScriptError) for answer in answers):
            return await self._send_again(batch, answers)
        return answers

    async def _send_again(
        self, batch: list[tuple[str, tuple[str, ...], asyncio.Future[Any]]], answers: list[Any]
    ) -> list[Any]:
        """Teaches Redis the scripts that it has forgotten, or never knew."""
        for place, answer in enumerate(answers):
            if isinstance(answer, NoScriptError):
                script, arguments, _ = batch[place]
                try:
                    answers[place] = await self._client.eval(self._scripts[script], 1, *arguments)
                except (RedisError, OSError) as error:
                    answers[place] = error
        return answers


def _settle(future: "asyncio.Future[Any]", answer: Any) -> None:
    if future.done():
        return  # whoever asked has gone
    if isinstance(answer, Exception):
        future.set_exception(answer)
    else:
        future.set_result(answer)


def _of_its_own(error: BaseException) -> BaseException:
    """An error for one of many to raise, who would all add their tracebacks to the same one."""
    if isinstance(error, Exception):
        own = copy.copy(error)
        own.__cause__ = error
        return own
    return asyncio.CancelledError()

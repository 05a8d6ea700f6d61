import asyncio
import contextlib

import pytest

from service.api.stopping import stop
from service.queue.hub import Hint


async def test_a_task_is_stopped_though_it_misses_the_first_cancellation() -> None:
    missed = 0

    async def deaf_once() -> None:
        nonlocal missed
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        missed += 1
        await asyncio.Event().wait()

    task = asyncio.create_task(deaf_once())
    await asyncio.sleep(0)
    await stop(task)
    assert (missed, task.cancelled()) == (1, True)


async def test_a_task_that_fails_while_it_stops_is_stopped_too() -> None:
    async def fail_at_the_end() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError

    task = asyncio.create_task(fail_at_the_end())
    await asyncio.sleep(0)
    await stop(task)
    assert isinstance(task.exception(), ValueError)


async def test_a_wait_that_gets_its_hint_still_hears_that_it_is_canceled() -> None:
    hint = Hint()
    waiting = asyncio.create_task(hint.wait())
    await asyncio.sleep(0)
    hint.give()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting

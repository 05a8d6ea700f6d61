"""The end of a task that is no longer wanted. Knows nothing of what it did."""

import asyncio
from typing import Any

_AGAIN_S = 0.25


async def stop(task: asyncio.Task[Any]) -> None:
    """Cancels a task and returns once it has ended, however it ended.

    One cancellation may be lost, in a library or where it meets the end of a wait, so it is said
    again until it is heard.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=_AGAIN_S)
    if not task.cancelled():
        task.exception()  # seen, so that nobody logs it

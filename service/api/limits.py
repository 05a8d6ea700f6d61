"""How often a key may create jobs: counted over all API processes, within a window that moves.

A refused request counts for nothing, so waiting as long as it says is enough; and while a key has
to wait, its requests are refused without asking Redis. Knows no route.
"""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

from limits import RateLimitItemPerSecond
from limits.aio.storage import RedisStorage
from limits.aio.strategies import MovingWindowRateLimiter
from redis.asyncio import Redis
from starlette.requests import Request

from service.api_keys import Allowance
from service.errors import RateLimited
from service.queue.connection import redis_errors

POLICY = "default"
_ANY_REDIS = "async+redis://"  # the client knows its own; the storage wants one in any case


class RateLimits:
    """Charges requests to keys.

    Args:
        client: of Redis.
        prefix: of every key of the service.
        clock: Unix time, s.
    """

    def __init__(self, client: Redis, prefix: str, clock: Callable[[], float] = time.time) -> None:
        pool: Any = client.connection_pool
        storage = RedisStorage(
            _ANY_REDIS, implementation="redispy", key_prefix=f"{prefix}rate", connection_pool=pool
        )
        self._limiter = MovingWindowRateLimiter(storage)
        self._clock = clock
        self._waiting: dict[str, float] = {}

    async def charge(self, request: Request, key_id: str, rate: Allowance) -> None:
        """Counts a request that creates a job, and has its response tell what is left.

        Args:
            request: whose response.
            key_id: of the key that it came with.
            rate: of that key.

        Raises:
            RateLimited: the key has to wait; this request did not count.
            Unavailable: Redis can't be reached.
        """
        left, reset_s = await self._take(key_id, rate)
        wait_s = max(1, math.ceil(reset_s - self._clock()))
        tell(
            request,
            {
                "RateLimit": f'"{POLICY}";r={max(left, 0)};t={wait_s}',
                "RateLimit-Policy": f'"{POLICY}";q={rate.count};w={rate.window_s}',
            },
        )
        if left < 0:
            raise RateLimited(
                f"This key may create {rate.count} jobs in {rate.window_s} s: wait {wait_s} s.",
                retry_after_s=wait_s,
                members={"violated_policies": [POLICY]},
            )

    async def _take(self, key_id: str, rate: Allowance) -> tuple[int, float]:
        """What is left after one more request, -1 if it is refused, and until when, Unix time."""
        limit = RateLimitItemPerSecond(rate.count, rate.window_s, key_id)
        name = limit.key_for()
        waits_until_s = self._waiting.get(name, 0.0)
        if self._clock() < waits_until_s:
            return -1, waits_until_s
        with redis_errors():
            taken = await self._limiter.hit(limit)
            window = await self._limiter.get_window_stats(limit)
        if taken:
            self._waiting.pop(name, None)
            return window.remaining, window.reset_time
        self._waiting[name] = window.reset_time
        return -1, window.reset_time


def tell(request: Request, headers: Mapping[str, str]) -> None:
    """Adds headers to the response of a request, whatever it will be."""
    request.scope.setdefault("state", {}).setdefault("headers", {}).update(headers)

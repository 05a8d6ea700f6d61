"""Who sent which picture: a tenant may name by its SHA-256 only what it has sent itself.

Pictures are kept once, whoever sends them, so knowing a picture's SHA-256 must not be enough to get
at it. Knows no picture.
"""

from collections.abc import Iterable

from redis.asyncio import Redis

from service.queue.connection import redis_errors
from service.queue.keys import quoted


class Uploads:
    """Remembers senders for as long as the store keeps an unused picture.

    Args:
        client: of Redis.
        prefix: of every key of the service.
        kept_s: how long after the last use.
    """

    def __init__(self, client: Redis, prefix: str, *, kept_s: float) -> None:
        self._client, self._prefix, self._kept_ms = client, prefix, round(kept_s * 1000)

    async def add(self, tenant: str, digests: Iterable[str]) -> None:
        """The tenant has sent these.

        Raises:
            Unavailable: Redis can't be reached, or is full.
        """
        with redis_errors():
            async with self._client.pipeline(transaction=False) as pipeline:
                for digest in digests:
                    pipeline.set(self._key(tenant, digest), "", px=self._kept_ms)
                await pipeline.execute()

    async def of(self, tenant: str, digests: Iterable[str]) -> frozenset[str]:
        """Those of `digests` that the tenant has sent, which counts as a use of them.

        Raises:
            Unavailable: Redis can't be reached.
        """
        asked = list(digests)
        with redis_errors():
            async with self._client.pipeline(transaction=False) as pipeline:
                for digest in asked:
                    pipeline.pexpire(self._key(tenant, digest), self._kept_ms)
                known = await pipeline.execute()
        return frozenset(digest for digest, is_known in zip(asked, known, strict=True) if is_known)

    def _key(self, tenant: str, digest: str) -> str:
        return f"{self._prefix}upload:{quoted(tenant)}:{digest}"

"""The API keys as the API's processes know them: all of them, in memory.

A request costs no round trip. A process reads the keys when it starts, again when it is told that
they have changed, and looks once a second whether it missed that; while Redis is away, what it
knows counts. It also leaves word of what it has read, so that who changes a key can wait for all.
"""

import asyncio
import json
import secrets
import time
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from service.api_keys import Allowance, ApiKey, KeyRing
from service.errors import ServiceError
from service.queue.connection import redis_errors
from service.queue.hub import Hub

KEYS, VERSION, READERS = "api-keys", "api-keys-version", "api-keys-readers"
KEYS_CHANGED = "api-keys"
"""The hint that says so."""


class KeyTable:
    """What one process knows of the keys."""

    def __init__(self, client: Redis, prefix: str, hub: Hub) -> None:
        self._client, self._prefix, self._hub = client, prefix, hub
        self._reader = secrets.token_hex(8)
        self._ring: KeyRing | None = None
        self._version = -1
        self._following: asyncio.Task[None] | None = None
        self._closing = False
        self._reading = asyncio.Lock()

    def start(self) -> None:
        """Starts to follow the keys in the running loop, once."""
        if self._following is None and not self._closing:
            self._hub.start()
            self._following = asyncio.create_task(self._follow())

    async def aclose(self) -> None:
        """Stops following."""
        self._closing = True
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)
        with suppress(RedisError, OSError):
            await self._client.hdel(self._prefix + READERS, self._reader)

    async def ring(self) -> KeyRing:
        """The keys as they were last read.

        Raises:
            Unavailable: they never were, since Redis can't be reached.
        """
        if self._ring is None:
            self.start()
            await self.refresh()
            assert self._ring is not None
        return self._ring

    async def refresh(self) -> None:
        """Reads the keys if they have changed.

        Raises:
            Unavailable: Redis can't be reached.
        """
        async with self._reading:
            with redis_errors():
                version = int(await self._client.get(self._prefix + VERSION) or 0)
                if version != self._version or self._ring is None:
                    await self._read()
                with suppress(RedisError):  # a full Redis; the keys themselves could be read
                    seen = f"{self._version} {int(time.time() * 1000)}"
                    await self._client.hset(self._prefix + READERS, self._reader, seen)

    async def _follow(self) -> None:
        async with self._hub.watch(KEYS_CHANGED) as hint:
            while not self._closing:
                with suppress(ServiceError):
                    await self.refresh()
                await hint.wait()

    async def _read(self) -> None:
        async with self._client.pipeline(transaction=True) as pipeline:
            pipeline.get(self._prefix + VERSION)
            pipeline.hvals(self._prefix + KEYS)
            version, records = await pipeline.execute()
        self._ring = KeyRing(key_from_json(record) for record in records)
        self._version = int(version or 0)


def key_to_json(key: ApiKey) -> str:
    """A key as it is stored."""
    allowances = {"rate": key.rate and str(key.rate), "quota": key.quota and str(key.quota)}
    return json.dumps(asdict(key) | allowances)


def key_from_json(text: str) -> ApiKey:
    """The inverse of `key_to_json`; members that this release doesn't know are dropped."""
    record: dict[str, Any] = json.loads(text)
    for name in ("rate", "quota"):
        record[name] = record[name] and Allowance.parse(record[name])
    known = ApiKey.__dataclass_fields__.keys()
    return ApiKey(**{name: value for name, value in record.items() if name in known})

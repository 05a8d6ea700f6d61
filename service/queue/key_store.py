"""The API keys as the command line changes them.

A change returns when every process of the API has heard of it: each of them leaves word of the
version that it has read (`KeyTable`). One that doesn't within `PATIENCE_S` looks by itself by then,
or is dead. Knows no HTTP.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any, Self

from redis.exceptions import WatchError

from service.api_keys import ApiKey
from service.errors import Conflict, NotFound
from service.queue.connection import redis_errors, worker_client
from service.queue.hub import FALLBACK_S
from service.queue.key_table import (
    KEYS,
    KEYS_CHANGED,
    READERS,
    VERSION,
    key_from_json,
    key_to_json,
)
from service.queue.keys import HINTS

PATIENCE_S = 1.5 * FALLBACK_S
_READER_LIVES_S = 3 * FALLBACK_S
_READER_GOES_S = 60.0
_LOOK_S = 0.005
_RETRIES = 3


class KeyStore:
    """Creates, lists, revokes and rotates keys; a context manager."""

    def __init__(
        self, url: str, *, prefix: str = "glide:{q}:", clock: Callable[[], float] = time.time
    ) -> None:
        """Connects to nothing yet.

        Args:
            url: of Redis.
            prefix: of every key of the service.
            clock: Unix time, s.

        Raises:
            ServiceError: the URL is not one of a Redis server.
        """
        self._client = worker_client(url, retries=_RETRIES)
        self._prefix = prefix
        self._clock = clock

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def create(self, key: ApiKey) -> None:
        """Keeps a fresh key.

        Raises:
            Unavailable: Redis can't be reached, or is full.
        """
        self._change(key.id, lambda _: key)

    def list(self) -> list[ApiKey]:
        """Every key, the oldest first, revoked ones too."""
        with redis_errors():
            records: Any = self._client.hvals(self._prefix + KEYS)
        keys = [key_from_json(record) for record in records]
        return sorted(keys, key=lambda key: (key.created_at_ms, key.id))

    def revoke(self, key_id: str) -> ApiKey:
        """Voids a key, for good; without effect on one that is void.

        Raises:
            NotFound: there is no such key.
        """

        def revoked(key: ApiKey | None) -> ApiKey:
            found = _found(key, key_id)
            if found.revoked_at_ms is not None:
                return found
            return replace(found, revoked_at_ms=self._now_ms())

        return self._change(key_id, revoked)

    def rotate(self, key_id: str, digest: str, grace_s: float = 0.0) -> ApiKey:
        """Gives a key another text, whose SHA-256 is `digest`; the old one counts for `grace_s`.

        Raises:
            NotFound: there is no such key.
            Conflict: it is revoked.
        """

        def rotated(key: ApiKey | None) -> ApiKey:
            found = _found(key, key_id)
            if found.revoked_at_ms is not None:
                raise Conflict(f"The key {key_id} is revoked: create another.")
            until_ms = self._now_ms() + round(grace_s * 1000)
            return replace(
                found,
                digest=digest,
                previous_digest=found.digest if grace_s else None,
                previous_until_ms=until_ms if grace_s else 0,
            )

        return self._change(key_id, rotated)

    def _change(self, key_id: str, change: Callable[[ApiKey | None], ApiKey]) -> ApiKey:
        """Puts `change` of a key in its place, and returns it once all have heard of it."""
        with redis_errors():
            while True:
                with suppress(WatchError):
                    changed, version = self._try_change(key_id, change)
                    break
            self._wait_for_readers(version)
        return changed

    def _try_change(
        self, key_id: str, change: Callable[[ApiKey | None], ApiKey]
    ) -> tuple[ApiKey, int]:
        keys = self._prefix + KEYS
        with self._client.pipeline(transaction=True) as pipeline:
            pipeline.watch(keys)  # type: ignore[no-untyped-call]
            record: Any = pipeline.hget(keys, key_id)
            changed = change(key_from_json(record) if record else None)
            pipeline.multi()
            pipeline.hset(keys, key_id, key_to_json(changed))
            pipeline.incr(self._prefix + VERSION)
            pipeline.publish(self._prefix + HINTS, KEYS_CHANGED)
            _, version, _ = pipeline.execute()
        return changed, int(version)

    def _wait_for_readers(self, version: int) -> None:
        until_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < until_s and self._are_behind(version):
            time.sleep(_LOOK_S)

    def _are_behind(self, version: int) -> bool:
        """Whether a live process has not read `version` yet; forgets long dead ones."""
        now_ms = self._now_ms()
        readers: Any = self._client.hgetall(self._prefix + READERS)
        seen = {name: tuple(map(int, text.split())) for name, text in readers.items()}
        gone = [n for n, (_, at_ms) in seen.items() if now_ms - at_ms > _READER_GOES_S * 1000]
        if gone:
            self._client.hdel(self._prefix + READERS, *gone)
        return any(
            read < version and now_ms - at_ms < _READER_LIVES_S * 1000
            for read, at_ms in seen.values()
        )

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)


def _found(key: ApiKey | None, key_id: str) -> ApiKey:
    if key is None:
        raise NotFound(f"There is no key {key_id!r}: `glide keys list` shows all.")
    return key

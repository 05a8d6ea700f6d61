"""Redis clients with every setting that matters named, and Redis's errors in the service's words.

redis-py 8's own defaults are wrong for a queue: it repeats each command ten times with waits of up
to a second, gives up on a blocking read after five, and its asyncio pool fails at the 101st
connection where it should wait. Repeating is safe here, because every transition is idempotent.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from redis import BlockingConnectionPool, Redis
from redis.asyncio import BlockingConnectionPool as AsyncBlockingConnectionPool
from redis.asyncio import Redis as AsyncRedis
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import (
    ClusterDownError,
    ConnectionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TimeoutError,
)
from redis.retry import Retry

from service.errors import ServiceError, Unavailable

RETRY_AFTER_S = 2
_REPEATED = (ConnectionError, TimeoutError, ReadOnlyError)
_TEMPORARY_CODES = ("MISCONF", "LOADING", "BUSY", "READONLY", "MASTERDOWN", "NOREPLICAS")


def worker_client(url: str, *, retries: int) -> "Redis":
    """A client for threads; with 30 retries a call outlives a failover of about 15 s.

    Raises:
        ServiceError: the URL is not one of a Redis server.
    """
    retry = Retry(ExponentialWithJitterBackoff(base=0.02, cap=0.5), retries, _REPEATED)
    with _url_errors():
        return Redis(
            connection_pool=BlockingConnectionPool.from_url(
                url, max_connections=16, timeout=5, retry=retry, **_settings(socket_timeout=2)
            )
        )


def blocking_client(url: str, *, block_s: float) -> "Redis":
    """A client for blocking reads of at most `block_s`, which it never repeats."""
    retry = Retry(ExponentialWithJitterBackoff(base=0.02, cap=0.5), 0, _REPEATED)
    with _url_errors():
        return Redis(
            connection_pool=BlockingConnectionPool.from_url(
                url,
                max_connections=4,
                timeout=5,
                retry=retry,
                **_settings(socket_timeout=block_s + 3),
            )
        )


def api_client(url: str) -> "AsyncRedis":
    """A client for one event loop, which fails fast: a request should not wait for a failover.

    It may wait for a free connection, though: behind thousands of others, its turn comes.
    """
    retry = AsyncRetry(ExponentialWithJitterBackoff(base=0.02, cap=0.2), 3, _REPEATED)
    with _url_errors():
        return AsyncRedis(
            connection_pool=AsyncBlockingConnectionPool.from_url(
                url, max_connections=50, timeout=30, retry=retry, **_settings(socket_timeout=2)
            )
        )


@contextmanager
def redis_errors() -> Iterator[None]:
    """Turns what Redis and its client raise into the service's errors.

    Raises:
        Unavailable: Redis can't be reached, is full, or can't write just now.
        ServiceError: it refused a command, which only a bug or another server can cause.
    """
    try:
        yield
    except OutOfMemoryError as error:
        raise Unavailable("The queue's memory is full", retry_after_s=10) from error
    except (ConnectionError, TimeoutError, ReadOnlyError, ClusterDownError, OSError) as error:
        raise _unavailable() from error
    except ResponseError as error:
        if any(str(error).startswith(code) for code in _TEMPORARY_CODES):
            raise _unavailable() from error
        raise ServiceError("The queue refused a command") from error
    except RedisError as error:
        raise ServiceError("The queue gave an unreadable answer") from error


def _unavailable() -> Unavailable:
    return Unavailable("The queue can't be reached just now", retry_after_s=RETRY_AFTER_S)


def _settings(*, socket_timeout: float) -> dict[str, Any]:
    return {
        "decode_responses": True,
        "socket_timeout": socket_timeout,
        "socket_connect_timeout": 2,
        "health_check_interval": 15,
        "protocol": 2,
        "legacy_responses": True,
    }


@contextmanager
def _url_errors() -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise ServiceError(f"The Redis URL is not valid: {error}") from error

"""A queue with short times, and workers on it, under a key prefix of each test's own."""

from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from redis import Redis

from service.queue.leases import RedisLeases
from service.queue.redis import RedisJobQueue
from service.settings import QueueSettings

WorkerFactory = Callable[..., RedisLeases]


@pytest.fixture
def settings() -> QueueSettings:
    return QueueSettings(lease_s=10, heartbeat_s=0.1, retention_s=60, max_attempts=3)


@pytest.fixture
def brief() -> QueueSettings:
    """Leases that run out at once unless they are renewed."""
    return QueueSettings(lease_s=0.1, heartbeat_s=0.02, retention_s=60, max_attempts=3)


@pytest.fixture
async def queue(
    redis_url: str, redis_prefix: str, settings: QueueSettings
) -> AsyncIterator[RedisJobQueue]:
    queue = RedisJobQueue(redis_url, prefix=redis_prefix, settings=settings)
    yield queue
    await queue.aclose()


@pytest.fixture
def new_worker(
    redis_url: str, redis_prefix: str, settings: QueueSettings
) -> Iterator[WorkerFactory]:
    made: list[RedisLeases] = []

    def make(name: str = "worker", settings: QueueSettings = settings) -> RedisLeases:
        made.append(RedisLeases(redis_url, worker=name, prefix=redis_prefix, settings=settings))
        return made[-1]

    yield make
    for worker in made:
        worker.close()


@pytest.fixture
def worker(new_worker: WorkerFactory) -> RedisLeases:
    return new_worker()


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    """A client of the test's own, to look at what is stored."""
    with Redis.from_url(redis_url, decode_responses=True) as client:
        yield client

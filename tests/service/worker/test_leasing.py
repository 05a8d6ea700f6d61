from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import pytest
import pytest_asyncio

from model.params import SamplingParams
from service.jobs import Job, JobStatus, new_job_id
from service.queue.leases import Lease, RedisLeases
from service.queue.redis import RedisJobQueue
from service.worker.leases import HeldLeases
from service.worker.leasing import FIRST_REST_S, LONGEST_REST_S, Leasing, Rest
from tests.service.worker.live_worker import eventually, until


class Clock:
    """Seconds that pass when the test says so."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest_asyncio.fixture
async def queue(redis_url: str, redis_prefix: str) -> AsyncIterator[RedisJobQueue]:
    queue = RedisJobQueue(redis_url, prefix=redis_prefix)
    yield queue
    await queue.aclose()


@pytest.fixture
def leases(redis_url: str, redis_prefix: str) -> Iterator[RedisLeases]:
    leases = RedisLeases(redis_url, worker="worker", prefix=redis_prefix)
    yield leases
    leases.close()


@contextmanager
def leasing(
    leases: RedisLeases, held: HeldLeases, *, capacity: int, reserve: int, rest: Rest | None = None
) -> Iterator[list[Lease]]:
    """The leases that the real thread takes, as they come."""
    taken: list[Lease] = []
    clock = Clock()
    thread = Leasing(
        leases,
        held,
        accept=taken.append,
        rest=rest or Rest(clock),
        models=("scenes",),
        capacity=capacity,
        reserve=reserve,
        clock=clock,
    )
    thread.start()
    try:
        yield taken
    finally:
        thread.stop()
        thread.join()


async def submit(queue: RedisJobQueue, tenant: str, n: int = 1) -> Job:
    params = SamplingParams(prompt="a cat", model="scenes", n=n)
    return await queue.submit(
        Job(id=new_job_id(), status=JobStatus.QUEUED, params=params, tenant=tenant)
    )


async def running(queue: RedisJobQueue, *jobs: Job) -> None:
    for job in jobs:
        await until(queue, job.id, lambda job: job.status is JobStatus.RUNNING)


async def queued(queue: RedisJobQueue, job: Job) -> bool:
    found = await queue.get(job.id)
    assert found is not None
    return found.status is JobStatus.QUEUED


async def test_the_reserve_is_for_tenants_that_have_nothing_in_flight(
    queue: RedisJobQueue, leases: RedisLeases
) -> None:
    flood = [await submit(queue, "flood") for _ in range(5)]
    with leasing(leases, HeldLeases(), capacity=3, reserve=2):
        await running(queue, *flood[:3])
        first, second = await submit(queue, "newcomer"), await submit(queue, "newcomer")
        await running(queue, first)
        other = await submit(queue, "other")
        await running(queue, other)
        assert await queued(queue, second)
        assert await queued(queue, flood[3])


async def test_what_ends_makes_room_of_its_own_kind(
    queue: RedisJobQueue, leases: RedisLeases
) -> None:
    held = HeldLeases()
    flood = [await submit(queue, "flood") for _ in range(4)]
    with leasing(leases, held, capacity=2, reserve=1) as taken:
        await running(queue, *flood[:2])
        newcomer = await submit(queue, "newcomer")
        await running(queue, newcomer)
        other = await submit(queue, "other")
        held.left_engine(next(lease.token for lease in taken if lease.job.id == newcomer.id))
        await running(queue, other)
        assert await queued(queue, flood[2])
        held.left_engine(next(lease.token for lease in taken if lease.job.id == flood[0].id))
        await running(queue, flood[2])
        assert await queued(queue, flood[3])


async def test_a_job_with_more_images_than_there_is_room_leaves_the_reserve_whole(
    queue: RedisJobQueue, leases: RedisLeases
) -> None:
    held = HeldLeases()
    large = await submit(queue, "flood", n=8)
    with leasing(leases, held, capacity=2, reserve=1):
        await running(queue, large)
        await running(queue, await submit(queue, "newcomer"))
    assert (held.load().general, held.load().reserved) == (8, 1)
    assert held.load().tenants == {"flood", "newcomer"}


async def test_no_job_is_taken_during_a_rest(queue: RedisJobQueue, leases: RedisLeases) -> None:
    clock = Clock()
    rest = Rest(clock)
    rest.begin()
    job = await submit(queue, "tenant")
    with leasing(leases, HeldLeases(), capacity=1, reserve=1, rest=rest) as taken:
        assert await queued(queue, job)
        clock.now = FIRST_REST_S
        await running(queue, job)

        async def accepted() -> bool:
            return [lease.job.id for lease in taken] == [job.id]

        await eventually(accepted)


def test_rests_grow_until_something_went_well() -> None:
    clock = Clock()
    rest = Rest(clock)

    def length_s() -> float:
        rest.begin()
        start = clock.now
        while rest.lasts:
            clock.now += 0.5
        return clock.now - start

    assert [length_s() for _ in range(6)] == [1, 2, 4, 8, 16, LONGEST_REST_S]
    rest.forget()
    assert length_s() == FIRST_REST_S

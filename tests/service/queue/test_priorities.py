"""Who is next inside a tenant: the urgent first, but nobody waits for ever."""

import random
from collections.abc import Callable

import pytest
from redis import Redis

from service.jobs import Priority
from service.queue.leases import RedisLeases
from service.queue.redis import RedisJobQueue
from service.settings import QueueSettings
from tests.service.queue.making import MODELS, OOM, new_job, pause, place_of

HIGH, NORMAL, LOW = Priority.HIGH, Priority.NORMAL, Priority.LOW


async def test_a_tenants_jobs_leave_in_order(queue: RedisJobQueue, worker: RedisLeases) -> None:
    ids = [(await queue.submit(new_job())).id for _ in range(12)]
    leased = worker.lease(MODELS, 5) + worker.lease(MODELS, 99)
    assert [lease.job.id for lease in leased] == ids


async def test_the_urgent_goes_first_and_equals_keep_their_order(
    queue: RedisJobQueue, worker: RedisLeases
) -> None:
    priorities = [LOW, NORMAL, HIGH, LOW, NORMAL, HIGH]
    jobs = [await queue.submit(new_job(priority=priority)) for priority in priorities]
    leased = [lease.job.id for lease in worker.lease(MODELS, 99)]
    assert leased == [jobs[k].id for k in (2, 5, 1, 4, 0, 3)]


async def test_a_priority_is_worth_its_time_and_no_more(
    redis_url: str, redis_prefix: str, redis: Redis, worker: RedisLeases
) -> None:
    queue = RedisJobQueue(redis_url, prefix=redis_prefix, settings=QueueSettings(priority_s=0.05))
    low = await queue.submit(new_job(priority=LOW))
    normal = await queue.submit(new_job())
    await until_ms(redis, normal.created_at_ms + 50)
    high = await queue.submit(new_job(priority=HIGH))  # as if submitted when it may not yet lead
    await until_ms(redis, low.created_at_ms + 100)
    late = await queue.submit(new_job(priority=HIGH))
    leased = [lease.job.id for lease in worker.lease(MODELS, 99)]
    assert leased.index(normal.id) < leased.index(high.id)
    assert leased.index(low.id) < leased.index(late.id)
    await queue.aclose()


async def until_ms(redis: Redis, when_ms: int) -> None:
    while True:
        seconds, micros = redis.time()
        if seconds * 1000 + micros // 1000 > when_ms:
            return
        await pause()


async def test_submission_order_holds_within_a_millisecond_and_when_the_clock_goes_back(
    queue: RedisJobQueue, worker: RedisLeases, redis: Redis, redis_prefix: str
) -> None:
    before = [await queue.submit(new_job()) for _ in range(3)]
    ahead = float(redis.get(f"{redis_prefix}place") or 0) + 3_600_000 * 1024
    redis.set(f"{redis_prefix}place", f"{ahead:.0f}")  # as an hour later, and then back
    after = [await queue.submit(new_job()) for _ in range(50)]
    leased = [lease.job.id for lease in worker.lease(MODELS, 2000)]
    assert leased == [job.id for job in before + after]


@pytest.mark.parametrize("way", ["released", "retried", "lost"])
async def test_a_job_that_comes_back_keeps_its_place(
    queue: RedisJobQueue, worker: RedisLeases, redis: Redis, redis_prefix: str, way: str
) -> None:
    jobs = [await queue.submit(new_job(priority=priority)) for priority in (HIGH, NORMAL, LOW)]
    (lease,) = worker.lease(MODELS, 1)
    back: dict[str, Callable[[], object]] = {
        "released": lambda: worker.release(lease.job.id, lease.token),
        "retried": lambda: worker.fail(lease.job.id, lease.token, OOM, 1000.0),
        "lost": lambda: worker.abandon("worker"),
    }
    back[way]()
    assert await place_of(queue, jobs[0].id) == 0
    redis.zadd(f"{redis_prefix}delayed", {lease.job.id: 1}, xx=True)  # a retry's delay is over
    high = await queue.submit(new_job(priority=HIGH))
    leased = [lease.job.id for lease in worker.lease(MODELS, 99)]
    assert leased == [jobs[0].id, high.id, jobs[1].id, jobs[2].id]


async def test_any_mixture_leaves_in_the_order_of_shifted_times(
    queue: RedisJobQueue, worker: RedisLeases
) -> None:
    chance = random.Random(4)
    jobs = [await queue.submit(new_job(priority=chance.choice(list(Priority)))) for _ in range(60)]
    shift = {HIGH: -300_000, NORMAL: 0, LOW: 300_000}
    expected = sorted(jobs, key=lambda job: job.created_at_ms + shift[job.priority])
    assert [await place_of(queue, job.id) for job in expected] == list(range(60))
    assert [lease.job.id for lease in worker.lease(MODELS, 99)] == [job.id for job in expected]


async def test_a_job_of_an_older_release_is_leased(
    queue: RedisJobQueue, worker: RedisLeases, redis: Redis, redis_prefix: str
) -> None:
    job = await queue.submit(new_job())
    (lease,) = worker.lease(MODELS, 1)
    redis.hdel(f"{redis_prefix}job:{job.id}", "place", "work")
    redis.hset(f"{redis_prefix}job:{job.id}", "sequence", 7)
    worker.release(job.id, lease.token)
    assert [lease.job.id for lease in worker.lease(MODELS, 1)] == [job.id]

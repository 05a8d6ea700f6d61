"""Jobs that must end in time."""

import asyncio
from collections.abc import Callable

import pytest
from redis import Redis

from service.events import Canceled
from service.jobs import Job, JobStatus
from service.queue.leases import Lease, RedisLeases
from service.queue.redis import RedisJobQueue
from tests.service.queue.making import MODELS, OOM, image, new_job, pause

BEFORE, AFTER = "the deadline passed before it was started", "the deadline passed"


async def overdue(redis: Redis, prefix: str, job: Job) -> None:
    """The deadline of a job passes."""
    redis.hset(f"{prefix}job:{job.id}", "deadline_at_ms", 1)
    redis.zadd(f"{prefix}deadlines", {job.id: 1}, xx=True)


async def the(queue: RedisJobQueue, job: Job) -> Job:
    found = await queue.get(job.id)
    assert found is not None
    return found


async def test_a_queued_job_ends_at_its_deadline_and_its_followers_hear_it(
    queue: RedisJobQueue,
) -> None:
    job = await queue.submit(new_job(timeout_s=0.3))
    assert job.deadline_at_ms == job.created_at_ms + 300

    async def follow() -> list[object]:
        return [event async for _, event in queue.follow(job.id)]

    following = asyncio.create_task(follow())
    ended = await queue.wait(job.id, 60)
    assert (ended.status, ended.cancel_reason) == (JobStatus.CANCELED, BEFORE)
    assert (await following)[-1] == Canceled(BEFORE)
    assert ended.finished_at_ms is not None
    assert ended.deadline_at_ms is not None
    assert ended.finished_at_ms >= ended.deadline_at_ms
    assert ended.started_at_ms is None


async def test_a_job_without_a_deadline_has_none(queue: RedisJobQueue, redis: Redis) -> None:
    job = await queue.submit(new_job())
    assert (job.timeout_s, job.deadline_at_ms) == (None, None)


async def test_an_overdue_job_is_not_leased_although_nobody_looked(
    queue: RedisJobQueue, worker: RedisLeases, redis: Redis, redis_prefix: str
) -> None:
    jobs = [await queue.submit(new_job(timeout_s=600.0)) for _ in range(3)]
    redis.hset(f"{redis_prefix}job:{jobs[0].id}", "deadline_at_ms", 1)  # but not in its set
    assert [lease.job.id for lease in worker.lease(MODELS, 1)] == [jobs[1].id]
    first = await the(queue, jobs[0])
    assert (first.status, first.cancel_reason) == (JobStatus.CANCELED, BEFORE)


async def test_a_running_job_is_asked_to_stop_at_its_deadline(
    queue: RedisJobQueue, worker: RedisLeases, redis: Redis, redis_prefix: str
) -> None:
    job = await queue.submit(new_job(timeout_s=600.0))
    (lease,) = worker.lease(MODELS, 1)
    assert worker.renew([(job.id, lease.token, 1)]) == {job.id: "ok"}
    await overdue(redis, redis_prefix, job)
    while not (await the(queue, job)).cancel_requested:
        await pause()  # the pulse of the queue does it
    assert worker.renew([(job.id, lease.token, 2)]) == {job.id: "cancel"}
    assert worker.release(job.id, lease.token) == "canceled"
    ended = await the(queue, job)
    assert (ended.status, ended.cancel_reason) == (JobStatus.CANCELED, AFTER)
    assert not redis.exists(f"{redis_prefix}deadlines")


async def test_a_renewal_after_the_deadline_is_told_to_stop_although_nobody_looked(
    queue: RedisJobQueue, worker: RedisLeases, redis: Redis, redis_prefix: str
) -> None:
    job = await queue.submit(new_job(timeout_s=600.0))
    (lease,) = worker.lease(MODELS, 1)
    redis.hset(f"{redis_prefix}job:{job.id}", "deadline_at_ms", 1)
    assert worker.renew([(job.id, lease.token, 1)]) == {job.id: "cancel"}
    assert (await the(queue, job)).cancel_requested


async def test_a_tenant_pays_nothing_for_jobs_that_were_never_started(
    queue: RedisJobQueue, worker: RedisLeases, redis: Redis, redis_prefix: str
) -> None:
    for _ in range(3):
        job = await queue.submit(new_job(tenant="a", work=100, timeout_s=600.0))
        redis.hset(f"{redis_prefix}job:{job.id}", "deadline_at_ms", 1)
    for tenant in "abbb":
        await queue.submit(new_job(tenant=tenant))
    assert sorted(lease.job.tenant for lease in worker.lease(MODELS, 2)) == ["a", "b"]


Ending = Callable[[RedisLeases, Lease], object]


@pytest.mark.parametrize(
    "end",
    [
        lambda worker, lease: worker.finish(lease.job.id, lease.token),
        lambda worker, lease: worker.fail(lease.job.id, lease.token, OOM, 0.0),
        lambda worker, lease: worker.fail(lease.job.id, lease.token, OOM, None),
        lambda worker, lease: worker.release(lease.job.id, lease.token),
    ],
)
async def test_whatever_comes_after_the_deadline_comes_too_late(
    queue: RedisJobQueue, worker: RedisLeases, redis: Redis, redis_prefix: str, end: Ending
) -> None:
    job = await queue.submit(new_job(timeout_s=600.0))
    (lease,) = worker.lease(MODELS, 1)
    worker.image(job.id, lease.token, image())
    redis.hset(f"{redis_prefix}job:{job.id}", "deadline_at_ms", 1)
    assert end(worker, lease) == "canceled"
    assert end(worker, lease) == "canceled"
    ended = await the(queue, job)
    assert (ended.status, ended.cancel_reason) == (JobStatus.CANCELED, AFTER)
    assert ended.images == (image(),)
    assert not redis.exists(f"{redis_prefix}deadlines")


async def test_an_overdue_job_of_a_lost_worker_is_not_offered_again(
    queue: RedisJobQueue, worker: RedisLeases, redis: Redis, redis_prefix: str
) -> None:
    job = await queue.submit(new_job(timeout_s=600.0))
    worker.lease(MODELS, 1)
    redis.hset(f"{redis_prefix}job:{job.id}", "deadline_at_ms", 1)
    worker.abandon("worker")
    assert (await the(queue, job)).cancel_reason == AFTER


async def test_a_job_that_waits_for_its_retry_ends_at_its_deadline(
    queue: RedisJobQueue, worker: RedisLeases, redis: Redis, redis_prefix: str
) -> None:
    job = await queue.submit(new_job(timeout_s=600.0))
    (lease,) = worker.lease(MODELS, 1)
    worker.fail(job.id, lease.token, OOM, 1000.0)
    await overdue(redis, redis_prefix, job)
    ended = await queue.wait(job.id, 60)
    assert (ended.status, ended.cancel_reason) == (JobStatus.CANCELED, AFTER)
    assert not redis.exists(f"{redis_prefix}delayed")


async def test_a_job_that_finished_in_time_keeps_no_trace(
    queue: RedisJobQueue, worker: RedisLeases, redis: Redis, redis_prefix: str
) -> None:
    job = await queue.submit(new_job(timeout_s=600.0))
    assert redis.zscore(f"{redis_prefix}deadlines", job.id) == job.deadline_at_ms
    (lease,) = worker.lease(MODELS, 1)
    assert worker.finish(job.id, lease.token) == "ok"
    assert (await the(queue, job)).status is JobStatus.SUCCEEDED
    assert not redis.exists(f"{redis_prefix}deadlines")

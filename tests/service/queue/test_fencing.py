"""Leases that run out, and owners that come back too late."""

import asyncio

from redis import Redis

from service.events import Failed, Preview, Progress, Queued, Started
from service.jobs import JobStatus
from service.queue.leases import Lease, RedisLeases
from service.queue.redis import RedisJobQueue
from service.settings import QueueSettings
from tests.service.queue.conftest import WorkerFactory
from tests.service.queue.making import MODELS, OOM, image, new_job, pause


async def leased(worker: RedisLeases) -> Lease:
    while True:
        if leases := worker.lease(MODELS, 1):
            return leases[0]
        await asyncio.sleep(0.01)


async def test_expired_lease_is_offered_again(
    queue: RedisJobQueue, new_worker: WorkerFactory, brief: QueueSettings
) -> None:
    job = await queue.submit(new_job())
    dead = await leased(new_worker("dead", brief))
    again = await leased(new_worker("next"))
    assert again.job.id == job.id
    assert again.token != dead.token
    assert (dead.job.attempt, again.job.attempt) == (1, 2)
    events = [event for _, event in await queue.events(job.id)]
    assert events == [
        Queued(None),
        Started("dead", 1),
        Queued("worker_lost"),
        Started("next", 2),
    ]


async def test_a_renewed_lease_is_kept(
    queue: RedisJobQueue, new_worker: WorkerFactory, redis: Redis, redis_prefix: str
) -> None:
    owner, other = new_worker("owner"), new_worker("other")
    job = await queue.submit(new_job())
    lease = await leased(owner)
    for step in range(3):
        redis.zadd(f"{redis_prefix}leases", {job.id: 1})  # long out, but nobody looked
        assert owner.renew([(job.id, lease.token, step)]) == {job.id: "ok"}
        assert other.lease(MODELS, 1) == []
    redis.zadd(f"{redis_prefix}leases", {job.id: 1})
    assert [taken.job.id for taken in other.lease(MODELS, 1)] == [job.id]


async def test_a_lease_does_not_outlive_its_owner_when_the_clock_goes_back(
    queue: RedisJobQueue, worker: RedisLeases, redis: Redis, redis_prefix: str
) -> None:
    job = await queue.submit(new_job())
    await leased(worker)
    granted_ms = score(redis, f"{redis_prefix}leases", job.id)
    redis.zadd(f"{redis_prefix}leases", {job.id: granted_ms + 3_600_000})
    await queue.maintain()
    assert score(redis, f"{redis_prefix}leases", job.id) <= granted_ms + 60_000


def score(redis: Redis, key: str, member: str) -> float:
    found = redis.zscore(key, member)
    assert isinstance(found, float)
    return found


async def test_an_owner_that_comes_back_too_late_changes_nothing(
    queue: RedisJobQueue, new_worker: WorkerFactory, brief: QueueSettings
) -> None:
    zombie, owner = new_worker("zombie", brief), new_worker("owner")
    job = await queue.submit(new_job())
    old = (await leased(zombie)).token
    new = (await leased(owner)).token
    for _ in ("while the job runs", "and when it is done"):
        before = await queue.get(job.id), await queue.events(job.id)
        assert zombie.renew([(job.id, old, 19)]) == {job.id: "lost"}
        assert zombie.event(job.id, old, Preview(0, 19, "png")) == "lost"
        assert zombie.event(job.id, old, Progress(19, 20)) == "lost"
        assert zombie.image(job.id, old, image(0, "zombie.png")) == "lost"
        assert zombie.fail(job.id, old, OOM, None) == "lost"
        assert zombie.fail(job.id, old, OOM, 1.0) == "lost"
        assert zombie.release(job.id, old) == "lost"
        assert zombie.finish(job.id, old) == "lost"
        assert (await queue.get(job.id), await queue.events(job.id)) == before
        owner.image(job.id, new, image(0, "owner.png"))
        assert owner.finish(job.id, new) == "ok"
    done = await queue.get(job.id)
    assert done is not None
    assert [record.key for record in done.images] == ["owner.png"]


async def test_a_late_owner_is_refused_even_before_another_took_the_job(
    queue: RedisJobQueue, new_worker: WorkerFactory
) -> None:
    zombie = new_worker("zombie")
    job = await queue.submit(new_job())
    old = (await leased(zombie)).token
    assert zombie.abandon("zombie") == 1
    assert zombie.finish(job.id, old) == "lost"
    assert zombie.fail(job.id, old, OOM, None) == "lost"
    assert zombie.release(job.id, old) == "lost"
    again = await queue.get(job.id)
    assert again is not None
    assert again.status is JobStatus.QUEUED


async def test_the_second_worker_continues_progress_and_images(
    queue: RedisJobQueue, worker: RedisLeases
) -> None:
    job = await queue.submit(new_job(n=2))
    first = await leased(worker)
    worker.renew([(job.id, first.token, 12)])
    worker.image(job.id, first.token, image(0, "first.png"))
    worker.abandon("worker")
    second = await leased(worker)
    assert (second.job.step, second.job.images) == (12, (image(0, "first.png"),))
    worker.renew([(job.id, second.token, 3)])
    assert worker.image(job.id, second.token, image(0, "second.png")) == "duplicate"
    assert worker.image(job.id, second.token, image(0, "first.png")) == "ok"
    now = await queue.get(job.id)
    assert now is not None
    assert (now.step, now.images) == (12, (image(0, "first.png"),))


async def test_a_job_that_loses_every_worker_fails(
    queue: RedisJobQueue, worker: RedisLeases
) -> None:
    job = await queue.submit(new_job())
    for _ in range(3):
        await leased(worker)
        worker.abandon("worker")
    assert worker.lease(MODELS, 1) == []
    failed = await queue.get(job.id)
    assert failed is not None
    assert failed.failure is not None
    assert (failed.status, failed.failure.code) == (JobStatus.FAILED, "worker_lost")
    assert failed.failure.retryable
    last = (await queue.events(job.id))[-1][1]
    assert isinstance(last, Failed)
    assert last.code == "worker_lost"


async def test_a_cancelled_job_whose_worker_died_is_canceled(
    queue: RedisJobQueue, worker: RedisLeases
) -> None:
    job = await queue.submit(new_job())
    await leased(worker)
    await queue.cancel(job.id, "stop")
    worker.abandon("worker")
    canceled = await queue.get(job.id)
    assert canceled is not None
    assert canceled.status is JobStatus.CANCELED


async def test_lost_jobs_are_offered_again_although_no_worker_lives(
    queue: RedisJobQueue, new_worker: WorkerFactory, brief: QueueSettings
) -> None:
    job = await queue.submit(new_job())
    await leased(new_worker("dead", brief))
    while (now := await queue.get(job.id)) and now.status is JobStatus.RUNNING:
        await pause()
    assert now is not None
    assert now.status is JobStatus.QUEUED

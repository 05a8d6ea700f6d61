"""Jobs that their client wants gone."""

import pytest
from redis import Redis

from service.errors import Conflict, NotFound
from service.events import Preview
from service.jobs import Job, JobStatus
from service.queue.leases import RedisLeases
from service.queue.redis import RedisJobQueue
from tests.service.queue.audit import snapshot
from tests.service.queue.making import MODELS, image, new_job


async def finished_job(queue: RedisJobQueue, worker: RedisLeases) -> Job:
    job = await queue.submit(new_job(timeout_s=600.0), idempotency_key="k")
    (lease,) = worker.lease(MODELS, 1)
    worker.event(job.id, lease.token, Preview(0, 8, "png"))
    worker.image(job.id, lease.token, image())
    worker.finish(job.id, lease.token)
    return job


async def test_a_deleted_job_is_gone_with_all_that_was_kept_of_it(
    queue: RedisJobQueue, worker: RedisLeases, redis: Redis, redis_prefix: str
) -> None:
    job = await finished_job(queue, worker)
    known = await queue.get(job.id)
    assert await queue.delete(job.id) == known
    assert known is not None
    assert known.images == (image(),)

    assert await queue.get(job.id) is None
    assert await queue.list("default") == ([], None)
    assert await queue.events(job.id) == []
    with pytest.raises(NotFound):
        await queue.wait(job.id, 1)
    kept = snapshot(redis, redis_prefix)
    assert [key for key in kept if job.id in key] == [f"deleted:{job.id}"]
    assert 0 < redis.pttl(f"{redis_prefix}deleted:{job.id}") <= 60_000
    assert not [key for key in kept if key.startswith(("idempotency:", "expiring", "jobs:"))]


async def test_a_job_is_deleted_once_and_an_unknown_one_never(
    queue: RedisJobQueue, worker: RedisLeases
) -> None:
    job = await finished_job(queue, worker)
    assert await queue.delete(job.id) is not None
    assert await queue.delete(job.id) is None
    assert await queue.delete(new_job().id) is None


async def test_a_job_that_is_not_final_must_be_canceled_first(
    queue: RedisJobQueue, worker: RedisLeases
) -> None:
    job = await queue.submit(new_job())
    with pytest.raises(Conflict, match="queued: cancel it first"):
        await queue.delete(job.id)
    (lease,) = worker.lease(MODELS, 1)
    with pytest.raises(Conflict, match="running: cancel it first"):
        await queue.delete(job.id)
    await queue.cancel(job.id, "not wanted")
    worker.release(job.id, lease.token)
    deleted = await queue.delete(job.id)
    assert deleted is not None
    assert deleted.status is JobStatus.CANCELED


async def test_the_idempotency_key_of_a_deleted_job_is_free_again(
    queue: RedisJobQueue, worker: RedisLeases
) -> None:
    job = await finished_job(queue, worker)
    await queue.delete(job.id)
    again = await queue.enqueue(new_job(seed=9), idempotency_key="k")
    assert not again.replayed
    assert again.job.id != job.id


async def test_the_idempotency_key_of_a_forgotten_job_is_free_again_and_then_the_new_jobs(
    queue: RedisJobQueue, worker: RedisLeases, redis: Redis, redis_prefix: str
) -> None:
    job = await finished_job(queue, worker)
    redis.persist(f"{redis_prefix}idempotency:default:k")
    redis.rename(f"{redis_prefix}job:{job.id}", f"{redis_prefix}aside")
    again = await queue.enqueue(new_job(seed=9), idempotency_key="k")
    assert not again.replayed
    redis.rename(f"{redis_prefix}aside", f"{redis_prefix}job:{job.id}")
    await queue.delete(job.id)  # the key is not this job's any more
    assert (await queue.enqueue(new_job(seed=9), idempotency_key="k")).job.id == again.job.id

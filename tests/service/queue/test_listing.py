"""A tenant's jobs, page by page."""

from typing import Any

import pytest
from redis import Redis

from service.errors import InvalidRequest
from service.jobs import JobStatus, new_job_id
from service.queue.records import LOOKED_AT
from service.queue.redis import RedisJobQueue
from tests.service.queue.making import new_job


async def test_pages_hold_a_tenants_jobs_newest_first(queue: RedisJobQueue) -> None:
    jobs = [await queue.submit(new_job()) for _ in range(7)]
    await queue.submit(new_job(tenant="other"))
    by_id = sorted(jobs, key=lambda job: job.id, reverse=True)
    pages, cursor = [], None
    while True:
        page, cursor = await queue.list("default", cursor=cursor, limit=3)
        pages.append(page)
        if cursor is None:
            break
    assert [len(page) for page in pages] == [3, 3, 1]
    assert [job for page in pages for job in page] == by_id


async def test_a_last_page_that_is_full_has_no_cursor(queue: RedisJobQueue) -> None:
    for _ in range(4):
        await queue.submit(new_job())
    for status in (None, JobStatus.QUEUED):
        jobs, cursor = await queue.list("default", limit=4, status=status)
        assert (len(jobs), cursor) == (4, None)


async def test_a_list_may_be_of_one_status_or_model(queue: RedisJobQueue) -> None:
    jobs = [await queue.submit(new_job(model="ab"[k % 2])) for k in range(6)]
    for job in jobs[1:3]:
        await queue.cancel(job.id, "x")
    canceled, cursor = await queue.list("default", status=JobStatus.CANCELED, limit=2)
    assert {job.id for job in canceled} == {jobs[1].id, jobs[2].id}
    assert cursor is None
    of_b, _ = await queue.list("default", model="b")
    assert {job.id for job in of_b} == {jobs[k].id for k in (1, 3, 5)}
    both, _ = await queue.list("default", model="b", status=JobStatus.QUEUED)
    assert {job.id for job in both} == {jobs[k].id for k in (3, 5)}


async def test_a_list_may_be_of_a_span_of_time_also_over_pages(
    queue: RedisJobQueue, redis: Redis, redis_prefix: str
) -> None:
    hour_ms = 3_600_000
    jobs = [await queue.submit(new_job()) for _ in range(6)]
    start_ms = jobs[0].created_at_ms
    for k, job in enumerate(jobs):  # one an hour, with an id of that time but for the clocks' skew
        old = f"{redis_prefix}job:{job.id}"
        new_id = new_job_id(start_ms + k * hour_ms + (-1) ** k * 3000)
        redis.rename(old, f"{redis_prefix}job:{new_id}")
        redis.hset(f"{redis_prefix}job:{new_id}", "created_at_ms", start_ms + k * hour_ms)
        redis.zadd(f"{redis_prefix}jobs:default", {new_id: 0})

    async def hours(after: int | None, before: int | None) -> list[int]:
        found, cursor = [], None
        while True:
            page, cursor = await queue.list(
                "default",
                cursor=cursor,
                limit=2,
                created_after_ms=None if after is None else start_ms + after * hour_ms,
                created_before_ms=None if before is None else start_ms + before * hour_ms,
            )
            found += [(job.created_at_ms - start_ms) // hour_ms for job in page]
            if cursor is None:
                return found

    assert await hours(None, None) == [5, 4, 3, 2, 1, 0]
    assert await hours(2, None) == [5, 4, 3, 2]
    assert await hours(None, 3) == [2, 1, 0]
    assert await hours(1, 4) == [3, 2, 1]
    assert await hours(4, 4) == await hours(9, None) == await hours(None, -(10**6)) == []
    assert await hours(-(10**9), 10**9) == [5, 4, 3, 2, 1, 0]


async def test_a_rare_job_is_found_over_several_pages_and_none_looks_at_all_jobs(
    queue: RedisJobQueue, redis: Redis, redis_prefix: str
) -> None:
    oldest = await queue.submit(new_job(model="rare"))
    record: Any = redis.hgetall(f"{redis_prefix}job:{(await queue.submit(new_job())).id}")
    with redis.pipeline() as pipeline:
        for _ in range(LOOKED_AT + 200):
            job_id = new_job_id()
            pipeline.hset(f"{redis_prefix}job:{job_id}", mapping=record)
            pipeline.zadd(f"{redis_prefix}jobs:default", {job_id: 0})
        pipeline.execute()
    nothing, cursor = await queue.list("default", model="rare")
    assert nothing == []
    assert cursor is not None
    found, cursor = await queue.list("default", model="rare", cursor=cursor)
    assert [job.id for job in found] == [oldest.id]
    assert cursor is None


@pytest.mark.parametrize("cursor", ["[nonsense", "", "job_", "job_" + "u" * 26])
async def test_a_cursor_of_no_page_is_refused(queue: RedisJobQueue, cursor: str) -> None:
    with pytest.raises(InvalidRequest, match="cursor"):
        await queue.list("default", cursor=cursor)

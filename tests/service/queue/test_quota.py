"""How many images an API key may ask for."""

import asyncio

import pytest
from redis import Redis

from service.errors import KeyReused, QuotaExceeded, RateLimited
from service.jobs import Job
from service.queue.quota import Quota
from service.queue.redis import RedisJobQueue
from service.settings import QueueSettings
from tests.service.queue.making import new_job, pause

WINDOW_S = 10**9  # no window of this length ends before the year 2033
LASTING = Quota("key 1", images=10, window_s=WINDOW_S)


async def test_a_quota_counts_images_and_refuses_what_goes_beyond(queue: RedisJobQueue) -> None:
    assert (await queue.enqueue(new_job(n=4), quota=LASTING)).quota_left == 6
    assert (await queue.enqueue(new_job(n=4), quota=LASTING)).quota_left == 2
    with pytest.raises(QuotaExceeded, match=r"2 of them are left.*asks for 3") as exceeded:
        await queue.enqueue(new_job(n=3), quota=LASTING)
    said = {"quota": 10, "window_s": WINDOW_S, "left": 2, "violated_policies": ["quota"]}
    assert exceeded.value.members == said
    assert (await queue.enqueue(new_job(n=2), quota=LASTING)).quota_left == 0
    other = Quota("key 2", images=10, window_s=WINDOW_S)
    assert (await queue.enqueue(new_job(n=1), quota=other)).quota_left == 9
    assert (await queue.enqueue(new_job(n=8))).quota_left is None


async def test_a_quota_is_whole_again_when_its_window_ends(
    queue: RedisJobQueue, redis: Redis, redis_prefix: str
) -> None:
    short = Quota("key", images=1, window_s=1)

    async def ask_until_two_fall_into_one_window() -> None:
        while True:
            await queue.enqueue(new_job(), quota=short)

    with pytest.raises(QuotaExceeded) as exceeded:
        await ask_until_two_fall_into_one_window()
    assert exceeded.value.retry_after_s == 1
    while redis.keys(f"{redis_prefix}quota:*"):
        await pause()
    assert (await queue.enqueue(new_job(), quota=short)).quota_left == 0


async def test_the_refusal_tells_when_the_window_ends(queue: RedisJobQueue, redis: Redis) -> None:
    await queue.enqueue(new_job(n=8), quota=LASTING)
    before_s = redis.time()[0]
    with pytest.raises(QuotaExceeded) as exceeded:
        await queue.enqueue(new_job(n=8), quota=LASTING)
    after_s = redis.time()[0]
    pause_s = exceeded.value.retry_after_s
    assert pause_s is not None
    assert WINDOW_S - after_s % WINDOW_S <= pause_s <= WINDOW_S - before_s % WINDOW_S + 1


async def test_replayed_and_refused_jobs_cost_nothing(redis_url: str, redis_prefix: str) -> None:
    settings = QueueSettings(max_queued_per_tenant=2)
    queue = RedisJobQueue(redis_url, prefix=redis_prefix, settings=settings)

    async def ask(job: Job, key: str | None = None) -> int | None:
        return (await queue.enqueue(job, idempotency_key=key, quota=LASTING)).quota_left

    job = new_job(n=2)
    assert [await ask(job, "k"), await ask(job, "k"), await ask(job)] == [8, 8, 8]
    with pytest.raises(KeyReused):
        await ask(new_job(n=3), "k")
    assert await ask(new_job(n=1)) == 7
    with pytest.raises(RateLimited) as full:
        await ask(new_job(n=5))
    assert not isinstance(full.value, QuotaExceeded)
    await queue.cancel(job.id, "make room")
    assert await ask(new_job(n=1)) == 6
    await queue.aclose()


async def test_many_at_once_never_exceed_the_quota(queue: RedisJobQueue) -> None:
    answers = await asyncio.gather(
        *(queue.enqueue(new_job(n=3), quota=LASTING) for _ in range(30)), return_exceptions=True
    )
    refused = [answer for answer in answers if isinstance(answer, QuotaExceeded)]
    assert len(refused) == 27

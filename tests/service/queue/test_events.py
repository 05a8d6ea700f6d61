"""What followers of a job see."""

import asyncio

import pytest

from service.errors import InvalidRequest
from service.events import Event, Image, Preview, Progress, Queued, Started, Succeeded
from service.jobs import Job
from service.queue.leases import RedisLeases
from service.queue.redis import RedisJobQueue
from tests.service.queue.making import MODELS, image, new_job


async def finished_job(queue: RedisJobQueue, worker: RedisLeases) -> Job:
    job = await queue.submit(new_job())
    (lease,) = worker.lease(MODELS, 1)
    worker.renew([(job.id, lease.token, 8)])
    worker.event(job.id, lease.token, Preview(0, 8, "png"))
    worker.image(job.id, lease.token, image())
    worker.finish(job.id, lease.token)
    return job


WHOLE_STORY: list[Event] = [
    Queued(None),
    Started("worker", 1),
    Progress(8, 20),
    Preview(0, 8, "png"),
    Image(image()),
    Progress(20, 20),
    Succeeded(),
]


async def test_the_log_tells_the_whole_story(queue: RedisJobQueue, worker: RedisLeases) -> None:
    job = await finished_job(queue, worker)
    assert [event for _, event in await queue.events(job.id)] == WHOLE_STORY
    assert [event async for _, event in queue.follow(job.id)] == WHOLE_STORY


async def test_following_resumes_after_any_event_without_gap_or_repeat(
    queue: RedisJobQueue, worker: RedisLeases
) -> None:
    job = await finished_job(queue, worker)
    whole = await queue.events(job.id)
    for seen, (last_id, _) in enumerate(whole, start=1):
        assert [pair async for pair in queue.follow(job.id, last_id)] == whole[seen:]


async def test_a_live_follower_sees_each_event_once_and_ends_with_the_final_one(
    queue: RedisJobQueue, worker: RedisLeases
) -> None:
    job = await queue.submit(new_job())

    async def follow() -> list[tuple[str, Event]]:
        return [pair async for pair in queue.follow(job.id)]

    async def follow_with_a_new_connection_for_each_event() -> list[tuple[str, Event]]:
        seen: list[tuple[str, Event]] = []
        while not (seen and isinstance(seen[-1][1], Succeeded)):
            stream = queue.follow(job.id, seen[-1][0] if seen else None)
            seen.append(await anext(stream))
            await stream.aclose()
        return seen

    followers = [asyncio.create_task(follow()) for _ in range(60)]  # more than connections
    followers.append(asyncio.create_task(follow_with_a_new_connection_for_each_event()))
    (lease,) = worker.lease(MODELS, 1)
    for step in range(1, 20):
        await asyncio.to_thread(worker.renew, [(job.id, lease.token, step)])
        worker.event(job.id, lease.token, Preview(0, step, "png"))
    worker.image(job.id, lease.token, image())
    worker.finish(job.id, lease.token)
    whole = await queue.events(job.id)
    assert sum(isinstance(event, Succeeded) for _, event in whole) == 1
    assert len(whole) == 2 + 19 * 2 + 3
    for seen in await asyncio.gather(*followers):
        assert seen == whole


async def test_many_updates_push_out_only_older_updates(
    queue: RedisJobQueue, worker: RedisLeases
) -> None:
    job = await queue.submit(new_job(total_steps=1000))
    (lease,) = worker.lease(MODELS, 1)
    worker.image(job.id, lease.token, image())
    for step in range(1, 301):
        worker.event(job.id, lease.token, Preview(0, step, "png"))
    events = [event for _, event in await queue.events(job.id)]
    assert events[:3] == [Queued(None), Started("worker", 1), Image(image())]
    assert events[3:] == [Preview(0, step, "png") for step in range(173, 301)]


@pytest.mark.parametrize("wrong", ["$", "5", "-", "+", "5-0 6-0", "٥-0", "9" * 20 + "-0"])
async def test_an_id_of_no_event_is_refused(
    queue: RedisJobQueue, worker: RedisLeases, wrong: str
) -> None:
    job = await finished_job(queue, worker)
    with pytest.raises(InvalidRequest):
        await queue.events(job.id, wrong)

"""A job's way from submission to its end."""

import asyncio
from collections.abc import Callable

import pytest
from redis import Redis

from model.params import SamplerName, SamplingParams, Task, Thresholding, UpsampleParams
from service.errors import KeyReused, NotFound, QueueFull, RateLimited
from service.events import Preview, Progress, Queued
from service.jobs import Job, JobStatus, Priority, Provenance, WebhookTarget, new_job_id
from service.queue.leases import RedisLeases
from service.queue.presence import WorkerPresence
from service.queue.redis import RedisJobQueue
from service.settings import QueueSettings
from tests.service.queue.conftest import WorkerFactory
from tests.service.queue.making import MODELS, OOM, image, new_job, pause, place_of


async def test_a_job_passes_from_queued_to_succeeded(
    queue: RedisJobQueue, worker: RedisLeases
) -> None:
    job = await queue.submit(new_job(n=2))
    assert job.status is JobStatus.QUEUED
    assert job.created_at_ms > 0

    (lease,) = worker.lease(MODELS, 4)
    assert lease.job.id == job.id
    assert (lease.job.status, lease.job.attempt) == (JobStatus.RUNNING, 1)
    assert worker.renew([(job.id, lease.token, 7)]) == {job.id: "ok"}
    assert worker.image(job.id, lease.token, image(0)) == "ok"
    assert worker.image(job.id, lease.token, image(1)) == "ok"
    assert worker.finish(job.id, lease.token) == "ok"

    done = await queue.get(job.id)
    assert done is not None
    assert (done.status, done.step) == (JobStatus.SUCCEEDED, done.total_steps)
    assert done.images == (image(0), image(1))
    assert done.started_at_ms is not None
    assert done.finished_at_ms is not None
    assert done.created_at_ms <= done.started_at_ms <= done.finished_at_ms
    assert done.expires_at_ms == done.finished_at_ms + 60_000


EMPTY = Job(id="", status=JobStatus.QUEUED, params=SamplingParams(prompt="", model=""))
LATER = {
    *("started_at_ms", "finished_at_ms", "expires_at_ms", "attempt", "step", "images", "failure"),
    *("cancel_reason", "cancel_requested"),
}


async def test_every_member_of_a_job_survives_storage(queue: RedisJobQueue) -> None:
    params = SamplingParams(
        prompt="un café à la crème ☕ %:{}",
        negative_prompt="rain",
        model="mine: 2",
        width=64,
        height=64,
        n=3,
        seed=2**63 - 4,
        steps="ddim50",
        sampler=SamplerName.DDIM,
        guidance_scale=4.5,
        guidance_interval=(0.1, 0.9),
        eta=0.3,
        thresholding=Thresholding.DYNAMIC,
        dynamic_percentile=0.9,
        upsample=UpsampleParams(steps=27, sampler=SamplerName.DDPM, temperature=0.98),
        previews=2,
        task=Task.INPAINT,
        image="ab" * 32,
        mask="cd" * 32,
        strength=0.25,
        seed_to=5,
        label=3,
        clip_guidance_scale=1.5,
        classifier_guidance_scale=2.5,
        best_of=6,
    )
    changed = {name for name in SamplingParams.__slots__ if getattr(params, name)}
    assert changed == set(SamplingParams.__slots__)  # a new member has its place above
    job = Job(
        id=new_job_id(),
        status=JobStatus.QUEUED,
        params=params,
        tenant="a:b {c}",
        output_format="webp",
        total_steps=200,
        warnings=("truncated",),
        unknown_words=("café",),
        metadata={"k": "v"},
        work=77,
        priority=Priority.HIGH,
        timeout_s=600.5,
        webhook=WebhookTarget(url="https://x.test/é", events=("job.image",), dialect="replicate"),
        provenance=Provenance.MINIMAL,
        api="openai",
        base_url="https://y.test",
        echo={"a": [1, None]},
    )
    set_by_queue = {"id", "created_at_ms", "deadline_at_ms", "status"}
    given = {name for name in Job.__slots__ if getattr(job, name) != getattr(EMPTY, name)}
    assert given | set_by_queue | LATER == set(Job.__slots__)  # a new member has its place above
    accepted = await queue.submit(job)
    stored = await queue.get(job.id)
    assert stored == accepted
    assert stored is not None
    assert stored.params == params
    for name in given - {"id"}:
        assert getattr(stored, name) == getattr(job, name), name
    assert await queue.list("a:b {c}") == ([accepted], None)


async def test_an_unknown_job_is_none_or_not_found(queue: RedisJobQueue) -> None:
    unknown = new_job_id()
    assert await queue.get(unknown) is None
    assert await queue.cancel(unknown, "why not") is None
    assert await place_of(queue, unknown) is None
    assert await queue.events(unknown) == []
    with pytest.raises(NotFound):
        await queue.wait(unknown, 1)
    with pytest.raises(NotFound):
        await anext(queue.follow(unknown))


async def test_wait_returns_the_final_job_or_the_job_as_it_is(
    queue: RedisJobQueue, worker: RedisLeases
) -> None:
    job = await queue.submit(new_job())
    assert (await queue.wait(job.id, 0)).status is JobStatus.QUEUED
    waiting = asyncio.create_task(queue.wait(job.id, 60))
    (lease,) = worker.lease(MODELS, 1)
    worker.finish(job.id, lease.token)
    assert (await waiting).status is JobStatus.SUCCEEDED


async def test_wait_returns_as_soon_as_its_condition_holds(
    queue: RedisJobQueue, worker: RedisLeases
) -> None:
    job = await queue.submit(new_job())
    waiting = asyncio.create_task(queue.wait(job.id, 60, until=lambda seen: seen != job))
    (lease,) = worker.lease(MODELS, 1)
    assert (await waiting).status is JobStatus.RUNNING
    stepped = asyncio.create_task(queue.wait(job.id, 60, until=lambda seen: seen.step == 7))
    never = asyncio.create_task(queue.wait(job.id, 60, until=lambda seen: seen.step == 8))
    worker.renew([(job.id, lease.token, 7)])
    assert (await stepped).step == 7
    worker.release(job.id, lease.token)
    await queue.cancel(job.id, "x")
    assert (await never).status is JobStatus.CANCELED


async def test_a_failure_without_retry_is_final(queue: RedisJobQueue, worker: RedisLeases) -> None:
    job = await queue.submit(new_job())
    (lease,) = worker.lease(MODELS, 1)
    assert worker.fail(job.id, lease.token, OOM, None) == "ok"
    assert worker.fail(job.id, lease.token, OOM, None) == "ok"
    failed = await queue.get(job.id)
    assert failed is not None
    assert (failed.status, failed.failure) == (JobStatus.FAILED, OOM)


async def test_a_retried_job_waits_for_its_delay_and_fails_at_the_last_attempt(
    queue: RedisJobQueue, worker: RedisLeases, redis: Redis, redis_prefix: str
) -> None:
    job = await queue.submit(new_job())
    for attempt in (1, 2, 3):
        (lease,) = worker.lease(MODELS, 1)
        assert lease.job.attempt == attempt
        assert worker.fail(job.id, lease.token, OOM, 1000.0) == "ok"
        assert worker.lease(MODELS, 1) == []
        now = await queue.get(job.id)
        assert now is not None
        assert now.status is (JobStatus.QUEUED if attempt < 3 else JobStatus.FAILED)
        redis.zadd(f"{redis_prefix}delayed", {job.id: 1}, xx=True)  # the delay is over
    failed = await queue.get(job.id)
    assert failed is not None
    assert failed.failure == OOM
    events = [event for _, event in await queue.events(job.id)]
    reasons = [event.reason for event in events if isinstance(event, Queued)]
    assert reasons == [None, OOM.code, OOM.code]


async def test_a_released_job_is_next_again_and_is_charged_nothing(
    queue: RedisJobQueue, worker: RedisLeases
) -> None:
    first, second = await queue.submit(new_job()), await queue.submit(new_job())
    for _ in range(5):  # more often than a job may fail
        (lease,) = worker.lease(MODELS, 1)
        assert lease.job.id == first.id
        assert worker.release(first.id, lease.token) == "ok"
        assert worker.release(first.id, lease.token) == "ok"
    assert [lease.job.id for lease in worker.lease(MODELS, 2)] == [first.id, second.id]


async def test_cancel_ends_a_queued_job_at_once(queue: RedisJobQueue, worker: RedisLeases) -> None:
    job = await queue.submit(new_job())
    canceled = await queue.cancel(job.id, "changed my mind")
    assert canceled is not None
    assert canceled.status is JobStatus.CANCELED
    assert canceled.cancel_reason == "changed my mind"
    assert worker.lease(MODELS, 1) == []


async def test_cancel_ends_a_job_that_waits_for_its_retry(
    queue: RedisJobQueue, worker: RedisLeases, redis: Redis, redis_prefix: str
) -> None:
    job = await queue.submit(new_job())
    (lease,) = worker.lease(MODELS, 1)
    worker.fail(job.id, lease.token, OOM, 1000.0)
    canceled = await queue.cancel(job.id, "no more")
    assert canceled is not None
    assert canceled.status is JobStatus.CANCELED
    assert not redis.exists(f"{redis_prefix}delayed")
    assert worker.lease(MODELS, 1) == []


async def test_acceptance_tells_the_position_in_the_same_call(
    queue: RedisJobQueue, worker: RedisLeases
) -> None:
    accepted = [await queue.enqueue(new_job(tenant=tenant)) for tenant in "aab"]
    assert [each.queue_position for each in accepted] == [0, 1, 1]
    assert [each.replayed for each in accepted] == [False] * 3


@pytest.mark.parametrize("ending", ["release", "finish", "fail"])
async def test_the_owner_of_a_running_job_hears_of_its_cancellation(
    queue: RedisJobQueue, worker: RedisLeases, ending: str
) -> None:
    job = await queue.submit(new_job())
    (lease,) = worker.lease(MODELS, 1)
    asked = await queue.cancel(job.id, "first reason")
    await queue.cancel(job.id, "second reason")
    assert asked is not None
    assert (asked.status, asked.cancel_requested) == (JobStatus.RUNNING, True)
    assert asked.cancel_reason is None
    assert worker.renew([(job.id, lease.token, 1)]) == {job.id: "cancel"}
    ends: dict[str, Callable[[], str]] = {
        "release": lambda: worker.release(job.id, lease.token),
        "finish": lambda: worker.finish(job.id, lease.token),
        "fail": lambda: worker.fail(job.id, lease.token, OOM, 0.0),
    }
    assert ends[ending]() == "canceled"
    assert ends[ending]() == "canceled"
    canceled = await queue.get(job.id)
    assert canceled is not None
    assert (canceled.status, canceled.cancel_reason) == (JobStatus.CANCELED, "first reason")


async def test_cancel_leaves_a_final_job_as_it_is(
    queue: RedisJobQueue, worker: RedisLeases
) -> None:
    job = await queue.submit(new_job())
    (lease,) = worker.lease(MODELS, 1)
    worker.finish(job.id, lease.token)
    done = await queue.get(job.id)
    assert await queue.cancel(job.id, "too late") == done
    assert done is not None
    assert done.status is JobStatus.SUCCEEDED


async def test_the_queue_and_each_tenant_have_a_bound(redis_url: str, redis_prefix: str) -> None:
    settings = QueueSettings(max_queued=3, max_queued_per_tenant=2)
    queue = RedisJobQueue(redis_url, prefix=redis_prefix, settings=settings)
    first = await queue.submit(new_job(tenant="a"))
    await queue.submit(new_job(tenant="a"))
    with pytest.raises(RateLimited) as limited:
        await queue.submit(new_job(tenant="a"))
    await queue.submit(new_job(tenant="b"))
    with pytest.raises(QueueFull) as full:
        await queue.submit(new_job(tenant="c"))
    assert limited.value.retry_after_s
    assert full.value.retry_after_s
    await queue.cancel(first.id, "make room")
    await queue.submit(new_job(tenant="c"))
    await queue.aclose()


async def test_an_idempotency_key_stands_for_its_first_request(queue: RedisJobQueue) -> None:
    first = await queue.submit(new_job(), idempotency_key="k 1")
    assert await queue.submit(new_job(), idempotency_key="k 1") == first
    with pytest.raises(KeyReused):
        await queue.submit(new_job(seed=5), idempotency_key="k 1")
    others = [
        await queue.submit(new_job(tenant="other"), idempotency_key="k 1"),
        await queue.submit(new_job(), idempotency_key="k 2"),
    ]
    assert len({first.id, *(job.id for job in others)}) == 3
    replay = await queue.enqueue(new_job(), idempotency_key="k 1")
    assert (replay.job.id, replay.replayed, replay.queue_position) == (first.id, True, 0)
    same_body = await queue.submit(new_job(seed=1), idempotency_key="k 3", body_hash="b")
    assert await queue.submit(new_job(seed=2), idempotency_key="k 3", body_hash="b") == same_body


async def test_an_idempotency_key_stands_for_its_job_until_that_is_forgotten(
    queue: RedisJobQueue, worker: RedisLeases, redis: Redis, redis_prefix: str
) -> None:
    job = await queue.submit(new_job(), idempotency_key="k")
    assert redis.ttl(f"{redis_prefix}idempotency:default:k") == -1  # however long it waits
    (lease,) = worker.lease(MODELS, 1)
    running = await queue.enqueue(new_job(), idempotency_key="k")
    assert (running.replayed, running.queue_position) == (True, None)
    worker.finish(job.id, lease.token)
    replay = await queue.enqueue(new_job(), idempotency_key="k")
    assert (replay.job.id, replay.job.status) == (job.id, JobStatus.SUCCEEDED)
    ends = [
        redis.pexpiretime(f"{redis_prefix}{key}")
        for key in (f"job:{job.id}", "idempotency:default:k")
    ]
    assert ends == [replay.job.expires_at_ms] * 2


async def test_one_idempotency_key_at_once_makes_one_job(queue: RedisJobQueue) -> None:
    jobs = await asyncio.gather(
        *(queue.submit(new_job(), idempotency_key="storm") for _ in range(50))
    )
    assert len({job.id for job in jobs}) == 1


async def test_a_job_submitted_twice_is_queued_once(
    queue: RedisJobQueue, worker: RedisLeases
) -> None:
    job = new_job()
    assert await queue.submit(job) == await queue.submit(job)
    assert len(worker.lease(MODELS, 9)) == 1


async def test_a_worker_takes_what_fits_and_at_most_one_job_more(
    queue: RedisJobQueue, worker: RedisLeases
) -> None:
    jobs = [await queue.submit(new_job(n=n)) for n in (2, 3, 4)]
    assert [lease.job.id for lease in worker.lease(MODELS, 3)] == [jobs[0].id, jobs[1].id]
    assert worker.lease(MODELS, 0) == []
    assert [lease.job.id for lease in worker.lease(MODELS, 1)] == [jobs[2].id]


async def test_images_drawn_to_choose_from_take_room_too(
    queue: RedisJobQueue, worker: RedisLeases
) -> None:
    jobs = [await queue.submit(new_job(best_of=best_of)) for best_of in (4, None)]
    assert [lease.job.id for lease in worker.lease(MODELS, 4)] == [jobs[0].id]


async def test_a_worker_gets_jobs_of_its_models_only_and_of_each_in_turn(
    queue: RedisJobQueue, worker: RedisLeases
) -> None:
    for model in ("a", "a", "a", "b", "b", "b", "other"):
        await queue.submit(new_job(model=model))
    taken = [lease.job.params.model for lease in worker.lease(("a", "b"), 4)]
    assert sorted(taken) == ["a", "a", "b", "b"]
    assert len(worker.lease(("a", "b"), 9)) == 2


async def test_a_waiting_worker_wakes_for_its_model(
    queue: RedisJobQueue, worker: RedisLeases
) -> None:
    assert worker.wait(MODELS, 0.01) is False
    await queue.submit(new_job(model="other"))
    assert worker.wait(MODELS, 0.01) is False
    waiting = asyncio.create_task(asyncio.to_thread(worker.wait, MODELS, 2.0))
    await queue.submit(new_job())
    assert await waiting is True


async def test_live_workers_are_listed_until_they_fall_silent(
    queue: RedisJobQueue, new_worker: WorkerFactory, brief: QueueSettings
) -> None:
    lasting, passing = new_worker("w:1"), new_worker("w:2", brief)
    passing.announce(WorkerPresence(id="w:2", models=("b",)))
    lasting.announce(WorkerPresence(id="w:1", models=("a", "b"), device="cuda:0", max_batch=8))
    while len(workers := await queue.workers()) > 1:
        await pause()
    assert (workers[0].id, workers[0].models, workers[0].max_batch) == ("w:1", ("a", "b"), 8)
    assert workers[0].seen_ms > 0
    lasting.abandon("w:1")
    assert await queue.workers() == []


async def test_progress_and_previews_never_go_back(
    queue: RedisJobQueue, worker: RedisLeases
) -> None:
    job = await queue.submit(new_job())
    (lease,) = worker.lease(MODELS, 1)
    for step in (4, 4, 2, 9):
        worker.renew([(job.id, lease.token, step)])
    worker.event(job.id, lease.token, Progress(6, 20))
    for step in (4, 4, 2, 9):
        worker.event(job.id, lease.token, Preview(0, step, "png"))
    events = [event for _, event in await queue.events(job.id)]
    assert [e.step for e in events if isinstance(e, Progress)] == [4, 9]
    assert [e.step for e in events if isinstance(e, Preview)] == [4, 9]

import asyncio
import io
import logging
import os
import resource
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256

import numpy as np
import pytest
from PIL import Image as PillowImage

from model.catalog import PipelineSpec, total_steps
from model.params import SamplerName, SamplingParams, UpsampleParams
from service.engine.runner import ModelRunner
from service.events import Event, Preview, Progress, Queued, Started
from service.jobs import Job, JobStatus, new_job_id
from service.queue.embedded import EmbeddedRedis
from service.queue.redis import RedisJobQueue
from service.settings import Settings
from service.store.filesystem import FilesystemStore
from service.wiring import build_leases
from tests.service.worker.live_worker import eventually, until, worker_process, worker_thread

SMALL = SamplingParams(prompt="a red apple", model="tiny", width=16, height=16, steps=4, seed=1)
LONG = replace(SMALL, steps=150, sampler=SamplerName.DDPM)
ENDLESS = replace(LONG, steps=1000, n=8)


@pytest.fixture
def new_job(spec: PipelineSpec) -> Callable[[SamplingParams], Job]:
    def make(params: SamplingParams) -> Job:
        steps = total_steps(spec, params) if not spec.violations(params) else 1
        return Job(id=new_job_id(), status=JobStatus.QUEUED, params=params, total_steps=steps)

    return make


async def _events(queue: RedisJobQueue, job_id: str) -> list[Event]:
    return [event async for _, event in queue.follow(job_id, None)]


async def test_eight_different_jobs_share_steps_and_end_in_the_store(
    queue: RedisJobQueue,
    settings: Settings,
    runner: ModelRunner,
    new_job: Callable[[SamplingParams], Job],
    caplog: pytest.LogCaptureFixture,
) -> None:
    wanted = [
        replace(
            SMALL,
            seed=index,
            sampler=list(SamplerName)[index % len(SamplerName)],
            steps=6 + index,
            guidance_scale=1.0 + index,
        )
        for index in range(7)
    ]
    wanted.append(replace(SMALL, width=64, height=64, upsample=UpsampleParams(steps=2), n=2))
    jobs = [await queue.submit(new_job(params)) for params in wanted]
    with caplog.at_level(logging.DEBUG), worker_thread(settings, runner):
        done = [await until(queue, job.id, lambda job: job.status.is_final) for job in jobs]
    assert [job.status for job in done] == [JobStatus.SUCCEEDED] * 8
    rows = [record.__dict__["rows"] for record in caplog.records if record.message == "step"]
    assert max(rows) >= 8
    store = FilesystemStore(settings.store.path)
    for job, params in zip(done, wanted, strict=True):
        assert job.step == job.total_steps
        assert [image.index for image in job.images] == list(range(params.n))
        for image in job.images:
            data = store.get(image.key)
            assert sha256(data).hexdigest() == image.sha256
            with PillowImage.open(io.BytesIO(data)) as picture:
                assert picture.size == (params.width, params.height)
                assert job.id in picture.info["glide"]


async def test_a_canceled_job_stops_in_mid_run_and_the_worker_goes_on(
    queue: RedisJobQueue,
    settings: Settings,
    runner: ModelRunner,
    new_job: Callable[[SamplingParams], Job],
) -> None:
    endless = await queue.submit(new_job(ENDLESS))
    with worker_thread(settings, runner):
        await until(queue, endless.id, lambda job: job.step > 0)
        await queue.cancel(endless.id, "not wanted any more")
        canceled = await until(queue, endless.id, lambda job: job.status.is_final)
        after = await queue.submit(new_job(SMALL))
        done = await until(queue, after.id, lambda job: job.status.is_final)
    assert canceled.status is JobStatus.CANCELED
    assert canceled.step < canceled.total_steps
    assert done.status is JobStatus.SUCCEEDED


async def test_a_job_that_cannot_be_served_fails_alone_and_says_why(
    queue: RedisJobQueue,
    settings: Settings,
    runner: ModelRunner,
    new_job: Callable[[SamplingParams], Job],
) -> None:
    bad = await queue.submit(new_job(replace(SMALL, width=100)))
    good = await queue.submit(new_job(SMALL))
    with worker_thread(settings, runner):
        failed = await until(queue, bad.id, lambda job: job.status.is_final)
        done = await until(queue, good.id, lambda job: job.status.is_final)
    assert failed.status is JobStatus.FAILED
    assert failed.failure is not None
    assert failed.failure.code == "unsupported_sampling"
    assert "16x16" in failed.failure.detail
    assert done.status is JobStatus.SUCCEEDED


async def test_previews_are_small_pictures_on_the_way(
    queue: RedisJobQueue,
    settings: Settings,
    runner: ModelRunner,
    new_job: Callable[[SamplingParams], Job],
) -> None:
    job = await queue.submit(new_job(replace(SMALL, previews=2, steps=9)))
    with worker_thread(settings, runner):
        await until(queue, job.id, lambda job: job.status.is_final)
    previews = [event for event in await _events(queue, job.id) if isinstance(event, Preview)]
    assert [preview.step for preview in previews] == [3, 6]


async def test_a_worker_announces_how_much_it_does_in_a_second_once_it_has_stepped(
    queue: RedisJobQueue,
    settings: Settings,
    runner: ModelRunner,
    new_job: Callable[[SamplingParams], Job],
) -> None:
    rates: list[float | None] = []

    async def present() -> bool:
        rates.extend(worker.work_rate for worker in await queue.workers())
        return bool(rates)

    async def measured() -> bool:
        return any(worker.work_rate for worker in await queue.workers())

    with worker_thread(settings, runner):
        await eventually(present)
        assert rates == [None]
        await queue.submit(new_job(SMALL))
        await eventually(measured)


async def test_a_lease_that_was_taken_away_is_dropped_and_the_job_ends_once(
    queue: RedisJobQueue,
    settings: Settings,
    runner: ModelRunner,
    new_job: Callable[[SamplingParams], Job],
) -> None:
    job = await queue.submit(new_job(replace(LONG, n=2)))
    with worker_thread(settings, runner, "victim"):
        await until(queue, job.id, lambda job: job.step > 0)
        build_leases(settings, "supervisor").abandon("victim")
        done = await until(queue, job.id, lambda job: job.status.is_final)
    events = await _events(queue, job.id)
    assert done.status is JobStatus.SUCCEEDED
    assert done.attempt == 2
    assert [event.name for event in events].count("image") == 2
    assert [event.name for event in events].count("succeeded") == 1


async def test_the_device_goes_on_while_redis_is_away_and_delivers_later(
    queue: RedisJobQueue,
    redis: EmbeddedRedis,
    settings: Settings,
    runner: ModelRunner,
    new_job: Callable[[SamplingParams], Job],
) -> None:
    async def dead() -> bool:
        return not redis.is_alive

    job = await queue.submit(new_job(LONG))
    with worker_thread(settings, runner):
        await until(queue, job.id, lambda job: job.step > 0)
        os.kill(redis.pid, signal.SIGKILL)
        await eventually(dead)
        await asyncio.sleep(1)
        redis.start()
        done = await until(queue, job.id, lambda job: job.status.is_final)
    assert done.status is JobStatus.SUCCEEDED


async def test_a_worker_killed_in_mid_job_loses_nothing_and_progress_never_goes_back(
    queue: RedisJobQueue,
    settings: Settings,
    new_job: Callable[[SamplingParams], Job],
) -> None:
    job = await queue.submit(new_job(replace(LONG, n=2)))
    follower = asyncio.create_task(_events(queue, job.id))
    with worker_process(settings, "first") as first:
        await until(queue, job.id, lambda job: job.step > 20)
        first.kill()
        first.wait()
    killed_at = await queue.get(job.id)
    assert killed_at is not None
    assert killed_at.status is JobStatus.RUNNING
    with worker_process(settings, "second"):
        done = await until(queue, job.id, lambda job: job.status.is_final)
    events = await follower
    assert done.status is JobStatus.SUCCEEDED
    assert done.attempt == 2
    assert [event.worker for event in events if isinstance(event, Started)] == ["first", "second"]
    steps = [event.step for event in events if isinstance(event, Progress)]
    assert steps == sorted(steps)
    assert steps[-1] == job.total_steps
    assert any(step <= killed_at.step for step in steps)


async def test_a_worker_told_to_stop_finishes_what_it_can_and_hands_back_the_rest(
    queue: RedisJobQueue,
    settings: Settings,
    new_job: Callable[[SamplingParams], Job],
) -> None:
    brief = settings.model_copy(
        update={"worker": settings.worker.model_copy(update={"drain_s": 2.0, "max_batch": 16})}
    )
    endless = await queue.submit(new_job(ENDLESS))
    with worker_process(brief, "drained") as process:
        await until(queue, endless.id, lambda job: job.step > 0)
        short = await queue.submit(new_job(SMALL))
        await until(queue, short.id, lambda job: job.status is not JobStatus.QUEUED)
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait) == 0
    done, back = await queue.get(short.id), await queue.get(endless.id)
    assert done is not None
    assert back is not None
    assert done.status is JobStatus.SUCCEEDED
    assert back.status is JobStatus.QUEUED
    events = [event for _, event in await queue.events(endless.id, None)]
    assert Queued("released") in events
    assert await queue.workers() == []


@pytest.mark.skipif(sys.platform != "linux", reason="limits of another process are Linux's")
async def test_a_picture_that_cannot_be_stored_goes_back_with_its_job_and_is_made_later(
    queue: RedisJobQueue,
    settings: Settings,
    new_job: Callable[[SamplingParams], Job],
) -> None:
    async def present() -> bool:
        return bool(await queue.workers())

    async def given_back() -> bool:
        return Queued("released") in [event for _, event in await queue.events(job.id, None)]

    with worker_process(settings, "full") as process:
        await eventually(present)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (1_000, resource.RLIM_INFINITY))
        job = await queue.submit(new_job(SMALL))
        await eventually(given_back)
        resource.prlimit(
            process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        )
        done = await until(queue, job.id, lambda job: job.status.is_final)
    assert done.status is JobStatus.SUCCEEDED
    data = FilesystemStore(settings.store.path).get(done.images[0].key)
    with PillowImage.open(io.BytesIO(data)) as picture:
        assert np.asarray(picture).shape == (16, 16, 3)

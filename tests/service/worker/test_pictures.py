import io
import shutil
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image as PillowImage

from model.catalog import PipelineSpec, total_steps
from model.imaging import Pictures
from model.params import SamplerName, SamplingParams, Task
from service.engine.runner import ModelRunner
from service.jobs import Job, JobStatus, new_job_id
from service.queue.redis import RedisJobQueue
from service.settings import Settings
from service.store.filesystem import FilesystemStore
from service.store.inputs import digest_of, keep_input
from tests.service.some_pictures import mask, picture
from tests.service.worker.live_worker import eventually, until, worker_thread

PICTURE, MASK = picture(), mask()
VARIATION = SamplingParams(
    prompt="a red apple",
    model="tiny",
    width=16,
    height=16,
    steps=4,
    seed=1,
    task=Task.VARIATION,
    strength=0.5,
    image=digest_of(PICTURE),
)
INPAINT = replace(VARIATION, task=Task.INPAINT, mask=digest_of(MASK), width=64, height=64)


@pytest.fixture
def store(settings: Settings) -> FilesystemStore:
    return FilesystemStore(settings.store.path)


@pytest.fixture
def new_job(spec: PipelineSpec) -> Callable[[SamplingParams], Job]:
    def make(params: SamplingParams) -> Job:
        steps = total_steps(spec, params)
        return Job(id=new_job_id(), status=JobStatus.QUEUED, params=params, total_steps=steps)

    return make


def pixels(store: FilesystemStore, job: Job) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    with PillowImage.open(io.BytesIO(store.get(job.images[0].key))) as image:
        return np.asarray(image)


async def test_pictures_reach_the_pipeline_and_what_is_kept_comes_back_bit_equal(
    queue: RedisJobQueue,
    settings: Settings,
    runner: ModelRunner,
    store: FilesystemStore,
    new_job: Callable[[SamplingParams], Job],
) -> None:
    for data in (PICTURE, MASK):
        keep_input(store, data)
    jobs = [await queue.submit(new_job(params)) for params in (VARIATION, INPAINT)]
    with worker_thread(settings, runner):
        done = [await until(queue, job.id, lambda job: job.status.is_final) for job in jobs]
    assert [job.status for job in done] == [JobStatus.SUCCEEDED] * 2, done
    assert [job.step for job in done] == [job.total_steps for job in done]
    seen = Pictures(PICTURE, MASK)
    kept = seen.keep_at(64) == 1
    drawn = pixels(store, done[1])
    assert np.array_equal(drawn[kept], seen.image_at(64)[kept])
    assert not np.array_equal(drawn[~kept], seen.image_at(64)[~kept])


@pytest.mark.parametrize("damage", ["missing", "damaged"])
async def test_a_lost_picture_fails_its_job_alone_and_says_what_to_do(
    queue: RedisJobQueue,
    settings: Settings,
    runner: ModelRunner,
    store: FilesystemStore,
    new_job: Callable[[SamplingParams], Job],
    damage: str,
) -> None:
    if damage == "damaged":
        keep_input(store, PICTURE)
        (settings.store.path / "inputs" / digest_of(PICTURE)).write_bytes(PICTURE[:-1])
    bad = await queue.submit(new_job(VARIATION))
    plain = replace(VARIATION, task=Task.GENERATE, image=None)
    good = await queue.submit(new_job(plain))
    with worker_thread(settings, runner):
        failed = await until(queue, bad.id, lambda job: job.status.is_final)
        done = await until(queue, good.id, lambda job: job.status.is_final)
    assert failed.failure is not None
    assert (failed.failure.code, failed.failure.retryable) == ("input_lost", False)
    assert "upload it again" in failed.failure.detail
    assert done.status is JobStatus.SUCCEEDED


async def test_a_picture_that_cannot_be_unpacked_fails_its_job(
    queue: RedisJobQueue,
    settings: Settings,
    runner: ModelRunner,
    store: FilesystemStore,
    new_job: Callable[[SamplingParams], Job],
) -> None:
    image = keep_input(store, b"text")
    job = await queue.submit(new_job(replace(VARIATION, image=image)))
    with worker_thread(settings, runner):
        failed = await until(queue, job.id, lambda job: job.status.is_final)
    assert failed.failure is not None
    assert failed.failure.code == "bad_conditioning"
    assert "can't be read" in failed.failure.detail


async def test_others_are_denoised_while_the_store_is_away_and_the_picture_is_fetched_later(
    queue: RedisJobQueue,
    settings: Settings,
    runner: ModelRunner,
    store: FilesystemStore,
    new_job: Callable[[SamplingParams], Job],
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def tried() -> bool:
        return any(record.message == "can't fetch a picture" for record in caplog.records)

    keep_input(store, PICTURE)
    inputs, aside = settings.store.path / "inputs", settings.store.path / "aside"
    inputs.rename(aside)
    inputs.write_text("a file where the folder should be")
    waiting = await queue.submit(new_job(VARIATION))
    plain = replace(VARIATION, task=Task.GENERATE, image=None, sampler=SamplerName.DDIM)
    other = await queue.submit(new_job(plain))
    with worker_thread(settings, runner):
        await until(queue, other.id, lambda job: job.status is JobStatus.SUCCEEDED)
        await eventually(tried)
        inputs.unlink()
        shutil.move(aside, inputs)
        done = await until(queue, waiting.id, lambda job: job.status.is_final)
    assert done.status is JobStatus.SUCCEEDED, done.failure


async def test_a_canceled_job_does_not_wait_for_its_picture(
    queue: RedisJobQueue,
    settings: Settings,
    runner: ModelRunner,
    new_job: Callable[[SamplingParams], Job],
) -> None:
    settings.store.path.mkdir()
    (settings.store.path / "inputs").write_text("a file where the folder should be")
    job = await queue.submit(new_job(VARIATION))
    with worker_thread(settings, runner):
        await until(queue, job.id, lambda job: job.status is JobStatus.RUNNING)
        await queue.cancel(job.id, "not wanted any more")
        ended = await until(queue, job.id, lambda job: job.status.is_final)
    assert ended.status is JobStatus.CANCELED

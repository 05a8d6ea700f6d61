import asyncio
import io
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image as PillowImage

from model.catalog import PipelineSpec, total_steps
from model.params import SamplingParams
from service.engine.runner import ModelRunner
from service.errors import InvalidRequest
from service.events import Event, Image, Preview, Queued
from service.jobs import Job, JobStatus, new_job_id
from service.queue.redis import RedisJobQueue
from service.settings import PolicySettings, Settings
from service.store.filesystem import FilesystemStore
from service.worker.main import build_worker
from tests.service.worker import image_checks
from tests.service.worker.live_worker import until, worker_process, worker_thread

SMALL = SamplingParams(
    prompt="a red apple", model="tiny", width=16, height=16, steps=4, seed=1, previews=2
)
Submit = Callable[[SamplingParams], Awaitable[Job]]
FORBIDDEN = replace(SMALL, prompt="a forbidden apple")


@pytest.fixture(autouse=True)
def nothing_seen() -> Iterator[None]:
    image_checks.seen.clear()
    image_checks.failures.clear()
    yield
    image_checks.failures.clear()


@pytest.fixture
def submit(spec: PipelineSpec, queue: RedisJobQueue) -> Submit:
    async def make(params: SamplingParams) -> Job:
        steps = total_steps(spec, params)
        job = Job(id=new_job_id(), status=JobStatus.QUEUED, params=params, total_steps=steps)
        return await queue.submit(job)

    return make


def checked_by(settings: Settings, function: str) -> Settings:
    policy = PolicySettings(image_check=f"tests.service.worker.image_checks:{function}")
    return settings.model_copy(update={"policy": policy})


def is_final(job: Job) -> bool:
    return job.status.is_final


async def events_of(queue: RedisJobQueue, job: Job) -> list[Event]:
    return [event for _, event in await queue.events(job.id, None)]


async def test_a_refused_image_fails_its_job_alone_and_nothing_of_it_leaves(
    queue: RedisJobQueue,
    settings: Settings,
    runner: ModelRunner,
    submit: Submit,
) -> None:
    bad, good = await submit(FORBIDDEN), await submit(SMALL)
    with worker_thread(checked_by(settings, "refuse_forbidden"), runner):
        refused = await until(queue, bad.id, is_final)
        done = await until(queue, good.id, is_final)
    assert refused.failure is not None
    assert (refused.failure.code, refused.failure.retryable) == ("image_rejected", False)
    assert "it looks forbidden" in refused.failure.detail
    assert refused.images == ()
    assert not (settings.store.path / bad.id).exists()
    assert not any(isinstance(e, Preview | Image) for e in await events_of(queue, bad))
    assert done.status is JobStatus.SUCCEEDED
    assert any(isinstance(event, Preview) for event in await events_of(queue, good))


async def test_the_check_sees_every_preview_and_image_and_changes_none(
    queue: RedisJobQueue,
    settings: Settings,
    runner: ModelRunner,
    submit: Submit,
) -> None:
    job = await submit(SMALL)
    with worker_thread(checked_by(settings, "refuse_forbidden"), runner):
        done = await until(queue, job.id, is_final)
    previews = [facts for facts in image_checks.seen if facts["preview"]]
    (image,) = [facts for facts in image_checks.seen if not facts["preview"]]
    assert len(previews) == 2
    assert (image["shape"], image["dtype"]) == ((16, 16, 3), "uint8")
    assert {name: image[name] for name in ("job_id", "tenant", "index", "seed", "model")} == {
        "job_id": job.id, "tenant": "default", "index": 0, "seed": 1, "model": "tiny",
    }  # fmt: skip
    data = FilesystemStore(settings.store.path).get(done.images[0].key)
    with PillowImage.open(io.BytesIO(data)) as picture:
        assert np.asarray(picture).any()


async def test_images_that_passed_before_one_was_refused_stay(
    queue: RedisJobQueue,
    settings: Settings,
    runner: ModelRunner,
    submit: Submit,
) -> None:
    bad = await submit(replace(SMALL, n=3))
    with worker_thread(checked_by(settings, "refuse_second"), runner):
        refused = await until(queue, bad.id, is_final)
        later = await until(queue, (await submit(SMALL)).id, is_final)
    assert refused.failure is not None
    assert refused.failure.code == "image_rejected"
    assert [image.index for image in refused.images] == [0]
    assert len(list((settings.store.path / bad.id).iterdir())) == 1
    assert later.status is JobStatus.SUCCEEDED


async def test_a_check_that_fails_once_is_asked_again(
    queue: RedisJobQueue,
    settings: Settings,
    runner: ModelRunner,
    submit: Submit,
) -> None:
    image_checks.failures.append(RuntimeError("the classifier is away"))
    job = await submit(replace(SMALL, previews=0))
    with worker_thread(checked_by(settings, "refuse_forbidden"), runner):
        done = await until(queue, job.id, is_final)
    assert done.status is JobStatus.SUCCEEDED
    assert done.attempt == 2
    assert Queued("image_unchecked") in await events_of(queue, job)


async def test_a_check_that_always_fails_fails_the_job_and_shows_nothing(
    queue: RedisJobQueue,
    settings: Settings,
    runner: ModelRunner,
    submit: Submit,
) -> None:
    job = await submit(SMALL)
    with worker_thread(checked_by(settings, "always_fail"), runner):
        failed = await until(queue, job.id, is_final)
    assert failed.failure is not None
    assert (failed.failure.code, failed.failure.retryable) == ("image_unchecked", True)
    assert "classifier" not in failed.failure.detail
    assert failed.images == ()
    assert not any(isinstance(e, Preview | Image) for e in await events_of(queue, job))


def test_a_worker_whose_check_cannot_be_imported_does_not_start(
    settings: Settings, runner: ModelRunner
) -> None:
    with pytest.raises(InvalidRequest, match="GLIDE_POLICY__IMAGE_CHECK"):
        build_worker(checked_by(settings, "nothing"), "unchecked", runner)


async def test_the_worker_s_process_says_so_in_a_sentence(settings: Settings) -> None:
    with worker_process(checked_by(settings, "nothing"), "unchecked") as process:
        assert await asyncio.to_thread(process.wait) == 1

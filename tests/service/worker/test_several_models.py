import asyncio
import logging
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from model.catalog import PipelineSpec, total_steps
from model.errors import CheckpointError, UnsupportedSampling
from model.params import SamplingParams
from service.engine.runner import ModelRunner
from service.engine.shelf import Bounds
from service.jobs import Job, JobStatus, new_job_id
from service.queue.redis import RedisJobQueue
from service.settings import ModelsSettings, Settings, WorkerSettings
from service.wiring import served_specs
from tests.service.worker.live_worker import worker_thread
from tests.tiny_pipeline import write_tiny_pipeline

DRAWING = SamplingParams(prompt="a cat", model="a", width=16, height=16, steps=12)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    for name in ("a", "b"):
        write_tiny_pipeline(home / name, name=name, base=16, upsampled=64)
    return home


@pytest.fixture
def settings(settings: Settings, home: Path) -> Settings:
    return settings.model_copy(
        update={"models": ModelsSettings(home=home), "worker": WorkerSettings(models=("a", "b"))}
    )


@pytest_asyncio.fixture
async def jobs(settings: Settings, queue: RedisJobQueue) -> list[Job]:
    """Jobs for two models, by turns."""
    specs: dict[str, PipelineSpec] = {spec.name: spec for spec in served_specs(settings)}
    params = [replace(DRAWING, model="ab"[index % 2], seed=index) for index in range(6)]
    return [
        await queue.submit(
            Job(
                id=new_job_id(),
                status=JobStatus.QUEUED,
                params=each,
                total_steps=total_steps(specs[each.model], each),
            )
        )
        for each in params
    ]


async def _end(queue: RedisJobQueue, job: Job) -> Job:
    async with asyncio.timeout(120):
        while True:
            found = await queue.get(job.id)
            assert found is not None
            if found.status.is_final:
                return found
            await asyncio.sleep(0.05)


async def test_jobs_for_more_models_than_fit_are_all_served(
    settings: Settings, queue: RedisJobQueue, jobs: list[Job], caplog: pytest.LogCaptureFixture
) -> None:
    runner = ModelRunner.load(served_specs(settings), "cpu", "float32", Bounds(count=1))
    assert runner.loaded == ()
    with caplog.at_level(logging.INFO), worker_thread(settings, runner):
        done = [await _end(queue, job) for job in jobs]
    assert [job.status for job in done] == [JobStatus.SUCCEEDED] * 6
    turns = [
        record.message
        for record in caplog.records
        if record.message in ("model loaded", "model dropped")
    ]
    assert len(turns) >= 3
    assert turns == (["model loaded", "model dropped"] * len(turns))[: len(turns)]
    assert len(runner.loaded) == 1


async def test_a_damaged_model_fails_its_own_jobs_alone(
    settings: Settings, queue: RedisJobQueue, jobs: list[Job], home: Path
) -> None:
    shard = home / "b" / "base-1.safetensors"
    content = shard.read_bytes()
    shard.write_bytes(content[:-10])
    try:
        with worker_thread(settings, ModelRunner.load(served_specs(settings), "cpu", "float32")):
            done = [await _end(queue, job) for job in jobs]
    finally:
        shard.write_bytes(content)
    assert [job.status for job in done] == [JobStatus.SUCCEEDED, JobStatus.FAILED] * 3
    assert done[1].failure is not None
    assert done[1].failure.code == "bad_checkpoint"
    assert shard.name in done[1].failure.detail


def test_a_model_whose_files_are_missing_is_served_only_by_name(
    settings: Settings, tmp_path: Path
) -> None:
    spec = write_tiny_pipeline(tmp_path / "home" / "gone", name="gone")
    (spec.folder / spec.base.weights[0]).unlink()
    models = ModelsSettings(home=tmp_path / "home")
    some = settings.model_copy(update={"models": models, "worker": WorkerSettings()})
    assert [served.name for served in served_specs(some)] == ["scenes"]
    named = some.model_copy(update={"worker": WorkerSettings(models=("gone",))})
    with pytest.raises(
        CheckpointError, match=r"base-1\.safetensors of the pipeline gone is missing"
    ):
        served_specs(named)
    with pytest.raises(UnsupportedSampling, match="there are: gone, scenes"):
        served_specs(some.model_copy(update={"worker": WorkerSettings(models=("none",))}))

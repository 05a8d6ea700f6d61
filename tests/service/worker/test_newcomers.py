"""One tenant has ten thousand jobs queued and fills the worker; others come with a single job."""

import asyncio
import logging
import threading
from collections.abc import Sequence
from dataclasses import replace

import pytest

from model.catalog import PipelineSpec, total_steps, total_work
from model.params import SamplingParams
from model.pipeline import Pipeline
from model.sampling.trajectory import Trajectory
from service.engine.runner import ModelRunner
from service.engine.scheduler import BatchKey
from service.jobs import Job, JobStatus, new_job_id
from service.queue.redis import RedisJobQueue
from service.settings import Settings
from tests.service.worker.live_worker import eventually, worker_thread

SMALL = SamplingParams(prompt="a red apple", model="tiny", width=16, height=16, steps=4, seed=1)
LARGE = replace(SMALL, width=64, height=64)
FLOOD = 10_000


class GatedDevice(ModelRunner):
    """The real runner on a device that waits in every step until the test lets it end."""

    def __init__(self, spec: PipelineSpec) -> None:
        super().__init__({spec.name: Pipeline.load(spec)})
        self._permits = threading.Semaphore(0)
        self._open = False
        self.begun = 0
        self.seeds: list[list[int]] = []
        """Of the trajectories of each step that has ended."""

    def run(self, key: BatchKey, trajectories: Sequence[Trajectory]) -> int:
        seeds = [trajectory.seed for trajectory in trajectories]
        self.begun += 1
        if not self._open:
            self._permits.acquire()
        rows = super().run(key, trajectories)
        self.seeds.append(seeds)
        return rows

    def open(self) -> None:
        self._open = True
        self._permits.release()

    async def begin(self) -> None:
        """Returns once the device is in a step."""

        async def in_step() -> bool:
            return self.begun > len(self.seeds)

        await eventually(in_step)

    async def end_step(self) -> None:
        """Lets the step under way end, and returns once the device is in the next."""
        ended = len(self.seeds)

        async def in_next() -> bool:
            return self.begun > ended + 1

        self._permits.release()
        await eventually(in_next)


async def _submit(
    queue: RedisJobQueue, spec: PipelineSpec, params: SamplingParams, tenant: str
) -> Job:
    job = Job(
        id=new_job_id(),
        status=JobStatus.QUEUED,
        params=params,
        tenant=tenant,
        total_steps=total_steps(spec, params),
        work=total_work(spec, params),
    )
    return await queue.submit(job)


async def _flood(queue: RedisJobQueue, spec: PipelineSpec) -> None:
    for start in range(0, FLOOD, 100):
        kinds = [(SMALL, LARGE)[number % 2] for number in range(start, start + 100)]
        await asyncio.gather(*(_submit(queue, spec, params, "flood") for params in kinds))


@pytest.fixture
def settings(settings: Settings) -> Settings:
    bounds = {"max_queued": 2 * FLOOD, "max_queued_per_tenant": FLOOD}
    return settings.model_copy(update={"queue": settings.queue.model_copy(update=bounds)})


async def test_a_single_jobs_first_step_is_the_second_after_the_one_under_way_at_the_latest(
    queue: RedisJobQueue,
    settings: Settings,
    spec: PipelineSpec,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def full() -> bool:
        workers = await queue.workers()
        return any(worker.trajectories >= 2 * worker.max_batch for worker in workers)

    async def leased() -> bool:
        return single.id in [record.__dict__.get("job_id") for record in caplog.records]

    caplog.set_level(logging.DEBUG, "service.worker.leasing")
    await _flood(queue, spec)
    device = GatedDevice(spec)
    with worker_thread(settings, device):
        try:
            for number in range(8):
                await device.begin()
                for _ in range(number):  # each finds the others at other positions
                    await device.end_step()
                await eventually(full)
                params = replace((SMALL, LARGE)[number % 2], seed=1000 + number)
                single = await _submit(queue, spec, params, f"single {number % 5}")
                under_way = device.begun
                await eventually(leased)
                assert len(device.seeds) < under_way  # leased while the device was busy
                while not any(params.seed in seeds for seeds in device.seeds):
                    await device.end_step()
                assert len(device.seeds) - under_way <= 2
        finally:
            device.open()
    assert (await queue.backlog("tiny")).waiting_work > FLOOD / 2

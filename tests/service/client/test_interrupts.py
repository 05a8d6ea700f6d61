"""A call that is broken off leaves no job behind that nobody knows of."""

import asyncio
import signal
import threading

import pytest

from service.client import AsyncGlideClient, GlideClient
from service.jobs import JobStatus
from service.views.event import JobEvent
from tests.service.live_api import LiveApi, Worker


def test_a_run_that_is_interrupted_cancels_its_job(api: LiveApi) -> None:
    def interrupt(event: JobEvent) -> None:
        signal.raise_signal(signal.SIGINT)

    with GlideClient(api.url) as client:
        with pytest.raises(KeyboardInterrupt):
            client.run("a red apple", on_progress=interrupt)
        (job,) = client.jobs()
    assert job.status is JobStatus.CANCELED


async def test_a_run_whose_task_is_canceled_cancels_its_job(api: LiveApi) -> None:
    started = asyncio.Event()
    async with AsyncGlideClient(api.url) as client:
        task = asyncio.create_task(
            client.run("a red apple", on_progress=lambda event: started.set())
        )
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        jobs = [job async for job in client.jobs()]
    assert [job.status for job in jobs] == [JobStatus.CANCELED]


async def test_many_runs_share_one_client(api: LiveApi, worker: Worker) -> None:
    def work() -> None:
        for name in (b"one", b"two", b"three"):
            worker.finish(worker.take_next(), name)

    working = threading.Thread(target=work)
    working.start()
    async with AsyncGlideClient(api.url) as client:
        found = await asyncio.gather(*(client.run("a red apple") for _ in range(3)))
    await asyncio.to_thread(working.join)
    assert {finished.images[0] for finished in found} == {b"one", b"two", b"three"}

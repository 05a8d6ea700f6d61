"""The real worker, in a thread or in a process of its own, and waiting for what it does."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from service.engine.runner import ModelRunner
from service.jobs import Job
from service.local import environment
from service.queue.redis import RedisJobQueue
from service.settings import Settings
from service.worker.main import build_worker

ROOT = Path(__file__).parents[3]


@contextmanager
def worker_thread(settings: Settings, runner: ModelRunner, name: str = "thread") -> Iterator[None]:
    """The real worker in a thread of this process, drained at the end."""
    worker = build_worker(settings, name, runner)
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        yield
    finally:
        worker.stop()
        thread.join()


@contextmanager
def worker_process(settings: Settings, name: str) -> Iterator["subprocess.Popen[str]"]:
    """The real worker in a process of its own, killed at the end if it still lives."""
    process = subprocess.Popen(
        [sys.executable, "-m", "service.cli.main", "worker", "--id", name],
        cwd=ROOT,
        env={**environment(settings), "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,  # and not a file, since one test limits the size of files
        text=True,
    )
    assert process.stderr is not None
    drain = threading.Thread(target=process.stderr.read)
    drain.start()
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        drain.join()
        process.stderr.close()


async def eventually(check: Callable[[], Awaitable[bool]]) -> None:
    """Returns once `check` holds."""
    async with asyncio.timeout(120):
        while True:
            if await check():
                return
            await asyncio.sleep(0.05)


async def until(queue: RedisJobQueue, job_id: str, holds: Callable[[Job], bool]) -> Job:
    """The job, once `holds` says so of it."""

    async def reached() -> bool:
        job = await queue.get(job_id)
        assert job is not None
        return holds(job)

    await eventually(reached)
    job = await queue.get(job_id)
    assert job is not None
    return job

import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from model.catalog import PipelineSpec
from service.engine.runner import ModelRunner
from service.local import environment
from service.queue.embedded import EmbeddedRedis
from service.queue.redis import RedisJobQueue
from service.settings import (
    LogSettings,
    ModelsSettings,
    QueueSettings,
    RedisSettings,
    Settings,
    StoreSettings,
    WorkerSettings,
)
from service.wiring import build_queue
from service.worker.main import build_worker
from tests.tiny_pipeline import write_tiny_pipeline

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def spec(tmp_path_factory: pytest.TempPathFactory) -> PipelineSpec:
    return write_tiny_pipeline(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def runner(spec: PipelineSpec) -> ModelRunner:
    return ModelRunner.load([spec], "cpu", "float32")


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis(tmp_path / "redis") as server:
        yield server


@pytest.fixture
def settings(redis: EmbeddedRedis, spec: PipelineSpec, tmp_path: Path) -> Settings:
    return Settings(
        redis=RedisSettings(url=redis.url),
        queue=QueueSettings(lease_s=3, heartbeat_s=0.3),
        store=StoreSettings(path=tmp_path / "images"),
        worker=WorkerSettings(max_batch=8, threads=1, drain_s=10, models=("tiny",)),
        models=ModelsSettings(folders=(spec.folder,)),
        log=LogSettings(level="DEBUG", format="json"),
    )


@pytest_asyncio.fixture
async def queue(settings: Settings) -> AsyncIterator[RedisJobQueue]:
    queue = build_queue(settings)
    yield queue
    await queue.aclose()


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

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from model.catalog import PipelineSpec
from service.engine.runner import ModelRunner
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
from tests.tiny_pipeline import write_tiny_pipeline


@pytest.fixture(scope="session")
def spec(tmp_path_factory: pytest.TempPathFactory) -> PipelineSpec:
    return write_tiny_pipeline(tmp_path_factory.mktemp("models") / "tiny", base=16, upsampled=64)


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

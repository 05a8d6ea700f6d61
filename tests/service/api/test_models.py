from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from model.catalog import PipelineSpec
from model.checkpoints.survey import survey
from model.text.tokenizer import load_tokenizer
from service.api.app import create_app
from service.queue.redis import RedisJobQueue
from service.settings import RedisSettings, Settings
from service.store.filesystem import FilesystemStore
from tests.service.live_api import serving
from tests.tiny_pipeline import write_tiny_pipeline


@pytest.fixture
def weighty(tmp_path: Path) -> PipelineSpec:
    return write_tiny_pipeline(tmp_path / "tiny", base=16, upsampled=64)


@pytest.fixture
def http(
    weighty: PipelineSpec, redis_url: str, redis_prefix: str, tmp_path: Path
) -> Iterator[httpx.Client]:
    settings = Settings(redis=RedisSettings(url=redis_url, prefix=redis_prefix))
    app = create_app(
        settings,
        RedisJobQueue(redis_url, prefix=redis_prefix),
        FilesystemStore(tmp_path / "images"),
        {weighty.name: weighty},
        {weighty.name: load_tokenizer(weighty)},
    )
    with serving(app) as url, httpx.Client(base_url=url, timeout=30) as client:
        yield client


def test_models_say_what_their_weights_take(http: httpx.Client, weighty: PipelineSpec) -> None:
    (model,) = http.get("/v1/models").json()["data"]
    seen = survey(weighty)
    assert model["parameters"] == seen.parameters > 0
    assert model["memory_bytes"] == dict(seen.memory_bytes)
    assert model["files"] == {"present": True, "missing": [], "problem": None}


def test_models_say_which_of_their_files_are_missing_or_damaged(
    http: httpx.Client, weighty: PipelineSpec
) -> None:
    shard = weighty.folder / weighty.base.weights[0]
    shard.write_bytes(shard.read_bytes()[:-1])
    (model,) = http.get("/v1/models").json()["data"]
    assert shard.name in model["files"]["problem"]
    shard.unlink()
    (model,) = http.get("/v1/models").json()["data"]
    assert model["files"]["present"] is False
    assert model["files"]["missing"] == [shard.name]
    assert (model["parameters"], model["memory_bytes"]) == (0, {})

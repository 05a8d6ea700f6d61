import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from model.catalog import PipelineSpec
from model.text.tokenizer import CaptionTokenizer
from service.settings import RedisSettings
from tests.service.live_api import LiveApi, Worker, live_api
from tests.service.tiny_spec import tiny_spec, tiny_tokenizer


@pytest.fixture
def spec(tmp_path: Path) -> PipelineSpec:
    return tiny_spec(tmp_path)


@pytest.fixture
def tokenizer(spec: PipelineSpec) -> CaptionTokenizer:
    return tiny_tokenizer(spec)


@pytest.fixture
def api(redis_url: str, redis_prefix: str, tmp_path: Path) -> Iterator[LiveApi]:
    """A server of the test's own, with an empty queue."""
    redis = RedisSettings(url=redis_url, prefix=redis_prefix)
    with live_api(redis, tmp_path, keepalive_s=0.05, max_wait_s=5) as api:
        yield api


@pytest.fixture
def small_api(redis_url: str, redis_prefix: str, tmp_path: Path) -> Iterator[LiveApi]:
    """A server that takes bodies of 1000 bytes and pictures of 3000."""
    redis = RedisSettings(url=redis_url, prefix=redis_prefix)
    with live_api(redis, tmp_path, max_body_bytes=1000, max_picture_bytes=3000) as api:
        yield api


@pytest.fixture
def worker(api: LiveApi) -> Worker:
    return Worker(api)


@pytest.fixture(scope="module")
def shared_api(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveApi]:
    """One server for the tests of a module that don't mind what others have queued."""
    redis = RedisSettings(url=redis_url, prefix=f"test-{secrets.token_hex(6)}:{{q}}:")
    with live_api(redis, tmp_path_factory.mktemp("api")) as api:
        yield api

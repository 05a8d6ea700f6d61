from collections.abc import Iterator
from pathlib import Path

import pytest

from model.catalog import PipelineSpec
from model.text.tokenizer import CaptionTokenizer
from tests.service.live_api import LiveApi, Worker, live_api
from tests.service.tiny_spec import tiny_spec, tiny_tokenizer


@pytest.fixture
def spec(tmp_path: Path) -> PipelineSpec:
    return tiny_spec(tmp_path)


@pytest.fixture
def tokenizer(spec: PipelineSpec) -> CaptionTokenizer:
    return tiny_tokenizer(spec)


@pytest.fixture
def api(redis_url: str, tmp_path: Path) -> Iterator[LiveApi]:
    with live_api(redis_url, tmp_path, keepalive_s=0.05, max_wait_s=5) as api:
        yield api


@pytest.fixture
def worker(api: LiveApi) -> Worker:
    return Worker(api)

"""The whole service, for real clients: HTTP, Redis, and a worker on a tiny pipeline."""

import contextlib
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from model.catalog import PipelineSpec
from service.api.app import create_app
from service.api_keys import new_key_text
from service.engine.runner import ModelRunner
from service.settings import (
    ModelsSettings,
    OpenAISettings,
    RedisSettings,
    Settings,
    StoreSettings,
    WorkerSettings,
)
from service.store.filesystem import FilesystemStore
from service.wiring import build_queue, build_store, build_tokenizers
from tests.clients.node_clients import Node, install
from tests.clients.recording import Recorder
from tests.service.live_api import LiveApi, Worker, serving
from tests.service.worker.live_worker import worker_thread
from tests.tiny_pipeline import write_tiny_pipeline

ALIASES = {"gpt-image-1": "tiny", "acme/tiny": "tiny"}


@pytest.fixture(scope="session")
def spec(tmp_path_factory: pytest.TempPathFactory) -> PipelineSpec:
    """A pipeline of 16 and 64 px: 6 and 3 steps, real networks with random weights."""
    return write_tiny_pipeline(tmp_path_factory.mktemp("models") / "tiny", base=16, upsampled=64)


@pytest.fixture(scope="session")
def recorder() -> Recorder:
    """What `service` was asked by all tests so far."""
    return Recorder()


@pytest.fixture(scope="session")
def settings(
    redis_url: str, spec: PipelineSpec, tmp_path_factory: pytest.TempPathFactory
) -> Settings:
    """Of `service`."""
    return _settings(redis_url, spec, tmp_path_factory.mktemp("service"))


@pytest.fixture(scope="session")
def service(
    settings: Settings, spec: PipelineSpec, recorder: Recorder, api_key: str
) -> Iterator[LiveApi]:
    """The service of all tests that need finished images: the real worker runs."""
    runner = ModelRunner.load([spec], "cpu", "float32")
    with _serving(settings, spec, recorder, api_key) as api, worker_thread(settings, runner):
        api.new_key(text=api_key)
        yield api


@pytest.fixture(scope="session")
def resizing_service(
    service: LiveApi, settings: Settings, spec: PipelineSpec, recorder: Recorder, api_key: str
) -> Iterator[LiveApi]:
    """A second API process over the same queue and worker, which scales images."""
    resizing = settings.model_copy(update={"openai": OpenAISettings(resize=True)})
    with _serving(resizing, spec, recorder, api_key) as api:
        yield api


@pytest.fixture
def seen() -> Recorder:
    """What `idle_service` was asked."""
    return Recorder()


@pytest.fixture
def idle_service(
    request: pytest.FixtureRequest,
    redis_url: str,
    spec: PipelineSpec,
    seen: Recorder,
    api_key: str,
    tmp_path: Path,
) -> Iterator[LiveApi]:
    """A service of the test's own, whose worker the test plays; a quiet stream gets comments.

    Its parameter sets groups of settings.
    """
    groups = {"api": {"keepalive_s": 0.1}, **getattr(request, "param", {})}
    settings = _settings(redis_url, spec, tmp_path, **groups)
    with _serving(settings, spec, seen, api_key) as api:
        api.new_key(text=api_key)
        yield api


@pytest.fixture
def player(idle_service: LiveApi) -> Worker:
    """Takes the jobs of `idle_service`, and fails or finishes them as the test says."""
    return Worker(idle_service)


@pytest.fixture(scope="session")
def api_key() -> str:
    """The key that both services know; no client starts without one."""
    return new_key_text()


@pytest.fixture(scope="session")
def node() -> Node:
    """Runs the scripts of `tests/clients/node`."""
    return install()


def _settings(
    redis_url: str, spec: PipelineSpec, folder: Path, **groups: dict[str, Any]
) -> Settings:
    members: dict[str, Any] = {
        "redis": RedisSettings(url=redis_url, prefix=f"test-{secrets.token_hex(6)}:{{q}}:"),
        "store": StoreSettings(path=folder / "images"),
        "worker": WorkerSettings(threads=1, models=(spec.name,)),
        "models": ModelsSettings(folders=(spec.folder,), aliases=ALIASES),
    }
    return Settings(**{**members, **groups})


@contextlib.contextmanager
def _serving(
    settings: Settings, spec: PipelineSpec, recorder: Recorder, key: str
) -> Iterator[LiveApi]:
    catalog = {spec.name: spec}
    queue, store = build_queue(settings), build_store(settings)
    app = create_app(settings, queue, store, catalog, build_tokenizers(catalog))
    headers = {"authorization": f"Bearer {key}"}
    with (
        serving(recorder.around(app), settings=settings.api) as url,
        httpx.Client(base_url=url, timeout=60, headers=headers) as http,
    ):
        yield LiveApi(url, http, settings, FilesystemStore(settings.store.path))

"""What the page of the API talks about: a server with a key and a worker, and a folder of files."""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from PIL import Image

from service.api.app import create_app
from service.engine.runner import ModelRunner
from service.settings import (
    ModelsSettings,
    RedisSettings,
    Settings,
    StoreSettings,
    WorkerSettings,
)
from service.store.filesystem import FilesystemStore
from service.wiring import build_queue, build_store, build_tokenizers
from tests.service.live_api import LiveApi, serving
from tests.service.some_pictures import mask, picture
from tests.service.worker.live_worker import worker_thread
from tests.tiny_pipeline import write_tiny_pipeline


@dataclass(frozen=True, slots=True)
class Server:
    """A running service and a key of it."""

    api: LiveApi
    key: str

    @property
    def constants(self) -> dict[str, str]:
        """What stands for them in the page."""
        secret = self.api.http.get("/v1/webhooks/secret").json()["secret"]
        return {"http://127.0.0.1:8000": self.api.url, "glide_sk_…": self.key, "whsec_…": secret}


@pytest.fixture(scope="session")
def server(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The whole service on a tiny pipeline in place of `scenes`."""
    folder = tmp_path_factory.mktemp("server")
    spec = write_tiny_pipeline(folder / "scenes", name="scenes", base=16, upsampled=64)
    settings = Settings(
        redis=RedisSettings(url=redis_url, prefix=f"test-{secrets.token_hex(6)}:{{q}}:"),
        store=StoreSettings(path=folder / "images"),
        # Each picture alone in its steps: a re-run is compared bit by bit while others draw.
        worker=WorkerSettings(threads=1, models=(spec.name,), max_batch=1),
        models=ModelsSettings(folders=(spec.folder,)),
    )
    catalog = {spec.name: spec}
    queue, store = build_queue(settings), build_store(settings)
    app = create_app(settings, queue, store, catalog, build_tokenizers(catalog))
    runner = ModelRunner.load([spec], "cpu", "float32")
    with (
        serving(app) as url,
        httpx.Client(base_url=url, timeout=60) as http,
        worker_thread(settings, runner),
    ):
        api = LiveApi(url, http, settings, FilesystemStore(settings.store.path))
        key = api.new_key("acme")
        http.headers["authorization"] = f"Bearer {key}"
        yield Server(api, key)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The reader's folder, with the files that the page takes for granted."""
    (tmp_path / "photo.jpg").write_bytes(picture(64, 64, kind="JPEG"))
    (tmp_path / "photo.png").write_bytes(picture(64, 64))
    (tmp_path / "mask.png").write_bytes(mask(64, 64))
    hole = Image.new("RGBA", (64, 64), (0, 0, 0, 255))
    hole.paste((0, 0, 0, 0), (16, 16, 48, 48))
    hole.save(tmp_path / "hole.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path

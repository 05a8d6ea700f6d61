"""`glide serve` tells a client's server, also after the part that does so was killed."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from standardwebhooks import Webhook

from service.local import LocalService, with_data_folder
from service.settings import (
    ApiSettings,
    ModelsSettings,
    QueueSettings,
    Settings,
    WebhookSettings,
    WorkerSettings,
)
from tests.service.webhooks.receiver import receiving
from tests.tiny_pipeline import write_tiny_pipeline

SMALL = {"prompt": "a red apple", "model": "tiny", "width": 16, "seed": 1, "steps": 4}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    write_tiny_pipeline(tmp_path / "models" / "tiny", base=16, upsampled=64)
    return with_data_folder(
        Settings(
            api=ApiSettings(port=0),
            queue=QueueSettings(lease_s=3, heartbeat_s=0.3),
            worker=WorkerSettings(threads=1, drain_s=5, models=("tiny",)),
            models=ModelsSettings(folders=(tmp_path / "models",)),
            webhooks=WebhookSettings(allow_private=True),
        ),
        tmp_path / "data",
    )


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[LocalService]:
    service = LocalService(settings)
    with service:  # in this thread, which Redis ends with
        assert await asyncio.to_thread(service.wait_ready)
        supervisor = asyncio.create_task(asyncio.to_thread(service.run))
        try:
            yield service
        finally:
            service.stop()
            await supervisor


async def test_a_job_is_told_of_though_the_sender_was_killed(settings: Settings) -> None:
    async with (
        receiving() as receiver,
        serving(settings) as service,
        httpx.AsyncClient(base_url=service.url, timeout=60) as http,
    ):
        body = SMALL | {"webhook": {"url": receiver.url}}
        first = (await http.post("/v1/jobs", json=body)).json()
        got = await receiver.next()
        assert got.json["data"]["id"] == first["id"]
        sender = service.pid("webhooks")
        assert sender is not None
        os.kill(sender, signal.SIGKILL)
        second = (await http.post("/v1/jobs", json=body)).json()
        again = await receiver.next()
        secret = (await http.get("/v1/webhooks/secret")).json()["secret"]
        event = Webhook(secret).verify(again.body, again.headers)
        assert (event["type"], event["data"]["id"]) == ("job.succeeded", second["id"])
        image = await http.get(event["data"]["images"][0]["url"])
        assert image.headers["content-type"] == "image/png"

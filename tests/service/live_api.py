"""The real API on a real socket over a real Redis, and the worker's side of the protocol."""

import contextlib
import hashlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp

from service.api.app import create_app
from service.api_keys import Allowance, ApiKey, digest_of, new_key_id, new_key_text
from service.cli.http_server import server_config
from service.jobs import ImageRecord, JobFailure
from service.queue.key_store import KeyStore
from service.queue.leases import Lease, RedisLeases
from service.queue.presence import WorkerPresence
from service.queue.redis import RedisJobQueue
from service.settings import ApiSettings, RedisSettings, Settings
from service.store.filesystem import FilesystemStore
from tests.service.tiny_spec import tiny_spec, tiny_tokenizer


@dataclass(frozen=True, slots=True)
class LiveApi:
    """A running API. `http` raises nothing for error statuses."""

    url: str
    http: httpx.Client
    settings: Settings
    store: FilesystemStore

    def submit(self, **members: object) -> str:
        """Submits a job and returns its id."""
        response = self.http.post("/v1/jobs", json={"prompt": "a red apple", **members})
        assert response.status_code == 202, response.text
        job_id: str = response.json()["id"]
        return job_id

    def once_final(self, job_id: str) -> dict[str, Any]:
        """A job that is about to end. Looks without waiting for it, which would count as company.

        A job whose client has gone is stopped only if nobody else waits.
        """
        while True:
            job: dict[str, Any] = self.http.get(f"/v1/jobs/{job_id}").json()
            if job["status"] in ("succeeded", "failed", "canceled"):
                return job
            time.sleep(0.02)

    def new_key(
        self,
        tenant: str = "default",
        *,
        rate: str | None = None,
        quota: str | None = None,
        text: str | None = None,
    ) -> str:
        """Creates an API key and returns its text, which is `text` where that is given."""
        text = text or new_key_text()
        key = ApiKey(
            id=new_key_id(),
            tenant=tenant,
            digest=digest_of(text),
            created_at_ms=int(time.time() * 1000),
            rate=(rate and Allowance.parse(rate)) or None,
            quota=(quota and Allowance.parse(quota)) or None,
        )
        with KeyStore(self.settings.redis.url or "", prefix=self.settings.redis.prefix) as keys:
            keys.create(key)
        return text


class Worker:
    """Plays the worker's part with the queue's own worker-side class, without any model."""

    def __init__(self, api: LiveApi, worker_id: str = "worker-1") -> None:
        self._store = api.store
        redis = api.settings.redis
        self._id = worker_id
        self.leases = RedisLeases(redis.url or "", worker=worker_id, prefix=redis.prefix)

    def announce(self, work_rate: float | None = None) -> None:
        """Says that it lives and serves the model `tiny`, and how fast it is."""
        presence = WorkerPresence(id=self._id, models=("tiny",), work_rate=work_rate)
        self.leases.announce(presence)

    def take_next(self) -> Lease:
        """Leases the job that comes next, as soon as it is there."""
        while not (found := self.leases.lease(("tiny",), 1)):
            self.leases.wait(("tiny",))
        return found[0]

    def take(self) -> Lease:
        """Leases the one job that waits."""
        (lease,) = self.leases.lease(("tiny",), 1)
        return lease

    def deliver(self, lease: Lease, index: int, data: bytes) -> ImageRecord:
        """Stores an image and tells the queue."""
        job = lease.job
        record = ImageRecord(
            index=index,
            key=f"{job.id}/{index}.{lease.token}.png",
            content_type="image/png",
            image_bytes=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            width=job.params.width,
            height=job.params.height,
            seed=job.params.seed + index,
        )
        self._store.put(record.key, data)
        self.leases.image(job.id, lease.token, record)
        return record

    def fail(self, lease: Lease, code: str, detail: str) -> None:
        """Gives the job up for good."""
        failure = JobFailure(code=code, detail=detail, retryable=False)
        self.leases.fail(lease.job.id, lease.token, failure, None)

    def finish(self, lease: Lease, *contents: bytes) -> None:
        """Delivers the images and ends the job."""
        for index, data in enumerate(contents):
            self.deliver(lease, index, data)
        self.leases.finish(lease.job.id, lease.token)


@contextlib.contextmanager
def live_api(redis: RedisSettings, folder: Path, **api: object) -> Iterator[LiveApi]:
    """Runs the API over the given Redis until the block ends."""
    settings = Settings(redis=redis, api=ApiSettings.model_validate(api))
    with (
        serving(tiny_app(settings, folder), settings=settings.api) as url,
        httpx.Client(base_url=url, timeout=30) as http,
    ):
        yield LiveApi(url, http, settings, FilesystemStore(folder / "images"))


def tiny_app(settings: Settings, folder: Path) -> FastAPI:
    """The application with the one model `tiny`, images below `folder`."""
    spec = tiny_spec(folder)
    return create_app(
        settings,
        RedisJobQueue(settings.redis.url or "", prefix=settings.redis.prefix),
        FilesystemStore(folder / "images"),
        {spec.name: spec},
        {spec.name: tiny_tokenizer(spec)},
    )


@contextlib.contextmanager
def serving(app: ASGIApp, port: int = 0, settings: ApiSettings | None = None) -> Iterator[str]:
    """Runs `app` under uvicorn in a thread and gives its URL."""
    config = server_config(app, settings or ApiSettings(), port=port)
    config.timeout_graceful_shutdown = 1
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            time.sleep(0.01)
        host, bound = server.servers[0].sockets[0].getsockname()[:2]
        yield f"http://{host}:{bound}"
    finally:
        server.should_exit = True
        thread.join()

"""A queue, its worker, a client's server and senders, all real, on loopback."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from redis import Redis

from model.params import SamplingParams
from service.jobs import Job, JobStatus, WebhookTarget, new_job_id
from service.queue.deliveries import Delivery
from service.queue.leases import Lease, RedisLeases
from service.queue.redis import RedisJobQueue
from service.settings import RedisSettings, Settings
from service.webhooks.calls import Caller, SystemResolver
from service.webhooks.main import JobRenderer
from service.webhooks.schedule import Schedule
from service.webhooks.sender import Bounds, Sender
from tests.service.webhooks.receiver import Receiver, receiving

FINAL = ("job.succeeded", "job.failed", "job.canceled")
SOON = Schedule(delays_s=(0.01,) * 9, jitter=0.0, throttle_s=0.01)


class Service:
    """The service around a sender: submits jobs, works on them, looks at the log."""

    def __init__(self, url: str, prefix: str) -> None:
        self.url, self.prefix = url, prefix
        self.settings = Settings(redis=RedisSettings(url=url, prefix=prefix))
        self.queue = RedisJobQueue(url, prefix=prefix)
        self.leases = RedisLeases(url, worker="w", prefix=prefix)

    async def submit(self, url: str, *events: str, tenant: str = "default", **members: Any) -> Job:
        """Submits a job with a webhook; without events it wants the end."""
        dialect = members.pop("dialect", "native")
        prompt = members.pop("prompt", "a cat")
        job = Job(
            id=new_job_id(),
            status=JobStatus.QUEUED,
            params=SamplingParams(prompt=prompt, model="tiny"),
            tenant=tenant,
            total_steps=20,
            webhook=WebhookTarget(url=url, events=events or FINAL, dialect=dialect),
            base_url="https://glide.example",
            **members,
        )
        return await self.queue.submit(job)

    def lease(self) -> Lease:
        """Takes the one job that waits."""
        (lease,) = self.leases.lease(["tiny"], 1)
        return lease

    def finish(self) -> Lease:
        """Ends the one job that waits."""
        lease = self.lease()
        assert self.leases.finish(lease.job.id, lease.token) == "ok"
        return lease

    async def ended(self, url: str, **members: Any) -> Job:
        """A job that has ended, so that its webhook is due."""
        job = await self.submit(url, **members)
        self.finish()
        return job

    async def log(self, job: Job) -> tuple[Delivery, ...]:
        """The deliveries of a job."""
        return await self.queue.outbox.log(job.id, job.tenant)

    async def settled(self, job: Job) -> Delivery:
        """The one delivery of a job, as soon as nothing more is to come of it."""
        while True:
            (delivery,) = await self.log(job)
            if delivery.state != "pending":
                return delivery
            await asyncio.sleep(0.01)

    async def attempted(self, job: Job, count: int = 1) -> Delivery:
        """The one delivery of a job, as soon as so many attempts are known."""
        while True:
            (delivery,) = await self.log(job)
            if len(delivery.attempts) >= count:
                return delivery
            await asyncio.sleep(0.01)

    def sender(
        self, schedule: Schedule = SOON, *, bounds: Bounds | None = None, **options: Any
    ) -> Sender:
        """A sender that may call loopback."""
        bounds = bounds or Bounds(16, 5.0)
        resolve = options.pop("resolve", None) or SystemResolver(2)
        caller = options.pop("caller", None) or Caller(
            resolve, timeout_s=bounds.timeout_s, allow_private=True
        )
        render = JobRenderer(self.settings, self.queue)
        return Sender(self.queue.outbox, render, caller, bounds, schedule=schedule, **options)


@contextlib.asynccontextmanager
async def running(sender: Sender) -> AsyncIterator[Sender]:
    """Sends until the block ends."""
    task = asyncio.create_task(sender.run())
    try:
        yield sender
    finally:
        sender.stop()
        await task


@pytest.fixture
async def service(redis_url: str, redis_prefix: str) -> AsyncIterator[Service]:
    service = Service(redis_url, redis_prefix)
    yield service
    service.leases.close()
    await service.queue.aclose()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    """A client of the test's own, to look at what is stored."""
    with Redis.from_url(redis_url, decode_responses=True) as client:
        yield client

"""What is left in Redis: nothing that `keys.py` doesn't list, and nothing of jobs that are gone."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from redis import Redis

from service.errors import Conflict, QuotaExceeded
from service.events import Canceled as CanceledEvent
from service.events import Failed, Preview, Succeeded
from service.jobs import JobStatus, Priority
from service.queue.keys import KEYS, undocumented
from service.queue.leases import Lease, RedisLeases
from service.queue.presence import WorkerPresence
from service.queue.quota import Quota
from service.queue.redis import RedisJobQueue
from service.settings import QueueSettings
from tests.service.queue.audit import audit
from tests.service.queue.making import OOM, image, new_job, pause

MODELS = ("scenes", "other: model")
TENANTS = ("a", "b:c", "d")
TIMEOUTS = (None, None, 600.0, 0.05)


class Chaos:
    """Random transitions by one submitter and two workers."""

    def __init__(self, queue: RedisJobQueue, workers: list[RedisLeases], seed: int) -> None:
        self.queue, self.workers = queue, workers
        self.random = random.Random(seed)
        self.ids: list[str] = []
        self.deleted: set[str] = set()
        self.held: list[tuple[RedisLeases, Lease]] = []

    async def submit(self) -> None:
        number = len(self.ids)
        job = new_job(
            tenant=self.random.choice(TENANTS),
            model=self.random.choice(MODELS),
            priority=self.random.choice(list(Priority)),
            work=self.random.randrange(1, 50),
            timeout_s=self.random.choice(TIMEOUTS),
            n=self.random.randrange(1, 4),
            seed=number,
        )
        quota = Quota(self.random.choice("kl"), self.random.choice((2, 50)), 1)
        with suppress(QuotaExceeded):
            await self.queue.enqueue(job, idempotency_key=f"key {number}", quota=quota)
            self.ids.append(job.id)

    async def limit(self) -> None:
        await self.queue.set_tenant(
            self.random.choice(TENANTS),
            weight=self.random.choice((None, 0.5, 3.0)),
            concurrency=self.random.choice((None, 1, 2)),
        )

    async def cancel(self) -> None:
        if self.ids:
            await self.queue.cancel(self.random.choice(self.ids), "chaos")

    async def delete(self) -> None:
        if self.ids:
            with suppress(Conflict):
                if deleted := await self.queue.delete(self.random.choice(self.ids)):
                    self.deleted.add(deleted.id)

    async def lease(self) -> None:
        worker = self.random.choice(self.workers)
        busy = {lease.job.tenant for owner, lease in self.held if owner is worker}
        slots, reserve = self.random.choice(((2, 0), (1, 1), (0, 2)))
        taken = worker.lease(MODELS, slots, reserve=reserve, busy_tenants=busy)
        self.held += [(worker, lease) for lease in taken]

    async def report(self) -> None:
        if self.held:
            worker, lease = self.random.choice(self.held)
            worker.renew([(lease.job.id, lease.token, self.random.randrange(20))])
            worker.event(lease.job.id, lease.token, Preview(0, self.random.randrange(20), "png"))
            worker.image(lease.job.id, lease.token, image())

    async def end(self) -> None:
        if self.held:
            worker, lease = self.held.pop(self.random.randrange(len(self.held)))
            match self.random.randrange(4):
                case 0:
                    worker.finish(lease.job.id, lease.token)
                case 1:
                    worker.fail(lease.job.id, lease.token, OOM, 0.01)
                case 2:
                    worker.fail(lease.job.id, lease.token, OOM, None)
                case _:
                    worker.release(lease.job.id, lease.token)

    async def crash(self) -> None:
        self.workers[0].abandon("worker 0")
        for number, worker in enumerate(self.workers):
            worker.announce(WorkerPresence(id=f"worker {number}", models=MODELS))

    async def move(self) -> None:
        moves = {
            self.submit: 5,
            self.lease: 4,
            self.report: 5,
            self.end: 4,
            self.cancel: 1,
            self.delete: 1,
            self.limit: 0.5,
            self.crash: 0.3,
        }
        (move,) = self.random.choices(list(moves), weights=list(moves.values()))
        await move()

    async def drain(self) -> None:
        """Every job to its end."""
        for tenant in TENANTS:
            await self.queue.set_tenant(tenant, weight=None, concurrency=None)
        while True:
            for worker, lease in self.held:
                worker.finish(lease.job.id, lease.token)
            self.held = []
            await self.lease()
            jobs = [await self.queue.get(job_id) for job_id in self.ids]
            if all(job is None or job.status.is_final for job in jobs):
                return


@asynccontextmanager
async def chaos(url: str, prefix: str, seed: int, retention_s: int) -> AsyncIterator[Chaos]:
    settings = QueueSettings(lease_s=0.5, heartbeat_s=0.1, retention_s=retention_s, max_attempts=3)
    queue = RedisJobQueue(url, prefix=prefix, settings=settings)
    workers = [
        RedisLeases(url, worker=f"worker {number}", prefix=prefix, settings=settings)
        for number in range(2)
    ]
    yield Chaos(queue, workers, seed)
    await queue.aclose()
    for worker in workers:
        worker.close()


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_random_lives_end_once_and_leave_no_bookkeeping(
    redis_url: str, redis_prefix: str, redis: Redis, seed: int
) -> None:
    async with chaos(redis_url, redis_prefix, seed=seed, retention_s=600) as run:
        for _ in range(400):
            await run.move()
            audit(redis, redis_prefix)
        found = set(redis.scan_iter(redis_prefix + "*"))
        assert undocumented(found, redis_prefix) == []
        types = {key.name.split(":")[0]: key.type for key in KEYS}
        for key in found:
            family = key.removeprefix(redis_prefix).split(":")[0]
            kind = redis.type(key)
            if kind == "none":
                continue  # its time has just ended
            assert kind == types[family], key

        await run.drain()
        final = (Succeeded, Failed, CanceledEvent)
        statuses = set()
        for job_id in run.ids:
            job = await run.queue.get(job_id)
            events = [event for _, event in await run.queue.events(job_id)]
            if job_id in run.deleted:
                assert (job, events) == (None, [])
                continue
            assert job is not None
            statuses.add(job.status)
            assert [isinstance(event, final) for event in events].count(True) == 1
            assert isinstance(events[-1], final)
        assert statuses == {JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELED}
        for name in ("waiting", "running", "leases", "delayed", "deadlines"):
            assert not redis.exists(redis_prefix + name), name
        for family in ("ready", "active", "parked", "capped", "clock", "ends", "held", "tenant"):
            assert list(redis.scan_iter(f"{redis_prefix}{family}:*")) == [], family


async def test_after_the_retention_only_fixed_keys_exist(
    redis_url: str, redis_prefix: str, redis: Redis
) -> None:
    async with chaos(redis_url, redis_prefix, seed=2, retention_s=1) as run:
        for _ in range(150):
            await run.move()
        await run.drain()
        for key in redis.scan_iter(f"{redis_prefix}deleted:*"):
            assert 0 < redis.pttl(key) <= 60_000
            redis.delete(key)  # a minute passes
        while undocumented(redis.scan_iter(redis_prefix + "*"), redis_prefix, fixed_only=True):
            await pause()  # the pulse of the queue does the rest
        assert not redis.exists(redis_prefix + "expiring")
        assert await run.queue.list("a") == ([], None)

"""What is left in Redis: nothing that `keys.py` doesn't list, and nothing of jobs that are gone."""

import random

from redis import Redis

from service.events import Canceled as CanceledEvent
from service.events import Failed, Preview, Succeeded
from service.jobs import JobStatus
from service.queue.keys import KEYS, undocumented
from service.queue.leases import Lease, RedisLeases
from service.queue.presence import WorkerPresence
from service.queue.redis import RedisJobQueue
from service.settings import QueueSettings
from tests.service.queue.making import OOM, image, new_job, pause

MODELS = ("scenes", "other: model")


class Chaos:
    """Random transitions by one submitter and two workers."""

    def __init__(self, queue: RedisJobQueue, workers: list[RedisLeases], seed: int) -> None:
        self.queue, self.workers = queue, workers
        self.random = random.Random(seed)
        self.ids: list[str] = []
        self.held: list[tuple[RedisLeases, Lease]] = []

    async def submit(self) -> None:
        number = len(self.ids)
        job = new_job(
            tenant=self.random.choice(["a", "b:c"]), model=self.random.choice(MODELS), seed=number
        )
        await self.queue.submit(job, idempotency_key=f"key {number}")
        self.ids.append(job.id)

    async def cancel(self) -> None:
        if self.ids:
            await self.queue.cancel(self.random.choice(self.ids), "chaos")

    async def lease(self) -> None:
        worker = self.random.choice(self.workers)
        self.held += [(worker, lease) for lease in worker.lease(MODELS, 2)]

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

    async def run(self, moves: int) -> None:
        choices = [self.submit, self.lease, self.report, self.end, self.cancel, self.crash]
        for move in self.random.choices(choices, weights=[4, 4, 5, 4, 1, 0.3], k=moves):
            await move()

    async def drain(self) -> None:
        """Every job to its end."""
        while True:
            for worker, lease in self.held:
                worker.finish(lease.job.id, lease.token)
            self.held = []
            await self.lease()
            jobs = [await self.queue.get(job_id) for job_id in self.ids]
            if all(job is None or job.status.is_final for job in jobs):
                return


async def chaos(url: str, prefix: str, seed: int, retention_s: int) -> tuple[Chaos, QueueSettings]:
    settings = QueueSettings(lease_s=0.5, heartbeat_s=0.1, retention_s=retention_s, max_attempts=3)
    queue = RedisJobQueue(url, prefix=prefix, settings=settings)
    workers = [
        RedisLeases(url, worker=f"worker {number}", prefix=prefix, settings=settings)
        for number in range(2)
    ]
    return Chaos(queue, workers, seed), settings


async def closed(run: Chaos) -> None:
    await run.queue.aclose()
    for worker in run.workers:
        worker.close()


async def test_random_lives_end_once_and_leave_no_bookkeeping(
    redis_url: str, redis_prefix: str, redis: Redis
) -> None:
    run, _ = await chaos(redis_url, redis_prefix, seed=1, retention_s=600)
    await run.run(400)
    found = set(redis.scan_iter(redis_prefix + "*"))
    assert undocumented(found, redis_prefix) == []
    types = {key.name.split(":")[0]: key.type for key in KEYS}
    for key in found:
        family = key.removeprefix(redis_prefix).split(":")[0]
        kind = redis.type(key)
        if family == "worker" and kind == "none":
            continue  # a worker's presence, which lasts one lease, has just ended
        assert kind == types[family], key

    await run.drain()
    final = (Succeeded, Failed, CanceledEvent)
    statuses = set()
    for job_id in run.ids:
        job = await run.queue.get(job_id)
        assert job is not None
        statuses.add(job.status)
        events = [event for _, event in await run.queue.events(job_id)]
        assert [isinstance(event, final) for event in events].count(True) == 1
        assert isinstance(events[-1], final)
    assert statuses == {JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELED}
    for name in ("waiting", "leases", "delayed"):
        assert not redis.exists(redis_prefix + name), name
    for family in ("ready", "active", "clock", "held"):
        assert list(redis.scan_iter(f"{redis_prefix}{family}:*")) == [], family
    await closed(run)


async def test_after_the_retention_only_fixed_keys_exist(
    redis_url: str, redis_prefix: str, redis: Redis
) -> None:
    run, _ = await chaos(redis_url, redis_prefix, seed=2, retention_s=1)
    await run.run(150)
    await run.drain()
    while left := undocumented(redis.scan_iter(redis_prefix + "*"), redis_prefix, fixed_only=True):
        await pause()  # the pulse of the queue does the rest
    assert left == []
    assert not redis.exists(redis_prefix + "expiring")
    assert await run.queue.list("a") == ([], None)
    await closed(run)

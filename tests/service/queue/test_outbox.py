"""The outbox in Redis: what enters it, who may take it, and what is left of it."""

import asyncio
import base64
import dataclasses
from collections.abc import Awaitable, Callable

import pytest
from redis import Redis

from service.jobs import WEBHOOK_EVENTS, Job, WebhookTarget
from service.queue.deliveries import Attempt, Claim, is_delivery_id
from service.queue.keys import KEYS, undocumented
from service.queue.leases import Lease, RedisLeases
from service.queue.outbox import Load
from service.queue.redis import RedisJobQueue
from service.settings import QueueSettings
from tests.service.queue.conftest import WorkerFactory
from tests.service.queue.making import MODELS, OOM, image, new_job, pause

FINAL = ("job.succeeded", "job.failed", "job.canceled")
ALL = Load(free=99, lanes={}, tenants={}, per_lane=99, per_tenant=99)
GOOD = Attempt(at_ms=1, duration_ms=1, status=204)
DAY_MS = 86_400_000

Path = Callable[[RedisJobQueue, RedisLeases, Job], Awaitable[None]]


async def submit(
    queue: RedisJobQueue, *events: str, url: str = "https://hooks.example/x", tenant: str = "acme"
) -> Job:
    target = WebhookTarget(url=url, events=events or WEBHOOK_EVENTS)
    return await queue.submit(dataclasses.replace(new_job(tenant=tenant), webhook=target))


def taken(worker: RedisLeases) -> Lease:
    (lease,) = worker.lease(MODELS, 1)
    return lease


async def claimed(queue: RedisJobQueue, load: Load = ALL, lease_s: float = 60.0) -> list[Claim]:
    return list((await queue.outbox.claim(load, lease_s)).claims)


async def events_of(queue: RedisJobQueue, job: Job) -> list[str]:
    return [delivery.event for delivery in await queue.outbox.log(job.id, job.tenant)]


async def test_a_tenant_has_one_secret_whoever_asks_first(queue: RedisJobQueue) -> None:
    asked = await asyncio.gather(*(queue.webhook_secret("acme") for _ in range(8)))
    assert len(set(asked)) == 1
    assert await queue.webhook_secret("other") not in asked
    prefix, encoded = asked[0].split("_")
    assert prefix == "whsec"
    assert len(base64.b64decode(encoded, validate=True)) == 32


async def test_a_rotated_secret_signs_on_beside_the_new_one(
    queue: RedisJobQueue, redis: Redis, redis_prefix: str
) -> None:
    old = await queue.webhook_secret("acme")
    new = await queue.rotate_webhook_secret("acme")
    assert new != old
    assert await queue.webhook_secret("acme") == new
    secrets = await queue.outbox.secrets("acme")
    assert secrets.signing == (new, old)
    assert old not in repr(secrets)
    redis.hset(f"{redis_prefix}webhook-secrets:acme", "previous_ends", 1)
    assert (await queue.outbox.secrets("acme")).signing == (new,)


async def test_a_job_without_a_webhook_leaves_the_outbox_empty(
    queue: RedisJobQueue, worker: RedisLeases, redis: Redis, redis_prefix: str
) -> None:
    job = await queue.submit(new_job())
    lease = taken(worker)
    worker.finish(lease.job.id, lease.token)
    assert await queue.outbox.log(job.id, "default") == ()
    assert not redis.exists(f"{redis_prefix}webhooks")


async def succeed(queue: RedisJobQueue, worker: RedisLeases, job: Job) -> None:
    lease = taken(worker)
    for _ in range(2):
        worker.finish(job.id, lease.token)
    worker.fail(job.id, lease.token, OOM, None)
    await queue.cancel(job.id, "too late")


async def fail(queue: RedisJobQueue, worker: RedisLeases, job: Job) -> None:
    lease = taken(worker)
    for _ in range(2):
        worker.fail(job.id, lease.token, OOM, None)
    worker.finish(job.id, lease.token)


async def fail_after_retries(queue: RedisJobQueue, worker: RedisLeases, job: Job) -> None:
    while not (found := await queue.get(job.id)) or not found.status.is_final:
        for lease in worker.lease(MODELS, 1):
            worker.fail(job.id, lease.token, OOM, 0.001)
        await pause()


async def cancel_in_the_queue(queue: RedisJobQueue, worker: RedisLeases, job: Job) -> None:
    for _ in range(2):
        await queue.cancel(job.id, "asked to")


async def cancel_while_it_runs(queue: RedisJobQueue, worker: RedisLeases, job: Job) -> None:
    lease = taken(worker)
    await queue.cancel(job.id, "asked to")
    for _ in range(2):
        worker.release(job.id, lease.token)


async def cancel_just_before_the_end(queue: RedisJobQueue, worker: RedisLeases, job: Job) -> None:
    lease = taken(worker)
    await queue.cancel(job.id, "asked to")
    for _ in range(2):
        worker.finish(job.id, lease.token)


async def lose_every_worker(queue: RedisJobQueue, worker: RedisLeases, job: Job) -> None:
    while not (found := await queue.get(job.id)) or not found.status.is_final:
        worker.lease(MODELS, 1)
        worker.abandon("worker")


async def lose_a_canceled_one(queue: RedisJobQueue, worker: RedisLeases, job: Job) -> None:
    taken(worker)
    await queue.cancel(job.id, "asked to")
    worker.abandon("worker")


@pytest.mark.parametrize(
    ("path", "told"),
    [
        (succeed, "job.succeeded"),
        (fail, "job.failed"),
        (fail_after_retries, "job.failed"),
        (cancel_in_the_queue, "job.canceled"),
        (cancel_while_it_runs, "job.canceled"),
        (cancel_just_before_the_end, "job.canceled"),
        (lose_every_worker, "job.failed"),
        (lose_a_canceled_one, "job.canceled"),
    ],
)
async def test_every_way_to_the_end_is_told_exactly_once(
    queue: RedisJobQueue, worker: RedisLeases, path: Path, told: str
) -> None:
    job = await submit(queue, *FINAL)
    await path(queue, worker, job)
    assert await events_of(queue, job) == [told]


async def test_only_the_events_that_were_asked_for_are_told(
    queue: RedisJobQueue, worker: RedisLeases
) -> None:
    jobs = {events: await submit(queue, *events) for events in (("job.started",), ("job.image",))}
    for lease in worker.lease(MODELS, 2):
        worker.image(lease.job.id, lease.token, image())
        worker.finish(lease.job.id, lease.token)
    for events, job in jobs.items():
        assert await events_of(queue, job) == list(events)


async def test_a_second_attempt_of_a_job_is_not_another_start(
    queue: RedisJobQueue, worker: RedisLeases
) -> None:
    job = await submit(queue, "job.started")
    for _ in range(2):
        lease = taken(worker)
        worker.release(job.id, lease.token)
    assert await events_of(queue, job) == ["job.started"]


async def test_an_image_that_is_recorded_twice_is_told_once(
    queue: RedisJobQueue, worker: RedisLeases
) -> None:
    job = await submit(queue, "job.image")
    lease = taken(worker)
    for _ in range(2):
        worker.image(job.id, lease.token, image())
    (claim,) = await claimed(queue)
    assert claim.job is not None
    assert [each.index for each in claim.job.images] == [0]


async def test_waiting_progress_is_replaced_by_newer_and_dropped_at_the_end(
    queue: RedisJobQueue, worker: RedisLeases
) -> None:
    job = await submit(queue, "job.progress", "job.succeeded")
    lease = taken(worker)
    for step in (1, 2, 3):
        worker.renew([(job.id, lease.token, step)])
    (first,) = await claimed(queue)
    assert first.job is not None
    assert first.job.step == 3
    for step in (4, 5):
        worker.renew([(job.id, lease.token, step)])
    assert await claimed(queue) == []  # not before half a second has passed
    assert await events_of(queue, job) == ["job.progress", "job.progress"]
    worker.finish(job.id, lease.token)
    assert await events_of(queue, job) == ["job.progress", "job.succeeded"]
    (last,) = await claimed(queue)
    assert last.event == "job.succeeded"


async def test_progress_follows_at_intervals_and_only_the_newest_is_kept(
    queue: RedisJobQueue, worker: RedisLeases
) -> None:
    job = await submit(queue, "job.progress")
    lease = taken(worker)
    for step in range(1, 4):
        worker.renew([(job.id, lease.token, step)])
        while not (claims := await claimed(queue)):
            await pause()
        assert claims[0].job is not None
        assert claims[0].job.step == step
        assert await queue.outbox.settle(claims[0], GOOD, "delivered")
    (kept,) = await queue.outbox.log(job.id, job.tenant)
    assert kept.id == claims[0].id


async def test_a_claim_is_one_senders_until_it_is_out(
    queue: RedisJobQueue, worker: RedisLeases
) -> None:
    job = await submit(queue, *FINAL)
    await queue.cancel(job.id, "asked to")
    (first,) = await claimed(queue, lease_s=0.05)
    assert await queue.outbox.freeze(first, "body")
    while not (claims := await claimed(queue)):
        await pause()
    (second,) = claims
    assert (second.id, second.body) == (first.id, "body")
    assert not await queue.outbox.settle(first, GOOD, "delivered")
    assert not await queue.outbox.freeze(first, "another body")
    assert await queue.outbox.settle(second, GOOD, "delivered")
    (delivery,) = await queue.outbox.log(job.id, job.tenant)
    assert (delivery.state, delivery.attempts) == ("delivered", (GOOD,))


async def test_many_claimants_never_get_the_same_delivery(
    queue: RedisJobQueue, worker: RedisLeases
) -> None:
    jobs = [await submit(queue, *FINAL) for _ in range(50)]
    for job in jobs:
        await queue.cancel(job.id, "asked to")
    load = dataclasses.replace(ALL, free=3)
    rounds = await asyncio.gather(*(claimed(queue, load) for _ in range(20)))
    ids = [claim.id for claims in rounds for claim in claims]
    assert len(ids) == len(set(ids)) == 50


async def test_a_full_lane_or_tenant_hides_nobody(queue: RedisJobQueue) -> None:
    urls = [f"https://slow-{number}.example/" for number in range(100)]
    for url in urls:
        job = await submit(queue, *FINAL, url=url, tenant="slow")
        await queue.cancel(job.id, "asked to")
    job = await submit(queue, *FINAL, tenant="quick")
    await queue.cancel(job.id, "asked to")
    load = Load(free=4, lanes={}, tenants={"slow": 2}, per_lane=2, per_tenant=2)
    looks = [await claimed(queue, load) for _ in range(3)]  # each passes by some of the full ones
    assert [claim.tenant for claims in looks for claim in claims] == ["quick"]


async def test_deliveries_of_one_lane_come_in_order_and_within_its_bound(
    queue: RedisJobQueue,
) -> None:
    jobs = [await submit(queue, *FINAL) for _ in range(5)]
    for job in jobs:
        await queue.cancel(job.id, "asked to")
        await pause()
    load = Load(free=9, lanes={}, tenants={}, per_lane=2, per_tenant=9)
    assert [claim.job_id for claim in await claimed(queue, load)] == [jobs[0].id, jobs[1].id]


async def test_redelivery_is_for_the_job_and_tenant_of_a_delivery_alone(
    queue: RedisJobQueue,
) -> None:
    job, other = await submit(queue, *FINAL), await submit(queue, *FINAL)
    await queue.cancel(job.id, "asked to")
    (claim,) = await claimed(queue)
    await queue.outbox.settle(claim, GOOD, "delivered")
    outbox = queue.outbox
    assert is_delivery_id(claim.id)
    assert "." not in claim.id
    assert not await outbox.redeliver(job.id, "mallory", claim.id)
    assert not await outbox.redeliver(other.id, "acme", claim.id)
    assert not await outbox.redeliver(job.id, "acme", claim.id[:-1] + "9")
    assert await outbox.log(job.id, "mallory") == ()
    assert await claimed(queue) == []
    assert await outbox.redeliver(job.id, "acme", claim.id)
    assert [again.id for again in await claimed(queue)] == [claim.id]
    assert await outbox.redeliver(job.id, "acme", claim.id)
    assert await claimed(queue) == []  # it is being sent already


async def test_everything_expires(
    queue: RedisJobQueue, worker: RedisLeases, redis: Redis, redis_prefix: str
) -> None:
    job = await submit(queue)
    lease = taken(worker)
    worker.renew([(job.id, lease.token, 1)])
    worker.image(job.id, lease.token, image())
    worker.finish(job.id, lease.token)
    claims = await claimed(queue)
    delivered, disabled, waiting = claims
    await queue.outbox.freeze(delivered, "body")
    await queue.outbox.settle(delivered, GOOD, "delivered")
    await queue.outbox.settle(disabled, GOOD, "disabled")
    await queue.outbox.settle(waiting, GOOD, "pending", retry_s=60, throttle_s=30)
    keys = set(redis.scan_iter(f"{redis_prefix}*"))
    assert undocumented(keys, redis_prefix) == []
    fixed = {key.name.split("<")[0] for key in KEYS if key.fixed}
    lives = {key.removeprefix(redis_prefix): redis.pttl(key) for key in keys}
    own = {"delivery", "told", "deliveries", "webhooks", "gone", "throttled"}
    ours = {name: ms for name, ms in lives.items() if name.split(":")[0] in own}
    assert {name.split(":")[0] for name in ours} == own
    assert {name for name, ms in ours.items() if ms < 0} <= fixed
    assert lives[f"delivery:{delivered.id}"] <= 3 * DAY_MS
    assert 6 * DAY_MS < lives[f"delivery:{waiting.id}"] <= 7 * DAY_MS


async def test_a_delivery_that_has_expired_leaves_its_lane(
    queue: RedisJobQueue, redis: Redis, redis_prefix: str
) -> None:
    job = await submit(queue, *FINAL)
    await queue.cancel(job.id, "asked to")
    for family in ("delivery", "told"):
        redis.delete(*redis.scan_iter(f"{redis_prefix}{family}:*"))
    claims = await queue.outbox.claim(ALL, 60.0)
    assert (claims.claims, claims.next_due_s) == ((), None)
    assert not redis.exists(f"{redis_prefix}webhooks")
    assert await queue.outbox.log(job.id, job.tenant) == ()


async def test_a_job_is_told_of_after_it_was_forgotten(
    redis_url: str, redis_prefix: str, new_worker: WorkerFactory, redis: Redis
) -> None:
    settings = QueueSettings(retention_s=1)
    queue = RedisJobQueue(redis_url, prefix=redis_prefix, settings=settings)
    job = await submit(queue, *FINAL)
    await queue.cancel(job.id, "asked to")
    while await queue.get(job.id):
        await pause()
    (claim,) = await claimed(queue)
    assert claim.job is not None
    assert claim.job.cancel_reason == "asked to"
    await queue.aclose()


async def test_a_deleted_job_leaves_no_delivery_behind(
    queue: RedisJobQueue, worker: RedisLeases, redis: Redis, redis_prefix: str
) -> None:
    job = await submit(queue)
    lease = taken(worker)
    worker.image(job.id, lease.token, image())
    worker.finish(job.id, lease.token)
    sent, under_way = await claimed(queue, dataclasses.replace(ALL, free=2))
    await queue.outbox.freeze(sent, "body")
    await queue.outbox.settle(sent, GOOD, "delivered")
    await queue.delete(job.id)
    assert await queue.outbox.log(job.id, job.tenant) == ()
    assert await claimed(queue) == []
    assert not await queue.outbox.settle(under_way, GOOD, "delivered")
    families = ("webhooks", "delivery", "told", "deliveries")
    found = (redis.scan_iter(f"{redis_prefix}{family}*") for family in families)
    assert [key for keys in found for key in keys] == []

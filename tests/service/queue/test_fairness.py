"""Who is next between tenants: each gets its share of the work."""

import json
from collections import Counter
from pathlib import Path

import pytest
from redis import Redis

from service.errors import InvalidRequest
from service.queue.embedded import EmbeddedRedis
from service.queue.leases import RedisLeases
from service.queue.redis import RedisJobQueue
from service.queue.scripts import sources
from service.queue.submission import submission
from service.queue.tenants import TenantLimits
from service.settings import QueueSettings
from tests.service.queue.audit import audit
from tests.service.queue.making import MODELS, OOM, new_job


async def test_a_newcomer_need_not_wait_for_anothers_backlog(
    queue: RedisJobQueue, worker: RedisLeases
) -> None:
    for _ in range(20):
        await queue.submit(new_job(tenant="busy"))
    worker.lease(MODELS, 5)
    for _ in range(5):
        await queue.submit(new_job(tenant="newcomer"))
    tenants = [lease.job.tenant for lease in worker.lease(MODELS, 10)]
    assert Counter(tenants) == {"busy": 5, "newcomer": 5}


async def test_tenants_share_work_and_neither_jobs_nor_steps(
    queue: RedisJobQueue, worker: RedisLeases
) -> None:
    for _ in range(40):
        await queue.submit(new_job(tenant="long", work=40))
        await queue.submit(new_job(tenant="short", work=10, total_steps=1000))
    tenants = [lease.job.tenant for lease in worker.lease(MODELS, 40)]
    assert Counter(tenants) == {"long": 8, "short": 32}


async def test_a_tenant_can_not_gain_by_emptying_its_queue(
    queue: RedisJobQueue, worker: RedisLeases
) -> None:
    for _ in range(20):
        await queue.submit(new_job(tenant="patient"))
    taken = ["sly"]
    for _ in range(10):
        if taken[-1] == "sly":  # it has nothing left, and is back at once
            await queue.submit(new_job(tenant="sly"))
        taken.append(worker.lease(MODELS, 1)[0].job.tenant)
    assert Counter(taken[1:]) == {"patient": 5, "sly": 5}


async def test_queue_position_counts_the_jobs_that_leave_before(
    queue: RedisJobQueue, worker: RedisLeases
) -> None:
    jobs = [await queue.submit(new_job(tenant=tenant)) for tenant in "aaaabbc"]
    expected = {job.id: await queue.queue_position(job.id) for job in jobs}
    order = [worker.lease(MODELS, 1)[0].job.id for _ in jobs]
    assert [expected[job_id] for job_id in order] == list(range(7))
    assert await queue.queue_position(order[0]) is None


async def test_queue_position_of_many_tenants_is_near(
    queue: RedisJobQueue, worker: RedisLeases
) -> None:
    jobs = [await queue.submit(new_job(tenant=f"{k % 60:02}")) for k in range(180)]
    expected = {job.id: await queue.queue_position(job.id) for job in jobs}
    order = [worker.lease(MODELS, 1)[0].job.id for _ in jobs]
    for place, job_id in enumerate(order):
        estimate = expected[job_id]
        assert estimate is not None
        assert abs(estimate - place) <= (0 if place < 60 else 60)  # a tenant's first is exact


async def test_tenants_share_in_proportion_to_their_weights(
    queue: RedisJobQueue, worker: RedisLeases
) -> None:
    await queue.set_tenant("heavy", weight=3.0, concurrency=None)
    assert await queue.tenant("heavy") == TenantLimits(weight=3.0)
    for _ in range(40):
        await queue.submit(new_job(tenant="heavy", work=6))
        await queue.submit(new_job(tenant="light", work=6))
    tenants = [lease.job.tenant for lease in worker.lease(MODELS, 40)]
    assert Counter(tenants) == {"heavy": 30, "light": 10}

    await queue.set_tenant("heavy", weight=None, concurrency=None)
    assert await queue.tenant("heavy") == TenantLimits()


@pytest.mark.parametrize(
    ("weight", "concurrency", "named"),
    [
        (0.0, None, "weight"),
        (-1.0, None, "weight"),
        (float("nan"), None, "weight"),
        (float("inf"), None, "weight"),
        (None, 0, "concurrency"),
    ],
)
async def test_limits_out_of_bounds_are_refused(
    queue: RedisJobQueue, weight: float | None, concurrency: int | None, named: str
) -> None:
    with pytest.raises(InvalidRequest, match=named):
        await queue.set_tenant("a", weight=weight, concurrency=concurrency)
    assert await queue.tenant("a") == TenantLimits()


async def test_a_tenant_at_its_cap_waits_and_holds_up_nobody(
    queue: RedisJobQueue, worker: RedisLeases, redis: Redis, redis_prefix: str
) -> None:
    await queue.set_tenant("capped", weight=None, concurrency=2)
    for tenant in ["capped"] * 6 + ["other"] * 2:
        await queue.submit(new_job(tenant=tenant))
    taken = worker.lease(MODELS, 99)
    assert Counter(lease.job.tenant for lease in taken) == {"capped": 2, "other": 2}
    assert worker.lease(MODELS, 99) == []
    first, second = (lease for lease in taken if lease.job.tenant == "capped")

    while worker.wait(MODELS, 0.01):
        pass  # what the submissions left there
    worker.finish(first.job.id, first.token)
    assert worker.wait(MODELS, 1.0) is True
    (third,) = worker.lease(MODELS, 99)
    worker.release(second.job.id, second.token)
    (again,) = worker.lease(MODELS, 99)
    assert again.job.id == second.job.id
    audit(redis, redis_prefix)
    assert third.job.tenant == "capped"


@pytest.mark.parametrize("ending", ["lost", "canceled", "failed"])
async def test_however_a_lease_ends_it_makes_room_below_the_cap(
    queue: RedisJobQueue, worker: RedisLeases, ending: str
) -> None:
    await queue.set_tenant("capped", weight=None, concurrency=1)
    for _ in range(2):
        await queue.submit(new_job(tenant="capped"))
    (lease,) = worker.lease(MODELS, 99)
    match ending:
        case "lost":
            worker.abandon("worker")
        case "canceled":
            await queue.cancel(lease.job.id, "x")
            worker.release(lease.job.id, lease.token)
        case _:
            worker.fail(lease.job.id, lease.token, OOM, None)
    assert len(worker.lease(MODELS, 99)) == 1


async def test_a_new_cap_takes_effect_while_jobs_are_parked(
    queue: RedisJobQueue, worker: RedisLeases
) -> None:
    await queue.set_tenant("capped", weight=None, concurrency=1)
    for _ in range(5):
        await queue.submit(new_job(tenant="capped"))
    assert len(worker.lease(MODELS, 99)) == 1
    assert worker.lease(MODELS, 99) == []
    await queue.set_tenant("capped", weight=None, concurrency=3)
    assert len(worker.lease(MODELS, 99)) == 2
    await queue.set_tenant("capped", weight=None, concurrency=1)
    assert worker.lease(MODELS, 99) == []
    await queue.set_tenant("capped", weight=None, concurrency=None)
    assert len(worker.lease(MODELS, 99)) == 2


async def test_waiting_at_a_cap_neither_loses_nor_saves_up_a_share(
    queue: RedisJobQueue, worker: RedisLeases
) -> None:
    await queue.set_tenant("capped", weight=None, concurrency=1)
    for tenant in ["capped"] * 8 + ["other"] * 20:
        await queue.submit(new_job(tenant=tenant))
    taken = worker.lease(MODELS, 8)  # one of the capped, and seven of the other
    await queue.set_tenant("capped", weight=None, concurrency=None)
    assert Counter(lease.job.tenant for lease in taken) == {"capped": 1, "other": 7}
    tenants = [lease.job.tenant for lease in worker.lease(MODELS, 9)]
    assert Counter(tenants) == {"capped": 5, "other": 4}


async def test_a_parked_tenant_is_not_left_behind_when_all_others_were_served(
    queue: RedisJobQueue, worker: RedisLeases
) -> None:
    await queue.set_tenant("capped", weight=None, concurrency=1)
    for _ in range(2):
        await queue.submit(new_job(tenant="capped", work=10))
    for _ in range(30):
        await queue.submit(new_job(tenant="served"))
    assert len(worker.lease(MODELS, 99)) == 31
    for _ in range(30):
        await queue.submit(new_job(tenant="newcomer"))
    await queue.set_tenant("capped", weight=None, concurrency=None)
    tenants = [lease.job.tenant for lease in worker.lease(MODELS, 2)]
    assert sorted(tenants) == ["capped", "newcomer"]


async def test_a_full_worker_admits_one_job_of_each_newcomer(
    queue: RedisJobQueue, worker: RedisLeases, redis: Redis, redis_prefix: str
) -> None:
    for tenant in ["busy"] * 9 + ["b", "b", "c", "d"]:
        await queue.submit(new_job(tenant=tenant))
    assert worker.lease(MODELS, 0, busy_tenants={"busy"}) == []
    admitted = worker.lease(MODELS, 0, reserve=2, busy_tenants={"busy"})
    assert sorted(lease.job.tenant for lease in admitted) == ["b", "c"]
    # The normal slots give to whoever is next; who got something there is no newcomer any more.
    taken = worker.lease(MODELS, 2, reserve=9, busy_tenants={"b", "c"})
    assert sorted(lease.job.tenant for lease in taken) == ["busy", "d"]
    assert worker.lease(MODELS, 0, reserve=9, busy_tenants={"busy", "b", "c", "d"}) == []
    audit(redis, redis_prefix)


async def test_a_newcomer_with_many_images_is_admitted_too(
    queue: RedisJobQueue, worker: RedisLeases
) -> None:
    for tenant in "ab":
        await queue.submit(new_job(tenant=tenant, n=4))
    assert len(worker.lease(MODELS, 0, reserve=1, busy_tenants=())) == 1


async def test_what_the_reserve_gave_is_charged_like_the_rest(
    queue: RedisJobQueue, worker: RedisLeases
) -> None:
    for _ in range(10):
        await queue.submit(new_job(tenant="newcomer"))
        await queue.submit(new_job(tenant="patient"))
    for _ in range(3):
        worker.lease(MODELS, 0, reserve=1, busy_tenants={"patient"})
    tenants = [lease.job.tenant for lease in worker.lease(MODELS, 7)]
    assert Counter(tenants) == {"patient": 5, "newcomer": 2}


async def test_one_call_passes_over_a_bounded_number_and_the_next_goes_on(
    queue: RedisJobQueue, worker: RedisLeases
) -> None:
    names = [f"capped {k:03}" for k in range(200)]
    for tenant in names:
        await queue.set_tenant(tenant, weight=None, concurrency=1)
    for tenant in [*names, "free"]:
        await queue.submit(new_job(tenant=tenant))
    assert len(worker.lease(MODELS, 201)) == 201
    for tenant in [*names, "free"]:
        await queue.submit(new_job(tenant=tenant))
    calls = [[lease.job.tenant for lease in worker.lease(MODELS, 1)] for _ in range(3)]
    assert calls == [[], ["free"], []]


async def test_behind_ten_thousand_jobs_of_one_tenant_another_is_next(tmp_path: Path) -> None:
    settings = QueueSettings(max_queued_per_tenant=20_000, max_queued=20_000)
    with EmbeddedRedis(tmp_path) as server:
        queue = RedisJobQueue(server.url, settings=settings)
        worker = RedisLeases(server.url, worker="w", settings=settings)
        with Redis.from_url(server.url) as client:
            submit = client.register_script(sources()["submit"])
            for _ in range(20):
                with client.pipeline(transaction=False) as pipeline:
                    for _ in range(500):
                        job = new_job(tenant="crowd", work=100)
                        arguments = submission(job, settings)
                        submit(["glide:{q}:"], [json.dumps(arguments)], client=pipeline)
                    pipeline.execute()
        assert len(worker.lease(MODELS, 8)) == 8  # a full batch

        accepted = await queue.enqueue(new_job(tenant="single", work=100))
        assert accepted.queue_position == 0
        admitted = worker.lease(MODELS, 0, reserve=1, busy_tenants={"crowd"})
        assert [lease.job.id for lease in admitted] == [accepted.job.id]

        accepted = await queue.enqueue(new_job(tenant="other", work=100))
        assert accepted.queue_position == 0
        (lease,) = worker.lease(MODELS, 1)
        assert lease.job.id == accepted.job.id
        last = await queue.enqueue(new_job(tenant="crowd", work=100))
        assert last.queue_position == 10_000 - 8
        await queue.aclose()
        worker.close()

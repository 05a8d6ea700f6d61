"""Who is next: first come first served inside a tenant, and a fair share between tenants."""

from collections import Counter

from service.queue.leases import RedisLeases
from service.queue.redis import RedisJobQueue
from tests.service.queue.making import MODELS, new_job


async def test_a_tenants_jobs_leave_in_order(queue: RedisJobQueue, worker: RedisLeases) -> None:
    ids = [(await queue.submit(new_job())).id for _ in range(12)]
    leased = worker.lease(MODELS, 5) + worker.lease(MODELS, 99)
    assert [lease.job.id for lease in leased] == ids


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

"""How much work waits, and what a full queue tells its clients."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import QueueFull, RateLimited
from service.queue.backlog import Backlog, retry_after_s
from service.queue.leases import RedisLeases
from service.queue.presence import WorkerPresence
from service.queue.redis import RedisJobQueue
from service.settings import QueueSettings
from tests.service.queue.conftest import WorkerFactory
from tests.service.queue.making import MODELS, new_job


async def test_the_backlog_of_a_model_is_its_waiting_and_its_leased_work(
    queue: RedisJobQueue, worker: RedisLeases
) -> None:
    for work in (5, 7, 11):
        await queue.submit(new_job(work=work))
    await queue.submit(new_job(model="a: b", work=100))
    assert await queue.backlog("scenes") == Backlog(waiting_work=23, running_work=0)
    (lease,) = worker.lease(MODELS, 1)
    assert await queue.backlog("scenes") == Backlog(waiting_work=18, running_work=5)
    worker.finish(lease.job.id, lease.token)
    assert await queue.backlog("scenes") == Backlog(waiting_work=18, running_work=0)
    assert await queue.backlog("a: b") == Backlog(waiting_work=100, running_work=0)
    assert await queue.backlog("nobody's") == Backlog(waiting_work=0, running_work=0)


@pytest.mark.parametrize(
    ("rates", "pause_s"),
    [((), 5), ((None,), 5), ((100.0,), 3), ((None, 40.0, 20.0), 5), ((1e9,), 1), ((0.1,), 120)],
)
async def test_a_full_queue_tells_when_a_tenth_of_it_will_be_done(
    redis_url: str,
    redis_prefix: str,
    new_worker: WorkerFactory,
    rates: tuple[float | None, ...],
    pause_s: int,
) -> None:
    settings = QueueSettings(max_queued=4, max_queued_per_tenant=2)
    queue = RedisJobQueue(redis_url, prefix=redis_prefix, settings=settings)
    for number, rate in enumerate(rates):
        presence = WorkerPresence(id=f"w{number}", models=MODELS, work_rate=rate)
        new_worker().announce(presence)
    for tenant in "aab":
        await queue.submit(new_job(tenant=tenant, work=1000))
    with pytest.raises(RateLimited) as of_tenant:
        await queue.submit(new_job(tenant="a"))
    await queue.submit(new_job(tenant="b", work=0))
    with pytest.raises(QueueFull) as of_all:
        await queue.submit(new_job(tenant="c"))
    assert of_tenant.value.retry_after_s == pause_s
    assert of_all.value.retry_after_s == pause_s
    await queue.aclose()


@given(work=st.integers(0, 10**12), rate=st.floats(0, 1e12))
def test_a_pause_is_always_one_that_clients_obey(work: int, rate: float) -> None:
    assert 1 <= retry_after_s(work, rate) <= 120

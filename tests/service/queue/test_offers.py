"""How a worker hears of new jobs: any job, or a newcomer's alone."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from service.errors import Unavailable
from service.queue.embedded import EmbeddedRedis
from service.queue.leases import RedisLeases
from service.queue.redis import RedisJobQueue
from tests.service.queue.conftest import WorkerFactory
from tests.service.queue.making import MODELS, new_job, pause

BUSY = frozenset({"busy tenant"})


async def test_an_offer_of_another_tenant_is_heard_and_one_of_a_busy_tenant_is_not(
    queue: RedisJobQueue, worker: RedisLeases
) -> None:
    assert worker.wait_for_newcomer(MODELS, BUSY, 0.01) is True  # what came before was not heard
    await queue.submit(new_job(tenant="busy tenant"))
    assert worker.wait_for_newcomer(MODELS, BUSY, 0.2) is False
    waiting = asyncio.create_task(asyncio.to_thread(worker.wait_for_newcomer, MODELS, BUSY, 2.0))
    await queue.submit(new_job(tenant="busy tenant"))
    await queue.submit(new_job(tenant="newcomer", model="another"))
    await queue.submit(new_job(tenant="newcomer"))
    heard = await waiting
    while not heard:  # a busy tenant's offer ends a wait, too
        heard = worker.wait_for_newcomer(MODELS, BUSY, 2.0)
    assert worker.wait_for_newcomer(MODELS, BUSY, 0.01) is False


async def test_who_listens_for_newcomers_takes_no_wake_up_from_a_worker_with_room(
    queue: RedisJobQueue, new_worker: WorkerFactory
) -> None:
    full, idle = new_worker("full"), new_worker("idle")
    full.wait_for_newcomer(MODELS, BUSY, 0.01)
    await queue.submit(new_job(tenant="newcomer"))
    assert full.wait_for_newcomer(MODELS, BUSY, 2.0) is True
    assert idle.wait(MODELS, 2.0) is True


async def test_after_an_outage_a_worker_listens_anew(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path) as server:
        worker = RedisLeases(server.url, worker="worker", retries=0)
        queue = RedisJobQueue(server.url)
        worker.wait_for_newcomer(MODELS, BUSY, 0.01)
        os.kill(server.pid, signal.SIGKILL)
        while server.is_alive:
            await pause()
        with pytest.raises(Unavailable):
            worker.wait_for_newcomer(MODELS, BUSY, 0.1)
        server.start()
        assert worker.wait_for_newcomer(MODELS, BUSY, 0.1) is True
        await queue.submit(new_job(tenant="newcomer"))
        assert worker.wait_for_newcomer(MODELS, BUSY, 2.0) is True
        await queue.aclose()
        worker.close()

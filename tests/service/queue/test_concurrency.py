"""Many submitters and workers at once."""

import asyncio
import threading

from service.jobs import JobStatus
from service.queue.redis import RedisJobQueue
from tests.service.queue.conftest import WorkerFactory
from tests.service.queue.making import MODELS, new_job

SUBMITTERS, JOBS_EACH, WORKERS = 20, 5, 3


async def test_every_job_is_leased_exactly_once(
    queue: RedisJobQueue, new_worker: WorkerFactory
) -> None:
    submitted_all = threading.Event()

    async def submit(number: int) -> list[str]:
        jobs = [await queue.submit(new_job(tenant=f"t{number % 4}")) for _ in range(JOBS_EACH)]
        return [job.id for job in jobs]

    def work(number: int) -> list[str]:
        worker, mine = new_worker(f"worker {number}"), []
        while True:
            last_round = submitted_all.is_set()
            leases = worker.lease(MODELS, 3)
            for lease in leases:
                mine.append(lease.job.id)
                assert worker.renew([(lease.job.id, lease.token, 1)]) == {lease.job.id: "ok"}
                assert worker.finish(lease.job.id, lease.token) == "ok"
            if not leases:
                if last_round:
                    return mine
                worker.wait(MODELS, 0.05)

    working = [asyncio.create_task(asyncio.to_thread(work, number)) for number in range(WORKERS)]
    submitted = await asyncio.gather(*(submit(number) for number in range(SUBMITTERS)))
    submitted_all.set()
    leased = [job_id for ids in await asyncio.gather(*working) for job_id in ids]
    ids = [job_id for ids in submitted for job_id in ids]
    assert sorted(leased) == sorted(ids)
    for job_id in ids:
        job = await queue.get(job_id)
        assert job is not None
        assert (job.status, job.attempt) == (JobStatus.SUCCEEDED, 1)

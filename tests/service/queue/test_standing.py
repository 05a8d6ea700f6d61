import pytest

from service.errors import Unmeetable
from service.jobs import JobStatus
from service.queue.leases import RedisLeases
from service.queue.redis import RedisJobQueue
from service.queue.submission import TooMuchWorkBefore
from tests.service.queue.making import MODELS, new_job


async def test_jobs_and_what_is_before_them_come_in_one_call(
    queue: RedisJobQueue, worker: RedisLeases
) -> None:
    running, waiting, last = [new_job(work=100), new_job(work=10), new_job(work=30)]
    for job in (running, waiting, last):
        await queue.submit(job)
    worker.lease(MODELS, 1)
    found = await queue.look([last.id, "job_nothing", running.id, waiting.id])
    assert [standing and standing.job.id for standing in found] == [
        last.id,
        None,
        running.id,
        waiting.id,
    ]
    assert [standing and standing.queue_position for standing in found] == [1, None, None, 0]
    # Half of the running job, and a job as large as the mean of the two that wait.
    assert [standing and standing.work_before for standing in found] == [70, None, None, 50]
    assert found[2] is not None
    assert found[2].job.status is JobStatus.RUNNING
    assert await queue.look([]) == []


async def test_a_submission_is_told_what_is_before_it(queue: RedisJobQueue) -> None:
    first, second = [await queue.enqueue(new_job(work=10)) for _ in range(2)]
    assert (first.queue_position, first.work_before) == (0, 0)
    assert (second.queue_position, second.work_before) == (1, 10)


async def test_a_job_with_too_much_before_it_is_refused_and_leaves_nothing(
    queue: RedisJobQueue,
) -> None:
    for _ in range(3):
        await queue.submit(new_job(work=10))
    late = new_job(work=10)
    with pytest.raises(TooMuchWorkBefore) as raised:
        await queue.enqueue(late, most_work_before=29.5, idempotency_key="k1")
    assert isinstance(raised.value, Unmeetable)
    assert raised.value.work == 30
    assert await queue.get(late.id) is None
    assert (await queue.backlog("scenes")).waiting_work == 30
    accepted = await queue.enqueue(late, most_work_before=30, idempotency_key="k1")
    assert not accepted.replayed


async def test_a_replay_is_not_asked_what_is_before_it(queue: RedisJobQueue) -> None:
    first = await queue.enqueue(new_job(), idempotency_key="k1", body_hash="h")
    again = await queue.enqueue(new_job(), idempotency_key="k1", body_hash="h", most_work_before=-1)
    assert (again.replayed, again.job.id) == (True, first.job.id)

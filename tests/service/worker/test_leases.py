from model.params import SamplingParams
from service.jobs import Job, JobStatus
from service.queue.leases import Lease
from service.worker.leases import Drop, HeldLeases


def _lease(job_id: str, token: str, *, step: int = 0) -> Lease:
    job = Job(id=job_id, status=JobStatus.RUNNING, params=SamplingParams(), step=step)
    return Lease(job=job, token=token)


def test_only_leases_whose_step_moved_are_renewed_between_heartbeats() -> None:
    held = HeldLeases()
    held.hold(_lease("job_a", "1"), 1)
    held.hold(_lease("job_b", "2"), 1)
    for _, token, step in held.renewals(moved_only=True):
        held.renewed(token, step)
    held.progress("2", 5)
    assert held.renewals(moved_only=True) == [("job_b", "2", 5)]
    assert len(held.renewals(moved_only=False)) == 2


def test_a_lost_lease_is_gone_at_once_and_said_once() -> None:
    held = HeldLeases()
    held.hold(_lease("job_a", "1"), 1)
    held.drop("1", Drop.LOST)
    held.drop("1", Drop.LOST)
    assert held.get("1") is None
    assert held.take_drops() == [("1", Drop.LOST)]
    assert held.take_drops() == []


def test_a_canceled_job_is_held_until_the_queue_has_heard_of_it() -> None:
    held = HeldLeases()
    held.hold(_lease("job_a", "1"), 1)
    held.drop("1", Drop.CANCELED)
    assert held.get("1") is not None
    assert not held.is_wanted("1")
    assert held.take_drops() == [("1", Drop.CANCELED)]
    held.drop("1", Drop.LOST)
    assert held.get("1") is None
    assert held.take_drops() == []


def test_a_job_that_comes_back_to_the_same_worker_replaces_its_older_lease() -> None:
    held = HeldLeases()
    held.hold(_lease("job_a", "1"), 2)
    held.hold(_lease("job_a", "2", step=7), 2)
    assert held.take_drops() == [("1", Drop.LOST)]
    assert held.renewals(moved_only=False) == [("job_a", "2", 7)]
    held.drop("1", Drop.LOST)  # the late answer to a renewal of the older lease
    assert held.is_wanted("2")


def test_a_job_counts_until_it_has_left_the_engine() -> None:
    held = HeldLeases()
    held.hold(_lease("job_a", "1"), 3)
    held.hold(_lease("job_b", "2"), 1)
    assert held.trajectories == 4
    held.left_engine("1")
    assert held.trajectories == 1
    assert held.unfinished() == ["2"]
    assert len(held) == 2
    held.end("1")
    assert len(held) == 1

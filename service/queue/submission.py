"""What the transition `submit` is asked, and what its answers mean. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from service.errors import KeyReused, QueueFull, RateLimited, ServiceError, Unmeetable
from service.jobs import Job, Priority
from service.queue.backlog import retry_after_s
from service.queue.codec import fingerprint, job_from_hash, job_to_fields, paired
from service.queue.keys import quoted
from service.queue.quota import Quota, quota_exceeded
from service.queue.scripts import milliseconds
from service.settings import QueueSettings

_URGENCY = {Priority.HIGH: -1, Priority.NORMAL: 0, Priority.LOW: 1}


class TooMuchWorkBefore(Unmeetable):
    """More work is done before a job than its deadline leaves time for.

    Attributes:
        work: how much it is.
    """

    def __init__(self, work: int) -> None:
        super().__init__(f"Work of {work} is done before this job.")
        self.work = work


@dataclass(frozen=True, slots=True)
class Accepted:
    """An accepted job.

    Attributes:
        job: as it stands.
        replayed: an earlier request with the same key had made it.
        queue_position: an estimate of how many jobs leave the queue before it; None if it doesn't
            wait.
        work_before: an estimate of the work that is done before it; None if it doesn't wait.
        quota_left: images that its quota still has; None without one.
    """

    job: Job
    replayed: bool
    queue_position: int | None = None
    work_before: int | None = None
    quota_left: int | None = None


def submission(
    job: Job,
    settings: QueueSettings,
    *,
    idempotency_key: str | None = None,
    body_hash: str | None = None,
    quota: Quota | None = None,
    most_work_before: float | None = None,
) -> dict[str, Any]:
    """The arguments of `submit`; see `RedisJobQueue.enqueue`."""
    fields = job_to_fields(job)
    fields["retention_ms"] = str(milliseconds(settings.retention_s))
    fields["max_attempts"] = str(settings.max_attempts)
    arguments: dict[str, Any] = {
        "id": job.id,
        "tenant": fields["tenant"],
        "model": fields["model"],
        "fields": fields,
        "images": job.params.n,
        "shift_ms": round(_URGENCY[job.priority] * settings.priority_s * 1000),
        "max_queued": settings.max_queued,
        "max_queued_per_tenant": settings.max_queued_per_tenant,
    }
    if idempotency_key is not None:
        fields["idempotency"] = arguments["idempotency"] = quoted(idempotency_key)
        arguments["fingerprint"] = quoted(body_hash or fingerprint(job))
    if job.timeout_s is not None:
        arguments["timeout_ms"] = milliseconds(job.timeout_s)
    if most_work_before is not None:
        arguments["most_work_before"] = most_work_before
    if quota is not None:
        arguments["quota"] = {
            "key": quoted(quota.key_id),
            "images": quota.images,
            "window_ms": milliseconds(quota.window_s),
        }
    return arguments


def accepted_or_refused(answer: Sequence[Any], job: Job, quota: Quota | None) -> Accepted:
    """What `submit` says of a job, unless the queue was full.

    Raises:
        KeyReused: the idempotency key stands for another request.
        QuotaExceeded: the quota has too few images left.
        TooMuchWorkBefore: it can't be done in time.
    """
    outcome, *members = answer
    match outcome:
        case "conflict":
            raise KeyReused("The idempotency key was used for another request.")
        case "quota":
            assert quota is not None
            left, window_left_ms = members
            raise quota_exceeded(
                quota, asked=job.params.n, left=left, window_left_ms=window_left_ms
            )
        case "late":
            raise TooMuchWorkBefore(members[0])
    job_id, record, replayed, quota_left, position, work_before = members
    fields = paired(record)
    known = job_from_hash(job_id, fields) if "spec" in fields else _timed(job, fields)
    return Accepted(known, bool(replayed), position, work_before, quota_left)


def _timed(job: Job, fields: Mapping[str, str]) -> Job:
    """A job that was new to the queue, which has set its times."""
    deadline_at_ms = fields.get("deadline_at_ms")
    return replace(
        job,
        created_at_ms=int(fields["created_at_ms"]),
        deadline_at_ms=None if deadline_at_ms is None else int(deadline_at_ms),
    )


def is_full(answer: Sequence[Any]) -> bool:
    """Whether `submit` refused a job because too many wait."""
    return answer[0] in ("full", "tenant_full")


def refusal_when_full(answer: Sequence[Any], rate: float) -> ServiceError:
    """The refusal, with the time until there is room.

    Args:
        answer: one that `is_full`.
        rate: work that the workers do in a second; 0 when it isn't known.
    """
    outcome, waiting_work = answer
    pause_s = retry_after_s(int(waiting_work), rate)
    if outcome == "full":
        return QueueFull("Too many jobs are waiting.", retry_after_s=pause_s)
    return RateLimited("Too many of your jobs are waiting.", retry_after_s=pause_s)

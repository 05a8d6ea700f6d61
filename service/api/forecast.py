"""When a job will end, as far as the measured pace of the live workers tells. Pure but for `Paces`.

Work is counted in the unit of `Job.work`. A guess is no promise: other jobs share a worker's steps.
"""

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from service.errors import DeadlineTooShort, FieldError, ServiceError, Unmeetable
from service.jobs import Job, JobStatus
from service.queue.presence import WorkerPresence
from service.queue.redis import RedisJobQueue

FRESH_S = 1.0
LONGEST_RETRY_S = 120  # a longer one makes some clients give up instead of waiting


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a model's live workers are, in work a second.

    Attributes:
        total: of all of them.
        fastest: of the fastest one, since a job runs on one worker.
    """

    total: float
    fastest: float


def paces_of(workers: Iterable[WorkerPresence]) -> Mapping[str, Pace | None]:
    """The pace of every model that a live worker serves; None while none has been measured."""
    rates: dict[str, list[float]] = {}
    for worker in workers:
        for model in worker.models:
            rates.setdefault(model, []).append(worker.work_rate or 0.0)
    return {
        model: Pace(sum(each), max(each)) if any(each) else None for model, each in rates.items()
    }


class Paces:
    """The paces of all models, asked for at most once a second, however many clients look.

    Args:
        queue: knows the workers.
        clock: seconds that never go back.
    """

    def __init__(self, queue: RedisJobQueue, clock: Callable[[], float] = time.monotonic) -> None:
        self._queue, self._clock = queue, clock
        self._known: Mapping[str, Pace | None] = {}
        self._until_s = float("-inf")
        self._asking = asyncio.Lock()

    async def now(self) -> Mapping[str, Pace | None]:
        """The pace of every model that a live worker serves; None while none has been measured.

        Raises:
            Unavailable: Redis can't be reached.
        """
        if self._clock() < self._until_s:
            return self._known
        async with self._asking:
            if self._clock() >= self._until_s:
                self._known = paces_of(await self._queue.workers())
                self._until_s = self._clock() + FRESH_S
        return self._known


def eta_seconds(
    job: Job, pace: Pace | None, *, work_before: float | None, now_ms: float
) -> float | None:
    """An estimate of the time until a job ends, s; None where nothing is known, or for a final job.

    Args:
        job: as it stands.
        pace: of its model; None where it isn't known.
        work_before: what is done before it, while it is queued.
        now_ms: Unix time.
    """
    if job.status is JobStatus.RUNNING:
        return _running_s(job, pace, now_ms)
    if job.status is not JobStatus.QUEUED or work_before is None or pace is None:
        return None
    return round(work_before / pace.total + job.work / pace.fastest, 1)


def _running_s(job: Job, pace: Pace | None, now_ms: float) -> float | None:
    """From the pace of its own first attempt, else from its workers'."""
    left = 1 - job.step / job.total_steps if job.total_steps else 0.0
    if job.step and job.attempt == 1 and job.started_at_ms is not None:
        elapsed_s = max(0.0, now_ms - job.started_at_ms) / 1000
        return round(elapsed_s * left * job.total_steps / job.step, 1)
    return None if pace is None else round(left * job.work / pace.fastest, 1)


@dataclass(frozen=True, slots=True)
class Deadline:
    """A deadline before its job is accepted, and the pace that it must be met with.

    Attributes:
        timeout_s: from now.
        work: of the job.
        pace: of its model.
        pointer: where the request has the deadline.
    """

    timeout_s: float
    work: int
    pace: Pace
    pointer: str = "/timeout_seconds"

    @property
    def alone_s(self) -> float:
        """How long the job takes when nothing is before it."""
        return self.work / self.pace.fastest

    @property
    def most_work_before(self) -> float:
        """What may be done before the job, if it is to end in time; negative: not even nothing."""
        return (self.timeout_s - self.alone_s) * self.pace.total

    def refusal(self, work_before: float, *, now_s: float) -> ServiceError:
        """Why the job isn't accepted, with the predicted finish.

        Args:
            work_before: what is done before it.
            now_s: Unix time.
        """
        if self.alone_s > self.timeout_s:
            takes = f"an idle service takes about {self.alone_s:.1f} s for this job"
            errors = [FieldError(self.pointer, f"is too short: {takes}")]
            members = _prediction(self.alone_s, now_s)
            return DeadlineTooShort(f"{takes.capitalize()}.", errors=errors, members=members)
        predicted_s = work_before / self.pace.total + self.alone_s
        pause_s = max(1, math.ceil(predicted_s - self.timeout_s))
        return Unmeetable(
            f"The job would end in about {predicted_s:.1f} s, which is after its deadline.",
            retry_after_s=min(pause_s, LONGEST_RETRY_S),
            members=_prediction(predicted_s, now_s),
        )


def _prediction(seconds: float, now_s: float) -> dict[str, Any]:
    finish = datetime.fromtimestamp(now_s + seconds, UTC)
    return {
        "predicted_seconds": round(seconds, 1),
        "predicted_finish": finish.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    }

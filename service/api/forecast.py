"""When a job will end, as far as the measured speed of the live workers tells. Pure but for `Paces`.

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
    """How fast a model's live workers are, work in a second; 0 while it isn't known.

    Attributes:
        total: of all of them.
        fastest: of the fastest one, since a job runs on one worker.
    """

    total: float
    fastest: float


def paces_of(workers: Iterable[WorkerPresence]) -> Mapping[str, Pace]:
    """The pace of every model that a live worker serves."""
    rates: dict[str, list[float]] = {}
    for worker in workers:
        for model in worker.models:
            rates.setdefault(model, []).append(worker.work_rate or 0.0)
    return {model: Pace(sum(each), max(each)) for model, each in rates.items()}


class Paces:
    """The paces of all models, asked for at most once a second, however many clients look.

    Args:
        queue: knows the workers.
        clock: seconds that never go back.
    """

    def __init__(self, queue: RedisJobQueue, clock: Callable[[], float] = time.monotonic) -> None:
        self._queue, self._clock = queue, clock
        self._known: Mapping[str, Pace] = {}
        self._until_s = float("-inf")
        self._asking = asyncio.Lock()

    async def now(self) -> Mapping[str, Pace]:
        """The pace of every model that a live worker serves.

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
    job: Job, pace: Pace | None, *, work_ahead: float | None, now_ms: float
) -> float | None:
    """An estimate of the time until a job ends, s; None where nothing is known, or for a final job.

    Args:
        job: as it stands.
        pace: of its model; None: no live worker.
        work_ahead: what is done before it, while it is queued.
        now_ms: Unix time.
    """
    if job.status is JobStatus.RUNNING:
        return _running_s(job, pace, now_ms)
    if job.status is not JobStatus.QUEUED or work_ahead is None or not _known(pace):
        return None
    assert pace is not None
    return round(work_ahead / pace.total + job.work / pace.fastest, 1)


def _running_s(job: Job, pace: Pace | None, now_ms: float) -> float | None:
    """From the pace of its own first attempt, else from its workers'."""
    left = 1 - job.step / job.total_steps if job.total_steps else 0.0
    if job.step and job.attempt == 1 and job.started_at_ms is not None:
        elapsed_s = max(0.0, now_ms - job.started_at_ms) / 1000
        return round(elapsed_s * left * job.total_steps / job.step, 1)
    return round(left * job.work / pace.fastest, 1) if pace and pace.fastest else None


@dataclass(frozen=True, slots=True)
class Deadline:
    """A deadline before the job is accepted, and the speed that it must be met with.

    Attributes:
        timeout_s: from now.
        work: of the job.
        pace: of its model; both rates are known.
    """

    timeout_s: float
    work: int
    pace: Pace

    @property
    def alone_s(self) -> float:
        """How long the job takes when nothing is before it."""
        return self.work / self.pace.fastest

    @property
    def most_work_ahead(self) -> float:
        """What may be before the job, so that it still ends in time; negative: not even nothing."""
        return (self.timeout_s - self.alone_s) * self.pace.total

    def refusal(self, work_ahead: float, *, now_s: float) -> ServiceError:
        """Why the job isn't accepted, with the predicted finish.

        Args:
            work_ahead: what is before it.
            now_s: Unix time.
        """
        predicted_s = work_ahead / self.pace.total + self.alone_s
        members: dict[str, Any] = {
            "predicted_seconds": round(predicted_s, 1),
            "predicted_finish": datetime.fromtimestamp(now_s + predicted_s, UTC).isoformat(),
        }
        if self.alone_s > self.timeout_s:
            detail = f"this job alone takes about {self.alone_s:.1f} s"
            return DeadlineTooShort(detail, members=members)
        late_s = predicted_s - self.timeout_s
        detail = f"It would end in about {predicted_s:.1f} s, after the deadline of {self.timeout_s:g} s."
        pause_s = min(LONGEST_RETRY_S, max(1, math.ceil(late_s)))
        return Unmeetable(detail, retry_after_s=pause_s, members=members)


def deadline_of(job: Job, pace: Pace | None) -> Deadline | None:
    """The deadline of a job that is about to be queued; None where it can't be judged."""
    if job.timeout_s is None or not _known(pace):
        return None
    assert pace is not None
    return Deadline(job.timeout_s, job.work, pace)


def _known(pace: Pace | None) -> bool:
    return pace is not None and pace.total > 0

"""How much work waits, and how long a refused client should. Pure.

Work is counted in the unit of `Job.work`.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from service.queue.presence import WorkerPresence

UNKNOWN_RETRY_S = 5
LONGEST_RETRY_S = 120  # a longer one makes some clients give up instead of waiting
_PART = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """A model's work: of its queued jobs, and of its leased ones, what they have done included."""

    waiting_work: int
    running_work: int


def work_rate(workers: Iterable[WorkerPresence]) -> float:
    """Work that all these workers do in a second, as far as it is known."""
    return sum(worker.work_rate or 0.0 for worker in workers)


def retry_after_s(waiting_work: int, rate: float) -> int:
    """Seconds until a full queue has room again: until a tenth of it is done.

    Args:
        waiting_work: of the whole queue.
        rate: work done in a second; 0 when it isn't known.
    """
    if rate <= 0:
        return UNKNOWN_RETRY_S
    return max(1, math.ceil(min(LONGEST_RETRY_S, _PART * waiting_work / rate)))

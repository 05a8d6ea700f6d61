"""What comes of an attempt: done, again later, or never again. Pure.

The delays are those that Standard Webhooks 1.0 recommends.
"""

from dataclasses import dataclass

from service.views.delivery import DeliveryState
from service.webhooks.calls import Answer

MINUTE_S, HOUR_S = 60.0, 3600.0
_BUSY = (429, 502, 504)
_GONE = 410


@dataclass(frozen=True, slots=True)
class Schedule:
    """When failed attempts are repeated.

    Attributes:
        delays_s: pause after the first failure, after the second, …; with the last one it ends.
        jitter: a pause is longer by a random share of itself up to this one.
        throttle_s: a host that is too busy gets nothing for so long, if it names no time itself.
    """

    delays_s: tuple[float, ...] = (
        5.0,
        5 * MINUTE_S,
        30 * MINUTE_S,
        2 * HOUR_S,
        5 * HOUR_S,
        10 * HOUR_S,
        14 * HOUR_S,
        20 * HOUR_S,
        24 * HOUR_S,
    )
    jitter: float = 0.1
    throttle_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a delivery is after an attempt, and which pauses follow."""

    state: DeliveryState
    retry_s: float = 0.0
    throttle_s: float = 0.0


def judge(schedule: Schedule, event: str, tries: int, answer: Answer, chance: float) -> Verdict:
    """What comes of an attempt.

    Args:
        schedule: when failed attempts are repeated.
        event: what the delivery tells; progress is attempted once, for newer progress follows.
        tries: attempts before this one.
        answer: what came of it.
        chance: random, 0 … 1.
    """
    if answer.status is not None and answer.error is None:
        return Verdict("delivered")
    if answer.status == _GONE:
        return Verdict("disabled")
    asked_s = answer.retry_after_s
    busy_s = schedule.throttle_s if asked_s is None else asked_s
    throttle_s = busy_s if answer.status in _BUSY else 0.0
    if event == "job.progress" or tries >= len(schedule.delays_s):
        return Verdict("failed", throttle_s=throttle_s)
    pause_s = max(schedule.delays_s[tries], asked_s or 0.0)
    return Verdict("pending", pause_s * (1 + schedule.jitter * chance), throttle_s)

"""When a failed attempt is repeated, and when never again."""

import pytest

from service.webhooks.calls import Answer
from service.webhooks.schedule import Schedule, Verdict, judge

STANDARD = Schedule(jitter=0.0)


def refused(status: int | None, retry_after_s: float | None = None) -> Answer:
    return Answer(duration_s=0.1, status=status, error="no", retry_after_s=retry_after_s)


def test_the_pauses_are_those_of_the_standard() -> None:
    pauses = [judge(STANDARD, "job.failed", tries, refused(500), 0.0) for tries in range(10)]
    seconds = [5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400]
    assert pauses == [*(Verdict("pending", s) for s in seconds), Verdict("failed")]


def test_jitter_makes_a_pause_longer_by_a_tenth_at_most() -> None:
    pauses = [judge(Schedule(), "job.image", 1, refused(None), c).retry_s for c in (0, 0.5, 1)]
    assert pauses == pytest.approx([300, 315, 330])


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_every_2xx_is_a_success(status: int) -> None:
    answer = Answer(duration_s=0.1, status=status)
    assert judge(STANDARD, "job.failed", 0, answer, 0.0) == Verdict("delivered")


def test_a_pause_that_the_answer_asks_for_can_only_be_longer() -> None:
    assert judge(STANDARD, "job.failed", 0, refused(500, 60.0), 0.0) == Verdict("pending", 60)
    assert judge(STANDARD, "job.failed", 1, refused(500, 60.0), 0.0) == Verdict("pending", 300)


@pytest.mark.parametrize("status", [429, 502, 504])
def test_a_busy_host_is_throttled(status: int) -> None:
    assert judge(STANDARD, "job.failed", 0, refused(status), 0.0) == Verdict("pending", 5, 10)
    assert judge(STANDARD, "job.failed", 0, refused(status, 90.0), 0.0).throttle_s == 90


def test_gone_disables_whatever_the_event() -> None:
    for event in ("job.progress", "job.succeeded"):
        assert judge(STANDARD, event, 0, refused(410, 5.0), 0.0) == Verdict("disabled")


def test_progress_has_one_attempt() -> None:
    assert judge(STANDARD, "job.progress", 0, refused(429), 0.0) == Verdict("failed", 0, 10)

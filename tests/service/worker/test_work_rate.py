import pytest

from service.worker.work_rate import WorkRate


def test_a_rate_is_not_known_before_any_work_is_done() -> None:
    rate = WorkRate()
    assert rate.per_second is None
    rate.count(0, 1.0)  # a step that failed
    assert rate.per_second is None


def test_even_one_step_tells_the_rate() -> None:
    rate = WorkRate()
    rate.count(32, 0.5)
    assert rate.per_second == pytest.approx(64)


def test_steps_count_by_their_time() -> None:
    rate = WorkRate()
    for _ in range(100):
        rate.count(10, 0.001)
        rate.count(10, 0.009)
    assert rate.per_second == pytest.approx(2000, rel=0.01)


def test_after_some_tens_of_busy_seconds_only_the_new_pace_counts() -> None:
    rate = WorkRate()
    for _ in range(100):
        rate.count(100, 0.1)
    for _ in range(100):
        rate.count(10, 0.1)
    assert 100 < (rate.per_second or 0) < 550
    for _ in range(400):
        rate.count(10, 0.1)
    assert rate.per_second == pytest.approx(100, rel=0.1)

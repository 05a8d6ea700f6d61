import pytest

from model.params import steps_at_strength


@pytest.mark.parametrize(
    ("steps", "strength", "left"),
    [(20, 0.55, 11), (20, 0.56, 12), (20, 1.0, 20), (10, 0.7, 7), (10, 0.001, 1), (1, 0.5, 1)],
)
def test_a_strength_is_rounded_up_to_whole_steps(steps: int, strength: float, left: int) -> None:
    assert steps_at_strength(steps, strength) == left


def test_every_share_of_a_run_is_its_number_of_steps() -> None:
    for steps in (3, 7, 27, 50, 100, 1000):
        assert all(steps_at_strength(steps, k / steps) == k for k in range(1, steps + 1))

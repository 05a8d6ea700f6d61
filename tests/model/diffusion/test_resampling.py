import numpy as np
import pytest

from model.diffusion.resampling import LossSecondMomentResampler


def test_draws_are_uniform_until_every_timestep_has_a_history() -> None:
    resampler = LossSecondMomentResampler(3, history=2, uniform=0.1)
    resampler.update([0, 0, 1, 1, 2], [5.0, 5.0, 1.0, 1.0, 1.0])
    assert resampler.weights().tolist() == [1, 1, 1]
    assert resampler.importance().tolist() == [1, 1, 1]
    resampler.update([2], [1.0])
    assert resampler.weights()[0] == pytest.approx(0.9 * 5 / 7 + 0.1 / 3)


def test_only_the_newest_losses_count() -> None:
    resampler = LossSecondMomentResampler(2, history=2, uniform=0.0)
    resampler.update([0, 0, 1, 1], [100.0, 3.0, 1.0, 1.0])
    resampler.update([0], [4.0])
    assert resampler.weights()[0] == pytest.approx(12.5**0.5 / (12.5**0.5 + 1))


def test_factors_keep_the_expected_loss() -> None:
    resampler = LossSecondMomentResampler(4, history=1, uniform=0.01)
    losses = np.array([0.1, 0.5, 2.0, 9.0])
    resampler.update(range(4), losses.tolist())
    t, factors = resampler.draw(4000, np.random.default_rng(0))
    assert np.mean(t == 3) > 0.7
    assert np.mean(factors * losses[t]) == pytest.approx(losses.mean(), rel=0.02)

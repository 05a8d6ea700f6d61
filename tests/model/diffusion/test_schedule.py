import numpy as np
import pytest

from model.diffusion.schedule import NoiseSchedule, ScheduleName, noise_schedule
from model.errors import UnsupportedSampling

TABLES = (
    "betas",
    "alpha_bar",
    "alpha_bar_prev",
    "alpha_bar_next",
    "sqrt_alpha_bar",
    "sqrt_one_minus_alpha_bar",
    "posterior_variance",
    "posterior_log_variance_clipped",
    "posterior_mean_coef1",
    "posterior_mean_coef2",
)


@pytest.mark.parametrize("name", ["cosine", "linear"])
def test_every_table_is_finite(name: ScheduleName) -> None:
    schedule = noise_schedule(name, 1000)
    for attribute in (*TABLES, "lambdas", "snr"):
        assert np.all(np.isfinite(getattr(schedule, attribute))), attribute


def test_lambda_is_the_log_ratio_of_signal_and_noise() -> None:
    schedule = noise_schedule("cosine", 1000)
    wanted = np.log(schedule.sqrt_alpha_bar / schedule.sqrt_one_minus_alpha_bar)
    assert np.max(np.abs(schedule.lambdas - wanted)) < 1e-10
    assert np.max(np.abs(np.exp(2 * schedule.lambdas) / schedule.snr - 1)) < 1e-12


def test_a_process_of_one_step_has_finite_tables() -> None:
    one = noise_schedule("cosine", 1000).respaced((999,))
    assert isinstance(one, NoiseSchedule)
    assert one.posterior_log_variance_clipped == pytest.approx(np.log(one.betas))
    assert one.posterior_mean_coef1 == pytest.approx([1.0])
    assert one.posterior_mean_coef2 == pytest.approx([0.0])


@pytest.mark.parametrize(("name", "timesteps"), [("linear", 20), ("cosine", 0), ("square", 10)])
def test_impossible_schedules_are_refused(name: ScheduleName, timesteps: int) -> None:
    with pytest.raises(UnsupportedSampling):
        noise_schedule(name, timesteps)

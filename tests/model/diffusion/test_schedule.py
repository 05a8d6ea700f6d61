import numpy as np
import pytest

from model.diffusion.schedule import NoiseSchedule, ScheduleName, noise_schedule
from model.diffusion.spacing import space_timesteps
from model.errors import UnsupportedSampling
from tests.golden_data import Golden

NAMES: dict[str, ScheduleName] = {"squaredcos_cap_v2": "cosine", "linear": "linear"}
TABLES = {
    "betas": "betas",
    "alphas_cumprod": "alpha_bar",
    "alphas_cumprod_prev": "alpha_bar_prev",
    "alphas_cumprod_next": "alpha_bar_next",
    "sqrt_alphas_cumprod": "sqrt_alpha_bar",
    "sqrt_one_minus_alphas_cumprod": "sqrt_one_minus_alpha_bar",
    "posterior_variance": "posterior_variance",
    "posterior_log_variance_clipped": "posterior_log_variance_clipped",
    "posterior_mean_coef1": "posterior_mean_coef1",
    "posterior_mean_coef2": "posterior_mean_coef2",
}


def test_schedules_are_those_of_the_original() -> None:
    golden = Golden("schedules")
    for name, timesteps in golden.meta["schedules"]:
        schedule, case = noise_schedule(NAMES[name], timesteps), f"{name}_{timesteps}"
        for table, attribute in TABLES.items():
            golden.check(f"{case}/{table}", getattr(schedule, attribute))
        alpha_bar = schedule.alpha_bar
        golden.check(f"{case}/log_one_minus_alphas_cumprod", np.log(1 - alpha_bar))
        golden.check(f"{case}/sqrt_recip_alphas_cumprod", np.sqrt(1 / alpha_bar))
        golden.check(f"{case}/sqrt_recipm1_alphas_cumprod", np.sqrt(1 / alpha_bar - 1))
    golden.finish()


def test_respaced_processes_are_those_of_the_original() -> None:
    golden = Golden("respacing")
    for case in golden.meta["cases"]:
        name, timesteps, respacing = case.rsplit("_", 2)
        schedule = noise_schedule(NAMES[name], int(timesteps))
        grid = space_timesteps(respacing, schedule.timesteps)
        golden.check(f"{case}/timestep_map", np.array(grid))
        respaced = schedule.respaced(grid)
        for table, attribute in TABLES.items():
            if table in ("betas", "alphas_cumprod") or table.startswith("posterior"):
                golden.check(f"{case}/{table}", getattr(respaced, attribute))
    golden.finish()


@pytest.mark.parametrize("name", ["cosine", "linear"])
def test_every_table_is_finite(name: ScheduleName) -> None:
    schedule = noise_schedule(name, 1000)
    for attribute in (*TABLES.values(), "lambdas", "snr"):
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

"""Samples of distributions whose best denoiser is known in closed form."""

import pytest
import torch
from torch import Tensor

from model.conditioning import Conditioning
from model.diffusion.prediction import Parameterization
from model.diffusion.schedule import noise_schedule
from model.params import SamplerName, Thresholding
from model.sampling.noise import initial_noise
from model.sampling.plan import build_plan
from model.sampling.step import denoise_step
from model.sampling.trajectory import Trajectory

SCHEDULE = noise_schedule("cosine", 1000)


class MixtureDenoiser:
    """E[x₀ | x_t] of pixels that are independently ±centre, each with the deviation `spread`."""

    def __init__(self, centre: float, spread: float) -> None:
        self._centre, self._spread = centre, spread

    def __call__(self, x_t: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        alpha_bar = torch.from_numpy(SCHEDULE.alpha_bar)[t].to(x_t)[:, None, None, None]
        a, variance = alpha_bar.sqrt(), 1 - alpha_bar
        total = alpha_bar * self._spread**2 + variance
        share = torch.tanh(a * self._centre * x_t / total)  # p(+) - p(-)
        centre = self._centre * share
        return centre + a * self._spread**2 / total * (x_t - a * centre)


def sample(sampler: SamplerName, steps: int, centre: float, spread: float) -> Tensor:
    plan = build_plan(sampler, SCHEDULE, steps, eta=1.0, variance="fixed_small")
    one = Trajectory(
        plan=plan,
        x=initial_noise(1, 0, (3, 96, 96), 1.0),
        conditioning=Conditioning(),
        thresholding=Thresholding.NONE,
        seed=1,
    )
    denoiser = MixtureDenoiser(centre, spread)
    while not one.done:
        denoise_step(denoiser, [one], Parameterization("x0", "fixed_small", SCHEDULE))
    return one.x


@pytest.mark.parametrize(
    ("sampler", "steps", "tolerance"),
    [
        (SamplerName.DPMPP_2M, 20, 0.03),
        (SamplerName.DPMPP_2M, 50, 0.02),
        (SamplerName.DPMPP_3M, 20, 0.03),
        (SamplerName.DPMPP_2M_SDE, 100, 0.03),
        (SamplerName.UNIPC, 20, 0.03),
        (SamplerName.UNIPC_3, 20, 0.03),
        (SamplerName.DDIM, 250, 0.04),
        (SamplerName.DDPM, 500, 0.04),
    ],
)
def test_samples_have_their_distributions_variance(
    sampler: SamplerName, steps: int, tolerance: float
) -> None:
    for centre, spread in ((0.0, 0.5), (0.6, 0.1)):
        x = sample(sampler, steps, centre, spread)
        wanted = centre**2 + spread**2
        assert x.square().mean().item() == pytest.approx(wanted, rel=tolerance)
        assert abs(x.mean().item()) < 0.02
        if centre:  # pixels lie in the two modes, not between them
            assert (x.abs() - centre).abs().lt(4 * spread).float().mean() > 0.99

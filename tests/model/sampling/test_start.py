import math

import numpy as np
import pytest
import torch
from torch import Tensor

from model.conditioning import Conditioning
from model.diffusion.prediction import Parameterization
from model.diffusion.schedule import noise_schedule
from model.errors import UnsupportedSampling
from model.params import SamplerName, Thresholding
from model.sampling.noise import INITIAL, initial_noise, noise
from model.sampling.plan import build_plan, encoding_plan
from model.sampling.start import slerp, start_from
from model.sampling.step import denoise_step
from model.sampling.trajectory import Trajectory
from tests.model.sampling.toy_network import ToyDenoiser, caption

SHAPE = (3, 8, 8)
SCHEDULE = noise_schedule("cosine", 1000)
PICTURE = torch.linspace(-1, 1, 192).reshape(SHAPE)


@pytest.mark.parametrize("sampler", SamplerName)
@pytest.mark.parametrize("strength", [0.01, 0.3, 0.5, 0.95, 1.0])
def test_a_weaker_run_is_the_end_of_the_whole_one(sampler: SamplerName, strength: float) -> None:
    whole = build_plan(sampler, SCHEDULE, 10, variance="learned_range")
    part = build_plan(sampler, SCHEDULE, 10, variance="learned_range", strength=strength)
    assert part.steps == max(1, math.ceil(10 * strength))
    assert part.timesteps.tolist() == whole.timesteps[-part.steps :].tolist()
    for step, weights in enumerate(part.weights):  # and no x̂₀ that the run has not made itself
        assert not np.any(weights[2 + step : 5])


@pytest.mark.parametrize("sampler", [SamplerName.DDPM, SamplerName.DDIM, SamplerName.DPMPP_1])
def test_without_history_its_updates_are_those_of_the_whole_run(sampler: SamplerName) -> None:
    whole = build_plan(sampler, SCHEDULE, 10, eta=0.5, variance="learned_range")
    part = build_plan(sampler, SCHEDULE, 10, eta=0.5, variance="learned_range", strength=0.6)
    np.testing.assert_allclose(part.weights, whole.weights[4:], rtol=1e-9, atol=1e-12)
    logs = [part.log_variances(step) for step in range(6)]
    assert logs == [whole.log_variances(step) for step in range(4, 10)]


def test_a_respacing_is_weakened_too() -> None:
    plan = build_plan(SamplerName.DDIM, SCHEDULE, "25,25", strength=0.5)
    assert plan.steps == 25
    assert plan.timesteps.max() == 499


@pytest.mark.parametrize("strength", [0.0, -0.1, 1.01, math.nan, math.inf])
def test_an_impossible_strength_is_refused(strength: float) -> None:
    with pytest.raises(UnsupportedSampling, match="above 0 and at most 1"):
        build_plan(SamplerName.DDIM, SCHEDULE, 10, strength=strength)


def test_a_picture_is_noised_to_the_runs_first_timestep() -> None:
    plan = build_plan(SamplerName.DPMPP_2M, SCHEDULE, 20, strength=0.4)
    a = math.cos((400 / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2  # t = 399
    a /= math.cos(0.008 / 1.008 * math.pi / 2) ** 2
    start = start_from(PICTURE, plan, SCHEDULE, seed=5, stage=1)
    wanted = math.sqrt(a) * PICTURE + math.sqrt(1 - a) * noise(5, 1, INITIAL, SHAPE)
    torch.testing.assert_close(start, wanted)
    warm = start_from(PICTURE, plan, SCHEDULE, seed=5, stage=1, temperature=0.5)
    torch.testing.assert_close(warm, (start + math.sqrt(a) * PICTURE) / 2)


def test_the_weaker_the_run_the_closer_the_picture() -> None:
    """With the best denoiser of pixels that are independent and standard normal, x̂₀ = √ᾱ x_t."""

    def denoiser(x_t: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        return torch.from_numpy(SCHEDULE.sqrt_alpha_bar)[t].to(x_t)[:, None, None, None] * x_t

    distances = []
    for strength in (0.1, 0.4, 0.7, 1.0):
        plan = build_plan(SamplerName.DPMPP_2M, SCHEDULE, 20, strength=strength)
        one = Trajectory(
            plan=plan,
            x=start_from(PICTURE, plan, SCHEDULE, seed=1, stage=0),
            conditioning=Conditioning(),
            thresholding=Thresholding.NONE,
        )
        while not one.done:
            denoise_step(denoiser, [one], Parameterization("x0", "fixed_small", SCHEDULE))
        distances.append(float((one.x - PICTURE).square().mean().sqrt()))
    assert distances == sorted(distances)
    assert distances[0] < 0.3
    assert distances[-1] > 0.9


@pytest.mark.parametrize("sampler", SamplerName)
def test_every_sampler_runs_from_a_picture(sampler: SamplerName) -> None:
    for strength in (0.05, 0.2, 0.5):
        plan = build_plan(sampler, SCHEDULE, 8, variance="learned_range", strength=strength)
        x = start_from(PICTURE, plan, SCHEDULE, seed=3, stage=0)
        one = Trajectory(plan=plan, x=x, conditioning=caption(0.1, 0.2), seed=3)
        while not one.done:
            denoise_step(
                ToyDenoiser(), [one], Parameterization("epsilon", "learned_range", SCHEDULE)
            )
        assert one.x0 is not None
        torch.testing.assert_close(one.x, one.x0)


def test_a_mixture_of_two_noises_is_as_loud_as_either() -> None:
    a, b = (initial_noise(seed, 0, (3, 32, 32), 1.0) for seed in (1, 2))
    for fraction in (0.1, 0.25, 0.5, 0.9):
        mixed = slerp(a, b, fraction)
        assert mixed.dtype == a.dtype
        assert mixed.std().item() == pytest.approx(1, abs=0.02)
        # the angle is divided in this proportion
        angles = [
            torch.acos(torch.cosine_similarity(x.flatten(), a.flatten(), 0)) for x in (mixed, b)
        ]
        assert float(angles[0] / angles[1]) == pytest.approx(fraction, abs=0.01)


def test_an_interpolation_ends_in_the_noises_themselves() -> None:
    a, b = (initial_noise(seed, 0, SHAPE, 1.0) for seed in (1, 2))
    assert torch.equal(slerp(a, b, 0), a)
    assert torch.equal(slerp(a, b, 1), b)
    assert torch.equal(slerp(a, a, 0.3), a)
    assert torch.equal(slerp(0 * a, 0 * a, 0.3), 0 * a)


def test_an_encoded_image_comes_back_the_better_the_more_steps_there_are() -> None:
    spread = 0.4  # of pixels that are independent and normal, whose best denoiser is linear

    def denoiser(x_t: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        a = torch.from_numpy(SCHEDULE.alpha_bar)[t].to(x_t)[:, None, None, None]
        return a.sqrt() * spread**2 / (a * spread**2 + 1 - a) * x_t

    picture = spread * initial_noise(9, 0, SHAPE, 1.0)
    parameterization = Parameterization("x0", "fixed_small", SCHEDULE)
    errors = []
    for steps in (10, 40, 160):
        x = picture
        plans = (encoding_plan(SCHEDULE, steps), build_plan(SamplerName.DDIM, SCHEDULE, steps))
        for plan in plans:
            one = Trajectory(
                plan=plan, x=x, conditioning=Conditioning(), thresholding=Thresholding.NONE
            )
            while not one.done:
                denoise_step(denoiser, [one], parameterization)
            x = one.x
            if plan is plans[0]:
                assert plan.timesteps.tolist() == sorted(plan.timesteps)
                assert x.std().item() == pytest.approx(1, abs=0.3)
        errors.append(float((x - picture).abs().max()))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < errors[0] / 4


def test_an_encoding_of_impossible_steps_is_refused() -> None:
    for steps in (0, 1001, "ddim999", "x"):
        with pytest.raises(UnsupportedSampling):
            encoding_plan(SCHEDULE, steps)

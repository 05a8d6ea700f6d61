"""Guidance by the gradient of a guide, in the denoising step."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from model.conditioning import Conditioning
from model.diffusion.prediction import Parameterization
from model.diffusion.schedule import Variance, noise_schedule
from model.errors import UnsupportedSampling
from model.params import GuideName, SamplerName, Thresholding
from model.sampling.guides import Guide
from model.sampling.noise import initial_noise
from model.sampling.plan import build_plan
from model.sampling.step import denoise_step
from model.sampling.trajectory import Trajectory
from tests.model.sampling.toy_network import ToyDenoiser, caption

SHAPE = (3, 8, 8)
SCHEDULE = noise_schedule("cosine", 1000)
LEARNED = Parameterization("epsilon", "learned_range", SCHEDULE)
CENTRE, SPREAD = 0.6, 0.15


class ToyGuide:
    """Leads towards a level that the label and the caption's features set, and counts its rows."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def __call__(self, x_t: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        assert conditioning.pooled is None
        self.rows.append(len(x_t))
        wanted = torch.zeros(len(x_t))
        if conditioning.label is not None:
            wanted = wanted + conditioning.label / 10
        if conditioning.clip_text is not None:
            wanted = wanted + conditioning.clip_text.sum(1)
        return torch.tanh(wanted[:, None, None, None] - x_t) * (1 + t / 1000)[:, None, None, None]


def guides() -> dict[GuideName, ToyGuide]:
    return {name: ToyGuide() for name in GuideName}


def trajectory(
    seed: int,
    scales: Mapping[GuideName, float],
    sampler: SamplerName = SamplerName.DDIM,
    **rest: Any,
) -> Trajectory:
    conditioning = Conditioning(
        pooled=torch.tensor([seed / 10, -0.3]),
        label=torch.tensor(seed),
        clip_text=torch.tensor([0.1, seed / 5]),
    )
    return Trajectory(
        plan=build_plan(sampler, SCHEDULE, 6 + seed, variance="learned_range"),
        x=initial_noise(seed, 0, SHAPE, 1.0),
        conditioning=conditioning,
        guide_scales=scales,
        seed=seed,
        **rest,
    )


def mixed() -> list[Trajectory]:
    clip, classifier = GuideName.CLIP, GuideName.CLASSIFIER
    empty = caption(0.0, 0.0)
    return [
        trajectory(0, {clip: 0.3}, SamplerName.DDPM),
        trajectory(1, {classifier: 0.4}, SamplerName.DDPM, unconditional=empty, guidance_scale=3.0),
        trajectory(2, {}, SamplerName.DDIM),
        trajectory(3, {clip: 0.2, classifier: 0.1}, SamplerName.DDIM),
        trajectory(4, {clip: 0.1}, SamplerName.DPMPP_2M, guidance_interval=(0.2, 0.6)),
        trajectory(5, {classifier: 0.1, clip: 0.0}, SamplerName.UNIPC_3),
        trajectory(6, {clip: 0.1}, SamplerName.DPMPP_2M_SDE, thresholding=Thresholding.DYNAMIC),
    ]


def finish(batch: list[Trajectory], asked: Mapping[GuideName, Guide]) -> None:
    denoiser = ToyDenoiser()
    while left := [each for each in batch if not each.done]:
        denoise_step(denoiser, left, LEARNED, asked)


def test_a_guided_image_does_not_depend_on_its_batch() -> None:
    together = mixed()
    asked = guides()
    finish(together, asked)
    assert max(asked[GuideName.CLIP].rows) == 4
    for alone, one in zip(mixed(), together, strict=True):
        finish([alone], guides())
        assert torch.max((alone.x - one.x).abs()) <= 1e-5


def test_only_rows_that_ask_for_a_guide_are_given_to_it() -> None:
    asked = guides()
    report = denoise_step(ToyDenoiser(), mixed(), LEARNED, asked)
    assert asked[GuideName.CLIP].rows == [3]  # not the one outside of its interval
    assert asked[GuideName.CLASSIFIER].rows == [3]
    assert (report.trajectories, report.rows, report.guide_rows) == (7, 8, 6)


def test_a_guide_acts_within_the_interval_alone() -> None:
    one, asked = mixed()[4], guides()
    finish([one], asked)
    inside = [0.2 <= t / 999 <= 0.6 for t in one.plan.timesteps]
    assert len(asked[GuideName.CLIP].rows) == sum(inside)
    assert 0 < sum(inside) < one.plan.steps


def test_without_a_scale_no_guide_is_asked_and_nothing_changes() -> None:
    asked = guides()
    plain, unasked = trajectory(2, {}), trajectory(2, {GuideName.CLIP: 0.0})
    finish([plain], {})
    finish([unasked], asked)
    assert asked[GuideName.CLIP].rows == []
    assert torch.equal(plain.x, unasked.x)


def test_a_guide_that_is_not_there_is_refused_and_nothing_moves() -> None:
    batch, denoiser = mixed(), ToyDenoiser()
    clip_alone = {GuideName.CLIP: ToyGuide()}
    with pytest.raises(UnsupportedSampling, match="no classifier"):
        denoise_step(denoiser, batch, LEARNED, clip_alone)
    assert denoiser.rows == []
    assert all(each.step == 0 for each in batch)


def gradient_of_one(x_t: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
    return torch.ones_like(x_t)


@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large"])
def test_an_ancestral_step_moves_by_its_variance(variance: Variance) -> None:
    """σ² of Ho et al. 2020, §3.2; the last step's β stands for β̃_1, or is β̃_0 = 0."""
    plan = build_plan(SamplerName.DDPM, SCHEDULE, 10, variance=variance)
    parameterization = Parameterization("x0", variance, SCHEDULE)
    a = SCHEDULE.alpha_bar[plan.timesteps]
    for step in (0, 4, 8, 9):
        a_s = a[step + 1] if step < 9 else 1.0
        beta, beta_tilde = 1 - a[step] / a_s, (1 - a_s) / (1 - a[step]) * (1 - a[step] / a_s)
        wanted = beta_tilde if variance == "fixed_small" else beta
        if step == 9 and variance == "fixed_large":
            wanted = (1 - a[9]) / (1 - a[8]) * (1 - a[8] / a[9])
        ends = []
        for scale in (0.0, 2.0):
            one = Trajectory(
                plan=plan,
                x=torch.zeros(SHAPE),
                conditioning=Conditioning(),
                guide_scales={GuideName.CLIP: scale},
                step=step,
            )
            denoise_step(
                lambda x, t, c: torch.zeros_like(x),
                [one],
                parameterization,
                {GuideName.CLIP: gradient_of_one},
            )
            ends.append(one.x)
        moved = (ends[1] - ends[0]).double()
        torch.testing.assert_close(moved, torch.full_like(moved, 2 * wanted), atol=1e-6, rtol=1e-5)


class TwoModes:
    """E[x₀ | x_t] of pixels that are ±CENTRE, each as likely, with the deviation SPREAD."""

    def __call__(self, x_t: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        a, total = self.numbers(x_t, t)
        centre = CENTRE * torch.tanh(a * CENTRE * x_t / total)
        return centre + a * SPREAD**2 / total * (x_t - a * centre)

    def gradient(self, x_t: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        """∂/∂x_t log p(every pixel is of the upper mode | x_t)."""
        a, total = self.numbers(x_t, t)
        slope = 2 * a * CENTRE / total
        return slope * torch.sigmoid(-slope * x_t)

    def numbers(self, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        alpha_bar = torch.from_numpy(SCHEDULE.alpha_bar)[t].to(x_t)[:, None, None, None]
        return alpha_bar.sqrt(), alpha_bar * SPREAD**2 + 1 - alpha_bar


@pytest.mark.parametrize("sampler", [name for name in SamplerName if name != SamplerName.DDPM])
def test_a_faulty_guide_does_not_ruin_the_image(sampler: SamplerName) -> None:
    """A fault of the size of 1 % of a pixel, at ᾱ of 2e-9 as anywhere else."""
    modes = TwoModes()
    fault = 0.01 * initial_noise(7, 0, (3, 32, 32), 1.0)

    def faulty(x_t: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        return modes.gradient(x_t, t, conditioning) + fault

    # DDIM moves x̂₀ unbounded, as the original does, and its usual grid spares the last timestep
    steps = "ddim25" if sampler is SamplerName.DDIM else 25
    one = Trajectory(
        plan=build_plan(sampler, SCHEDULE, steps),
        x=initial_noise(1, 0, (3, 32, 32), 1.0),
        conditioning=Conditioning(),
        guide_scales={GuideName.CLASSIFIER: 1.0},
        seed=1,
    )
    while not one.done:
        denoise_step(
            modes,
            [one],
            Parameterization("x0", "fixed_small", SCHEDULE),
            {GuideName.CLASSIFIER: faulty},
        )
    assert one.x.mean().item() == pytest.approx(CENTRE, abs=0.03)
    assert one.x.std().item() == pytest.approx(SPREAD, abs=0.03)


@pytest.mark.parametrize("sampler", [SamplerName.DPMPP_2M, SamplerName.UNIPC_3])
def test_known_pixels_stay_as_they_are_under_a_guide(sampler: SamplerName) -> None:
    mask = torch.zeros(1, 8, 8)
    mask[:, 2:5] = 1
    image = torch.linspace(-1, 1, 192).reshape(SHAPE)
    one = trajectory(3, {GuideName.CLIP: 5.0}, sampler)
    one.conditioning = replace(one.conditioning, image=image, mask=mask)
    finish([one], guides())
    keep = mask.bool().expand(SHAPE)
    assert torch.equal(one.x[keep], image[keep])
    assert one.x.abs().max() <= 1


@pytest.mark.parametrize(
    ("sampler", "steps"),
    [
        (SamplerName.DDPM, 200),
        (SamplerName.DDIM, 100),
        (SamplerName.DPMPP_1, 100),
        (SamplerName.DPMPP_2M, 30),
        (SamplerName.DPMPP_3M, 30),
        (SamplerName.DPMPP_2M_SDE, 50),
        (SamplerName.UNIPC, 30),
        (SamplerName.UNIPC_3, 30),
    ],
)
def test_an_exact_guide_gives_the_distribution_given_its_class(
    sampler: SamplerName, steps: int
) -> None:
    modes = TwoModes()
    ends = {}
    for scale in (0.0, 1.0):
        one = Trajectory(
            plan=build_plan(sampler, SCHEDULE, steps, variance="fixed_small"),
            x=initial_noise(1, 0, (3, 48, 48), 1.0),
            conditioning=Conditioning(),
            thresholding=Thresholding.NONE,
            guide_scales={GuideName.CLASSIFIER: scale},
            seed=1,
        )
        asked: dict[GuideName, Guide] = {GuideName.CLASSIFIER: modes.gradient}
        while not one.done:
            denoise_step(modes, [one], Parameterization("x0", "fixed_small", SCHEDULE), asked)
        ends[scale] = one.x
    assert abs(ends[0.0].mean().item()) < 0.03
    assert ends[1.0].mean().item() == pytest.approx(CENTRE, abs=0.015)
    assert ends[1.0].std().item() == pytest.approx(SPREAD, rel=0.1)

from typing import Any

import pytest
import torch

from model.conditioning import Conditioning
from model.diffusion.prediction import Parameterization, Prediction
from model.diffusion.schedule import noise_schedule
from model.params import SamplerName, Thresholding
from model.sampling.noise import initial_noise
from model.sampling.plan import build_plan
from model.sampling.step import denoise_step
from model.sampling.trajectory import Trajectory
from tests.model.sampling.toy_network import ToyDenoiser, caption

SHAPE = (3, 8, 8)
SCHEDULE = noise_schedule("cosine", 1000)
LEARNED = Parameterization("epsilon", "learned_range", SCHEDULE)
EMPTY = caption(0.0, 0.0)


def trajectory(
    sampler: SamplerName, steps: int | str, seed: int, eta: float = 0.0, **rest: Any
) -> Trajectory:
    rest.setdefault("conditioning", caption(seed / 10, -0.3))
    return Trajectory(
        plan=build_plan(sampler, SCHEDULE, steps, eta=eta, variance="learned_range"),
        x=initial_noise(seed, 0, SHAPE, 1.0),
        seed=seed,
        **rest,
    )


def picture_to_edit() -> Conditioning:
    mask = torch.zeros(1, 8, 8)
    mask[:, 2:5] = 1
    image = torch.linspace(-1, 1, 192).reshape(SHAPE)
    return Conditioning(pooled=torch.tensor([0.1, 0.2]), image=image, mask=mask)


def mixed() -> list[Trajectory]:
    ddpm, ddim, dpmpp = SamplerName.DDPM, SamplerName.DDIM, SamplerName.DPMPP_2M
    dynamic: dict[str, Any] = {"thresholding": Thresholding.DYNAMIC, "dynamic_percentile": 0.9}
    return [
        trajectory(ddpm, 12, 0, unconditional=EMPTY, guidance_scale=3.0),
        trajectory(ddpm, "5,3", 1),
        trajectory(ddim, 10, 2, unconditional=EMPTY, guidance_scale=7.0, **dynamic),
        trajectory(ddim, 9, 3, eta=0.7, unconditional=EMPTY, guidance_scale=0.0),
        trajectory(ddim, 1, 4, conditioning=picture_to_edit()),
        trajectory(dpmpp, 10, 5, unconditional=EMPTY, guidance_scale=3.0),
        trajectory(dpmpp, 15, 6, conditioning=picture_to_edit(), **dynamic),
        trajectory(
            dpmpp, 7, 7, unconditional=EMPTY, guidance_scale=5.0, guidance_interval=(0.3, 0.7)
        ),
        trajectory(SamplerName.DPMPP_1, 5, 8),
        trajectory(SamplerName.DPMPP_3M, 9, 9, unconditional=EMPTY, guidance_scale=2.0),
        trajectory(SamplerName.DPMPP_2M_SDE, 8, 10),
        trajectory(SamplerName.UNIPC, 7, 11, conditioning=picture_to_edit()),
        trajectory(SamplerName.UNIPC_3, 10, 12, unconditional=EMPTY, guidance_scale=4.0),
    ]


def finish(denoiser: ToyDenoiser, batch: list[Trajectory]) -> None:
    while left := [each for each in batch if not each.done]:
        denoise_step(denoiser, left, LEARNED)


def test_an_image_does_not_depend_on_its_batch() -> None:
    together, denoiser = mixed(), ToyDenoiser()
    finish(denoiser, together)
    assert denoiser.rows[0] >= 13
    assert len(denoiser.rows) == max(each.plan.steps for each in together)
    for alone, one in zip(mixed(), together, strict=True):
        finish(ToyDenoiser(), [alone])
        assert torch.max((alone.x - one.x).abs()) <= 1e-5


def test_a_trajectory_may_join_a_running_batch() -> None:
    alone, late = mixed()[5], mixed()[5]
    others = [each for index, each in enumerate(mixed()) if index != 5]
    finish(ToyDenoiser(), [alone])
    for _ in range(3):
        denoise_step(ToyDenoiser(), [each for each in others if not each.done], LEARNED)
    finish(ToyDenoiser(), [late, *others])
    assert torch.max((alone.x - late.x).abs()) <= 1e-5


def test_a_step_reports_its_trajectories_and_rows() -> None:
    batch, denoiser = mixed(), ToyDenoiser()
    report = denoise_step(denoiser, batch, LEARNED)
    assert (report.trajectories, report.rows) == (13, 18)
    assert denoiser.rows == [18]
    assert [each.step for each in batch] == [1] * 13


def test_guidance_outside_its_interval_costs_one_row() -> None:
    one, denoiser = mixed()[7], ToyDenoiser()
    finish(denoiser, [one])
    inside = [0.3 <= t / 999 <= 0.7 for t in one.plan.timesteps]
    assert denoiser.rows == [1 + acts for acts in inside]
    assert set(denoiser.rows) == {1, 2}


def test_known_pixels_stay_as_they_are() -> None:
    for one in (mixed()[4], mixed()[6]):
        finish(ToyDenoiser(), [one])
        image, mask = one.conditioning.image, one.conditioning.mask
        assert image is not None
        assert mask is not None
        keep = mask.bool().expand(SHAPE)
        assert torch.equal(one.x[keep], image[keep])
        assert (one.x - image)[~keep].abs().mean() > 0.1


def edited(mask: torch.Tensor | None, **rest: Any) -> Trajectory:
    image = picture_to_edit().image if mask is not None else None
    conditioning = Conditioning(pooled=torch.tensor([0.1, 0.2]), image=image, mask=mask)
    one = trajectory(SamplerName.DPMPP_2M, 6, 5, conditioning=conditioning, **rest)
    finish(ToyDenoiser(), [one])
    return one


@pytest.mark.parametrize("mode", Thresholding)
def test_a_mask_that_keeps_all_gives_the_picture_and_one_that_keeps_none_a_new_one(
    mode: Thresholding,
) -> None:
    image = picture_to_edit().image
    assert image is not None
    assert torch.equal(edited(torch.ones(1, 8, 8), thresholding=mode).x, image)
    none_kept = edited(torch.zeros(1, 8, 8), thresholding=mode).x
    assert torch.equal(none_kept, edited(None, thresholding=mode).x)


@pytest.mark.parametrize("mode", Thresholding)
def test_a_soft_mask_blends_once(mode: Thresholding) -> None:
    """At the last step, whose x̂₀ is the image; the denoiser here is a constant."""
    image = picture_to_edit().image
    assert image is not None
    mask = torch.linspace(0, 1, 8).expand(1, 8, 8)
    predicted = torch.linspace(0.9, -3, 192).reshape(SHAPE)
    one = trajectory(
        SamplerName.DPMPP_2M,
        1,
        5,
        conditioning=Conditioning(image=image, mask=mask),
        thresholding=mode,
        dynamic_percentile=1.0,
    )
    x0 = Parameterization("x0", "fixed_small", SCHEDULE)
    denoise_step(lambda x_t, t, conditioning: predicted[None], [one], x0)
    blend = predicted * (1 - mask) + image * mask
    match mode:
        case Thresholding.NONE:
            wanted = blend
        case Thresholding.STATIC:
            wanted = blend.clamp(-1, 1)
        case Thresholding.DYNAMIC:
            s = blend.abs().max()
            wanted = predicted.clamp(-s, s) / s * (1 - mask) + image * mask
    torch.testing.assert_close(one.x, wanted)


@pytest.mark.parametrize("sampler", SamplerName)
@pytest.mark.parametrize("steps", [1, 2])
def test_few_steps_end_with_the_predicted_image(sampler: SamplerName, steps: int) -> None:
    one = trajectory(sampler, steps, 3)
    finish(ToyDenoiser(), [one])
    assert one.x0 is not None
    torch.testing.assert_close(one.x, one.x0)
    assert one.x.abs().max() <= 1


@pytest.mark.parametrize("prediction", ["epsilon", "x0", "v"])
def test_a_finished_image_is_bounded_whatever_is_predicted(prediction: Prediction) -> None:
    parameterization = Parameterization(prediction, "fixed_small", SCHEDULE)
    denoiser = ToyDenoiser(channels_out=3)
    for mode, bounded in ((Thresholding.STATIC, True), (Thresholding.NONE, False)):
        one = trajectory(SamplerName.DPMPP_2M, 5, 1, thresholding=mode)
        while not one.done:
            denoise_step(lambda *row: 9 * denoiser(*row), [one], parameterization)
        assert torch.all(one.x.isfinite())
        assert (one.x.abs().max().item() <= 1) is bounded


def test_noise_is_drawn_only_where_it_is_used() -> None:
    drawn: list[tuple[int, int]] = []

    def counted(seed: int, stage: int, step: int, shape: tuple[int, ...]) -> torch.Tensor:
        drawn.append((seed, step))
        return torch.zeros(shape)

    stochastic = trajectory(SamplerName.DDPM, 3, 1, noise=counted)
    batch = [
        stochastic,
        trajectory(SamplerName.DDIM, 3, 2, noise=counted),
        trajectory(SamplerName.DPMPP_2M, 3, 3, noise=counted),
    ]
    finish(ToyDenoiser(), batch)
    assert drawn == [(1, 0), (1, 1)]


def test_half_precision_outputs_are_reckoned_with_in_single() -> None:
    half, single = (trajectory(SamplerName.DDPM, 4, 1) for _ in range(2))
    denoiser = ToyDenoiser()
    while not half.done:
        denoise_step(lambda *row: denoiser(*row).bfloat16(), [half], LEARNED)
        denoise_step(lambda *row: denoiser(*row).bfloat16().float(), [single], LEARNED)
    assert half.x.dtype == torch.float32
    assert torch.equal(half.x, single.x)

"""What a request's task, pictures, class and guides become."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from model.catalog import PipelineSpec, total_steps
from model.errors import CheckpointError, ConditioningError, UnsupportedSampling
from model.imaging import Pictures, fit, fit_mask, read_mask, read_picture
from model.params import GuideName, SamplerName, SamplingParams, Task, Thresholding, UpsampleParams
from model.pipeline import Pipeline
from model.sampling.noise import INITIAL, noise
from model.sampling.step import denoise_step
from model.sampling.trajectory import Trajectory
from tests.tiny_guides import CLASSES, write_class_pipeline, write_guided_pipeline

PLAIN = SamplingParams(
    prompt="a red apple", model="guided", width=64, height=64, seed=5, steps=3, guidance_scale=2.0
)
CLASS = SamplingParams(
    model="classes",
    width=32,
    height=32,
    steps="3",
    sampler=SamplerName.DDPM,
    label=2,
    guidance_scale=1.0,
)
Pixels = NDArray[np.uint8]


def _picture(side: int = 64) -> Pixels:
    return np.random.default_rng(1).integers(0, 256, (side, side, 3), np.uint8)


def _mask(side: int = 64) -> Pixels:
    """Paints a block in the middle, and blends a row above it."""
    mask = np.zeros((side, side), np.uint8)
    mask[side // 4 : side // 2, side // 4 : side // 2] = 255
    mask[side // 8, :] = 128
    return mask


def _edit(task: Task, **more: Any) -> SamplingParams:
    mask = "1" * 64 if task is Task.INPAINT else None
    return replace(PLAIN, task=task, image="0" * 64, mask=mask, **more)


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> PipelineSpec:
    return write_guided_pipeline(tmp_path_factory.mktemp("guided"))


@pytest.fixture(scope="module")
def pipeline(spec: PipelineSpec) -> Pipeline:
    return Pipeline.load(spec)


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    return Pipeline.load(write_class_pipeline(tmp_path_factory.mktemp("classes")))


def _finish(pipeline: Pipeline, trajectory: Trajectory) -> int:
    stage = pipeline.stage(trajectory).name
    steps = 0
    while not trajectory.done:
        denoise_step(
            pipeline.denoiser(stage),
            [trajectory],
            pipeline.parameterization(stage),
            pipeline.guides(stage),
        )
        steps += 1
    return steps


def _draw(
    pipeline: Pipeline, params: SamplingParams, pictures: Pictures | None = None
) -> tuple[list[Pixels], int]:
    """The images of a request, and the network steps that they took."""
    images, steps = [], 0
    for first in pipeline.prepare(params, pictures=pictures):
        trajectory: Trajectory | None = first
        while trajectory is not None:
            steps += _finish(pipeline, trajectory)
            last, trajectory = trajectory, pipeline.promote(trajectory, params, pictures)
        images.append(pipeline.image(last))
    return images, steps


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"sampler": SamplerName.DDIM, "eta": 1.0},
        {"sampler": SamplerName.UNIPC, "thresholding": Thresholding.DYNAMIC},
        {"sampler": SamplerName.DDPM, "clip_guidance_scale": 30.0},
        {"sampler": SamplerName.DDIM, "clip_guidance_scale": 30.0},
        {"upsample": UpsampleParams(sampler=SamplerName.DDPM, steps=4)},
        {"width": 16, "height": 16},
    ],
)
def test_kept_pixels_come_back_bit_by_bit(pipeline: Pipeline, change: dict[str, Any]) -> None:
    params = _edit(Task.INPAINT, **change)
    (image,), steps = _draw(pipeline, params, Pictures(_picture(), _mask()))
    keep = fit_mask(read_mask(_mask(), read_picture(_picture())), params.width)
    original = fit(read_picture(_picture()), params.width)
    assert np.array_equal(image[keep == 1], original[keep == 1])
    assert (image[keep == 0] != original[keep == 0]).mean() > 0.5
    assert steps == total_steps(pipeline.spec, params)


def test_both_rows_of_guidance_see_the_known_pixels_at_the_stage_s_own_size(
    pipeline: Pipeline,
) -> None:
    params, pictures = _edit(Task.INPAINT), Pictures(_picture(), _mask())
    (base,) = pipeline.prepare(params, pictures=pictures)
    assert base.unconditional is not None
    for row in (base.conditioning, base.unconditional):
        assert row.image is not None
        assert row.mask is not None
        assert row.image.shape == (3, 16, 16)
        assert torch.equal(row.mask[0], torch.from_numpy(pictures.keep_at(16)))
    upsample = pipeline.promote(base, params, pictures)
    assert upsample is not None
    assert upsample.conditioning.image is not None
    assert upsample.conditioning.image.shape == (3, 64, 64)


def test_a_soft_mask_blends(pipeline: Pipeline) -> None:
    mask = np.full((16, 16), 128, np.uint8)
    params = replace(_edit(Task.INPAINT), width=16, height=16)
    (soft,), _ = _draw(pipeline, params, Pictures(np.zeros((16, 16, 3), np.uint8), mask))
    mask[0, 0] = 0
    mask[1:] = 255
    (hard,), _ = _draw(pipeline, params, Pictures(np.zeros((16, 16, 3), np.uint8), mask))
    assert 0 < soft.mean() < 0.75 * hard.mean()


def test_a_variation_starts_nearer_to_noise_the_more_strength_it_has(pipeline: Pipeline) -> None:
    picture = np.full((16, 16, 3), 200, np.uint8)
    distances = []
    for strength in (0.1, 0.5, 1.0):
        params = _edit(Task.VARIATION, steps=10, strength=strength, width=16, height=16)
        (image,), steps = _draw(pipeline, params, Pictures(picture))
        assert steps == total_steps(pipeline.spec, params) == round(10 * strength)
        (base,) = pipeline.prepare(params, pictures=Pictures(picture))
        distances.append(float((base.x - noise(5, 0, INITIAL, (3, 16, 16))).abs().mean()))
        assert image.shape == (16, 16, 3)
    assert distances == sorted(distances, reverse=True)


def test_a_variation_starts_from_the_noised_picture(pipeline: Pipeline) -> None:
    params = _edit(Task.VARIATION, steps=10, strength=0.5, n=2)
    first, second = pipeline.prepare(params, pictures=Pictures(_picture(16)))
    alpha_bar = pipeline.parameterization("base").schedule.alpha_bar[first.timestep]
    signal = torch.from_numpy(_picture(16)).permute(2, 0, 1) / 127.5 - 1
    for trajectory, seed in ((first, 5), (second, 6)):
        drawn = noise(seed, 0, INITIAL, (3, 16, 16))
        expected = alpha_bar**0.5 * signal + (1 - alpha_bar) ** 0.5 * drawn
        torch.testing.assert_close(trajectory.x, expected.float())


def test_upscaling_skips_the_base_stage(pipeline: Pipeline) -> None:
    params, pictures = _edit(Task.UPSCALE, n=2), Pictures(_picture(16))
    first, second = pipeline.prepare(params, pictures=pictures)
    assert [each.stage_index for each in (first, second)] == [1, 1]
    assert [each.seed for each in (first, second)] == [5, 6]
    signal = torch.from_numpy(_picture(16)).permute(2, 0, 1) / 127.5 - 1
    assert first.conditioning.low_res is not None
    torch.testing.assert_close(first.conditioning.low_res, signal)
    images, steps = _draw(pipeline, params, pictures)
    assert steps == total_steps(pipeline.spec, params) == 6
    assert [image.shape for image in images] == [(64, 64, 3)] * 2


def test_frames_lead_from_the_image_of_one_seed_to_that_of_another(pipeline: Pipeline) -> None:
    sampled = {"sampler": SamplerName.DDPM, "steps": 4}
    walk = replace(PLAIN, task=Task.INTERPOLATION, n=4, seed_to=77, **sampled)  # type: ignore[arg-type]
    frames, steps = _draw(pipeline, walk)
    assert steps == total_steps(pipeline.spec, walk)
    (first,), _ = _draw(pipeline, replace(PLAIN, **sampled))  # type: ignore[arg-type]
    (last,), _ = _draw(pipeline, replace(PLAIN, seed=77, **sampled))  # type: ignore[arg-type]
    assert np.array_equal(frames[0], first)
    assert np.array_equal(frames[-1], last)
    assert len({frame.tobytes() for frame in frames}) == 4
    skipped = pipeline.prepare(walk, skip={0, 2})
    again = pipeline.prepare(walk)
    assert torch.equal(skipped[0].x, again[1].x)
    assert torch.equal(skipped[1].x, again[3].x)


def test_clip_and_classifier_lead_the_base_stage_alone(pipeline: Pipeline) -> None:
    plain, _ = _draw(pipeline, PLAIN)
    for change in ({"clip_guidance_scale": 30.0}, {"classifier_guidance_scale": 30.0, "label": 1}):
        guided = replace(PLAIN, **change)  # type: ignore[arg-type]
        images, _ = _draw(pipeline, guided)
        assert not np.array_equal(images[0], plain[0])
        (base,) = pipeline.prepare(guided)
        upsample = pipeline.promote(base, guided)
        assert upsample is not None
        assert not upsample.guide_scales
    assert set(pipeline.guides("base")) == {GuideName.CLIP, GuideName.CLASSIFIER}
    assert not pipeline.guides("upsample")


def test_clip_guidance_makes_the_image_more_like_the_caption(pipeline: Pipeline) -> None:
    params = replace(PLAIN, width=16, height=16, guidance_scale=1.0, n=4, steps=10)
    unguided, _ = _draw(pipeline, params)
    guided, _ = _draw(pipeline, replace(params, clip_guidance_scale=5.0))
    before, after = pipeline.rank(params, unguided), pipeline.rank(params, guided)
    assert np.mean(after) > np.mean(before) + 1


def test_rows_with_and_without_a_label_share_a_guided_step(pipeline: Pipeline) -> None:
    requests = [
        replace(PLAIN, clip_guidance_scale=3.0),
        replace(PLAIN, clip_guidance_scale=3.0, label=1),
        replace(PLAIN, classifier_guidance_scale=3.0, label=1),
        PLAIN,
    ]
    flight = [trajectory for params in requests for trajectory in pipeline.prepare(params)]
    alone = [pipeline.prepare(params)[0] for params in requests]
    parts = (pipeline.denoiser("base"), pipeline.parameterization("base"), pipeline.guides("base"))
    denoise_step(parts[0], flight, parts[1], parts[2])
    for together, single in zip(flight, alone, strict=True):
        denoise_step(parts[0], [single], parts[1], parts[2])
        torch.testing.assert_close(together.x, single.x, rtol=1e-4, atol=1e-4)


def test_ranking_tells_images_apart_and_reads_the_caption(pipeline: Pipeline) -> None:
    images = [_picture(64), np.zeros((64, 64, 3), np.uint8)]
    scores = pipeline.rank(PLAIN, images)
    assert len(set(scores)) == 2
    assert all(-100 <= score <= 100 for score in scores)
    assert pipeline.rank(replace(PLAIN, prompt="a big dog"), images) != scores
    assert pipeline.rank(PLAIN, images[1:]) == pytest.approx(scores[1:], rel=1e-4)


def test_a_class_conditional_pipeline_draws_its_classes(classes: Pipeline) -> None:
    images = [_draw(classes, replace(CLASS, label=label))[0][0] for label in range(CLASSES)]
    assert len({image.tobytes() for image in images}) == CLASSES
    (base,) = classes.prepare(CLASS)
    assert base.unconditional is None
    upsample = classes.promote(base, CLASS)
    assert upsample is not None
    for trajectory in (base, upsample):
        assert trajectory.conditioning.label is not None
        assert int(trajectory.conditioning.label) == 2


def test_a_stage_may_ask_for_a_low_resolution_image_of_8_bits(classes: Pipeline) -> None:
    (base,) = classes.prepare(CLASS)
    base.x = torch.linspace(-1, 1, 3 * 16 * 16).reshape(3, 16, 16)
    upsample = classes.promote(base, CLASS)
    assert upsample is not None
    assert upsample.conditioning.low_res is not None
    levels = (upsample.conditioning.low_res + 1) * 127.5
    torch.testing.assert_close(levels, levels.round(), rtol=0, atol=1e-4)
    assert (upsample.conditioning.low_res - base.x).abs().max() <= 0.5 / 127.5 + 1e-6


def test_a_task_without_its_picture_is_refused(pipeline: Pipeline) -> None:
    with pytest.raises(ConditioningError, match="none came along"):
        pipeline.prepare(_edit(Task.INPAINT))
    black = Pictures(_picture(), np.zeros((64, 64), np.uint8))
    with pytest.raises(ConditioningError, match="keeps every pixel"):
        pipeline.prepare(_edit(Task.INPAINT), pictures=black)
    with pytest.raises(UnsupportedSampling, match="image: inpaint starts from a picture"):
        pipeline.prepare(replace(_edit(Task.INPAINT), image=None))


def test_weights_of_another_kind_are_refused(spec: PipelineSpec, classes: Pipeline) -> None:
    clip, classifier = spec.guides
    swapped = replace(spec, guides=(replace(clip, weights=classifier.weights),))
    with pytest.raises(CheckpointError, match="no clip for guided"):
        Pipeline.load(swapped)
    silent = replace(spec, context=0)
    with pytest.raises(CheckpointError, match="no network for guided"):
        Pipeline.load(silent)
    unweighted = replace(spec, guides=(replace(clip, weights=()),))
    with pytest.raises(CheckpointError, match="names no weights for its clip"):
        Pipeline.load(unweighted)
    stages = (replace(classes.spec.base, weights=()),)
    with pytest.raises(CheckpointError, match="names no weights for base"):
        Pipeline.load(replace(classes.spec, stages=stages))


def test_a_damaged_vocabulary_of_clip_is_named(tmp_path: Path) -> None:
    spec = write_guided_pipeline(tmp_path)
    (tmp_path / "clip_tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"clip_tokenizer\.json is not a tokenizer"):
        Pipeline.load(spec)

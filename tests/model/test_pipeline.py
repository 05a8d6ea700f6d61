from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from model.catalog import PipelineSpec, save_spec, total_steps
from model.errors import CheckpointError, ModelError, UnsupportedSampling
from model.params import SamplerName, SamplingParams, UpsampleParams
from model.pipeline import Pipeline
from model.sampling.noise import INITIAL, noise
from model.sampling.step import denoise_step
from model.sampling.trajectory import Trajectory
from tests.tiny_pipeline import write_tiny_pipeline

PARAMS = SamplingParams(
    prompt="a red apple on the grass", model="tiny", width=256, height=256, seed=5, steps=3
)


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> PipelineSpec:
    return write_tiny_pipeline(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def pipeline(spec: PipelineSpec) -> Pipeline:
    return Pipeline.load(spec, torch.device("cpu"), torch.float32)


def _run(pipeline: Pipeline, trajectory: Trajectory) -> int:
    """Denoises a trajectory to the end of its stage; returns its steps."""
    stage = pipeline.stage(trajectory).name
    steps = 0
    while not trajectory.done:
        denoise_step(pipeline.denoiser(stage), [trajectory], pipeline.parameterization(stage))
        steps += 1
    return steps


@pytest.mark.parametrize("steps", [1, 4, "2,3", "ddim10", "fast27"])
def test_a_request_takes_as_many_steps_as_it_was_told(pipeline: Pipeline, steps: int | str) -> None:
    params = replace(PARAMS, steps=steps, sampler=SamplerName.DDIM)
    (base,) = pipeline.prepare(params)
    taken = _run(pipeline, base)
    upsample = pipeline.promote(base, params)
    assert upsample is not None
    taken += _run(pipeline, upsample)
    assert taken == total_steps(pipeline.spec, params)
    assert pipeline.promote(upsample, params) is None
    assert pipeline.image(upsample).shape == (256, 256, 3)


def test_a_small_image_passes_the_base_alone(pipeline: Pipeline) -> None:
    params = replace(PARAMS, width=64, height=64)
    (base,) = pipeline.prepare(params)
    _run(pipeline, base)
    assert pipeline.promote(base, params) is None
    assert pipeline.image(base).shape == (64, 64, 3)
    assert pipeline.image(base).dtype == np.uint8


def test_image_k_starts_from_seed_plus_k(pipeline: Pipeline) -> None:
    trajectories = pipeline.prepare(replace(PARAMS, n=3), skip={1})
    assert [trajectory.seed for trajectory in trajectories] == [5, 7]
    assert torch.equal(trajectories[1].x, noise(7, 0, INITIAL, (3, 64, 64)))


def test_the_second_stage_sees_the_first_ones_image(pipeline: Pipeline) -> None:
    (base,) = pipeline.prepare(PARAMS)
    base.x = torch.linspace(-1.2, 1.2, 3 * 64 * 64).reshape(3, 64, 64)
    upsample = pipeline.promote(base, PARAMS)
    assert upsample is not None
    low_res = upsample.conditioning.low_res
    assert low_res is not None
    assert torch.equal(low_res, base.x.clamp(-1, 1))


def test_a_difference_in_the_last_bits_stays_one_through_the_cascade(pipeline: Pipeline) -> None:
    pictures = []
    for offset in (0.0, 2e-6):
        (base,) = pipeline.prepare(PARAMS)
        _run(pipeline, base)
        base.x = base.x + offset
        upsample = pipeline.promote(base, PARAMS)
        assert upsample is not None
        _run(pipeline, upsample)
        pictures.append(upsample.x)
    assert (pictures[0] - pictures[1]).abs().max() < 0.1 / 127.5


def test_the_second_stage_starts_from_its_own_noise_times_the_temperature(
    pipeline: Pipeline,
) -> None:
    params = replace(
        PARAMS, upsample=UpsampleParams(steps=7, sampler=SamplerName.DDPM, temperature=0.5)
    )
    (base,) = pipeline.prepare(params)
    upsample = pipeline.promote(base, params)
    assert upsample is not None
    assert torch.equal(upsample.x, noise(5, 1, INITIAL, (3, 256, 256)) * 0.5)
    assert upsample.plan.steps == 7
    assert upsample.unconditional is None


def test_each_stage_reads_the_caption_with_its_own_network(pipeline: Pipeline) -> None:
    (base,) = pipeline.prepare(PARAMS)
    upsample = pipeline.promote(base, PARAMS)
    assert upsample is not None
    first, second = base.conditioning.pooled, upsample.conditioning.pooled
    assert first is not None
    assert second is not None
    assert not torch.equal(first, second)


def test_the_caption_is_encoded_once_for_all_images_and_the_empty_one_once_for_all_jobs(
    pipeline: Pipeline,
) -> None:
    first, second = pipeline.prepare(replace(PARAMS, n=2))
    (other,) = pipeline.prepare(replace(PARAMS, prompt="a big dog"))
    assert first.conditioning is second.conditioning
    assert first.unconditional is not None
    assert first.unconditional is other.unconditional
    assert first.conditioning is not other.conditioning


def test_a_negative_prompt_takes_the_place_of_the_empty_caption(pipeline: Pipeline) -> None:
    (plain,) = pipeline.prepare(PARAMS)
    (negative,) = pipeline.prepare(replace(PARAMS, negative_prompt="a house"))
    (house,) = pipeline.prepare(replace(PARAMS, prompt="a house"))
    assert negative.unconditional is house.conditioning
    assert negative.unconditional is not plain.unconditional


@pytest.mark.parametrize("change", [{"guidance_scale": 1.0}, {"prompt": ""}])
def test_without_guidance_there_is_one_row(
    pipeline: Pipeline, change: dict[str, float | str]
) -> None:
    (trajectory,) = pipeline.prepare(replace(PARAMS, **change))  # type: ignore[arg-type]
    assert trajectory.unconditional is None


def test_many_captions_do_not_pile_up_and_give_the_same_features(pipeline: Pipeline) -> None:
    (before,) = pipeline.prepare(PARAMS)
    for number in range(40):
        pipeline.prepare(replace(PARAMS, prompt=f"a cat {number}"))
    (after,) = pipeline.prepare(PARAMS)
    assert after.conditioning is not before.conditioning
    assert before.conditioning.pooled is not None
    assert after.conditioning.pooled is not None
    assert torch.equal(before.conditioning.pooled, after.conditioning.pooled)


def test_what_the_pipeline_cannot_serve_is_refused(pipeline: Pipeline) -> None:
    for change in ({"width": 100}, {"steps": 0}, {"steps": 10**6}, {"n": 99}):
        with pytest.raises(UnsupportedSampling):
            pipeline.prepare(replace(PARAMS, **change))  # type: ignore[arg-type]


def test_numbers_that_overflowed_are_no_image(pipeline: Pipeline) -> None:
    (base,) = pipeline.prepare(PARAMS)
    base.x[0, 0, 0] = torch.nan
    with pytest.raises(ModelError, match="overflowed"):
        pipeline.image(base)
    with pytest.raises(ModelError, match="overflowed"):
        pipeline.promote(base, PARAMS)


def test_a_preview_is_as_small_as_the_base(pipeline: Pipeline) -> None:
    (base,) = pipeline.prepare(PARAMS)
    upsample = pipeline.promote(base, PARAMS)
    assert upsample is not None
    denoise_step(pipeline.denoiser("upsample"), [upsample], pipeline.parameterization("upsample"))
    assert pipeline.preview(upsample).shape == (64, 64, 3)


def test_a_lower_precision_changes_the_picture_a_little(
    pipeline: Pipeline, spec: PipelineSpec
) -> None:
    half = Pipeline.load(spec, torch.device("cpu"), torch.bfloat16)
    pictures = []
    for each in (pipeline, half):
        (base,) = each.prepare(replace(PARAMS, guidance_scale=1.0))
        _run(each, base)
        pictures.append(each.image(base).astype(int))
    difference = np.abs(pictures[0] - pictures[1])
    assert difference.max() > 0
    assert difference.mean() < 8


def test_a_missing_weight_file_says_which(spec: PipelineSpec, tmp_path: Path) -> None:
    broken = write_tiny_pipeline(tmp_path)
    (tmp_path / spec.base.weights[0]).unlink()
    save_spec(broken)
    with pytest.raises(CheckpointError, match="base"):
        Pipeline.load(broken, torch.device("cpu"), torch.float32)

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from model.errors import ModelError, UnsupportedSampling
from model.params import SamplerName, SamplingParams, Thresholding, UpsampleParams
from model.pipeline import Pipeline
from model.sampling.trajectory import Trajectory
from service.engine.engine import Engine, StepOutput
from service.engine.runner import ModelRunner, pick_device
from service.engine.scheduler import BatchKey
from tests.tiny_pipeline import write_tiny_pipeline

SMALL = SamplingParams(prompt="a red apple", model="tiny", width=16, height=16, steps=4, seed=1)
LARGE = replace(SMALL, width=64, height=64)
MIXED = {
    "a": replace(SMALL, sampler=SamplerName.DDPM, steps=9, guidance_scale=2.0),
    "b": replace(SMALL, sampler=SamplerName.DDIM, steps="ddim5", eta=0.7, seed=2),
    "c": replace(SMALL, prompt="", steps=1, seed=3),
    "d": replace(LARGE, prompt="a big dog on the grass", steps=6, seed=4),
    "e": replace(LARGE, negative_prompt="a cat", guidance_scale=1.5, seed=5),
    "f": replace(SMALL, guidance_scale=1.0, thresholding=Thresholding.DYNAMIC, seed=6, n=2),
    "g": replace(SMALL, guidance_interval=(0.3, 0.7), steps="3,2", seed=7),
    "h": replace(LARGE, upsample=UpsampleParams(sampler=SamplerName.DDPM, steps=5), seed=8),
}


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    spec = write_tiny_pipeline(tmp_path_factory.mktemp("tiny"), base=16, upsampled=64)
    return Pipeline.load(spec, torch.device("cpu"), torch.float32)


@pytest.fixture
def runner(pipeline: Pipeline) -> ModelRunner:
    return ModelRunner({"tiny": pipeline})


@dataclass
class Seen:
    """Everything that the steps of a run brought."""

    outputs: list[StepOutput] = field(default_factory=list)
    images: dict[tuple[str, int], NDArray[np.uint8]] = field(default_factory=dict)
    progress: dict[str, list[int]] = field(default_factory=dict)
    finished: list[str] = field(default_factory=list)
    failed: dict[str, Exception] = field(default_factory=dict)

    def step(self, engine: Engine) -> StepOutput:
        output = engine.step()
        self.outputs.append(output)
        for image in output.images:
            self.images[image.job_id, image.index] = image.pixels
        for job_id, step in output.progress.items():
            self.progress.setdefault(job_id, []).append(step)
        self.finished += output.finished
        self.failed |= dict(output.failed)
        return output


def _drain(engine: Engine) -> Seen:
    seen = Seen()
    while engine.trajectories:
        seen.step(engine)
    return seen


class Sabotaged(ModelRunner):
    """The real runner, but the device fails for rows of `culprits` (seeds) with `error`."""

    def __init__(self, pipeline: Pipeline, culprits: Collection[int], error: Exception) -> None:
        super().__init__({"tiny": pipeline})
        self.culprits = culprits
        self.error = error

    def run(self, key: BatchKey, trajectories: Sequence[Trajectory]) -> int:
        if any(trajectory.seed in self.culprits for trajectory in trajectories):
            raise self.error
        return super().run(key, trajectories)


class Cramped(ModelRunner):
    """The real runner on a device with room for `room` trajectories."""

    def __init__(self, pipeline: Pipeline, room: int) -> None:
        super().__init__({"tiny": pipeline})
        self.room = room

    def run(self, key: BatchKey, trajectories: Sequence[Trajectory]) -> int:
        if len(trajectories) > self.room:
            raise torch.OutOfMemoryError("no room")
        return super().run(key, trajectories)


def test_alone_equals_together(runner: ModelRunner) -> None:
    alone: dict[tuple[str, int], NDArray[np.uint8]] = {}
    for job_id, params in MIXED.items():
        engine = Engine(runner, max_batch=1)
        engine.add(job_id, params)
        alone |= _drain(engine).images
    engine = Engine(runner, max_batch=16)
    for job_id, params in MIXED.items():
        engine.add(job_id, params)
    together = _drain(engine)
    assert max(output.rows for output in together.outputs) >= 8
    assert max(output.trajectories for output in together.outputs) >= 8
    assert together.images.keys() == alone.keys()
    for name, pixels in together.images.items():
        assert np.abs(pixels.astype(int) - alone[name].astype(int)).max() <= 1
    assert len({pixels.tobytes() for pixels in alone.values()}) == len(alone)


def test_jobs_join_and_leave_between_any_two_steps(runner: ModelRunner) -> None:
    engine = Engine(runner, max_batch=8)
    engine.add("first", replace(SMALL, steps=6))
    engine.step()
    engine.step()
    engine.add("second", replace(SMALL, steps=2))
    assert engine.step().trajectories == 2
    output = engine.step()
    assert output.finished == ["second"]
    assert engine.jobs == ("first",)
    assert engine.step().trajectories == 1
    assert engine.step().finished == ["first"]
    assert engine.step().batch_key is None


def test_progress_counts_every_step_of_every_image_and_stage(runner: ModelRunner) -> None:
    engine = Engine(runner, max_batch=8)
    engine.add("job", replace(LARGE, n=2))
    seen = _drain(engine)
    assert seen.progress["job"][-1] == 2 * (4 + 3)
    assert seen.progress["job"] == sorted(seen.progress["job"])
    assert set(seen.images) == {("job", 0), ("job", 1)}
    assert all(pixels.shape == (64, 64, 3) for pixels in seen.images.values())
    assert {output.batch_key for output in seen.outputs} == {
        BatchKey("tiny", "base", 16, 16),
        BatchKey("tiny", "upsample", 64, 64),
    }


def test_images_of_an_earlier_attempt_are_not_made_again(runner: ModelRunner) -> None:
    engine = Engine(runner, max_batch=8)
    engine.add("job", replace(SMALL, n=3), skip=(0, 2))
    seen = _drain(engine)
    assert set(seen.images) == {("job", 1)}
    assert seen.progress["job"] == [9, 10, 11, 12]


def test_a_canceled_job_leaves_in_mid_run_and_the_others_go_on(runner: ModelRunner) -> None:
    engine = Engine(runner, max_batch=8)
    engine.add("goes", replace(SMALL, n=2))
    engine.add("stays", SMALL)
    assert engine.step().trajectories == 3
    assert engine.cancel("goes")
    assert not engine.cancel("goes")
    assert engine.step().trajectories == 1
    seen = _drain(engine)
    assert seen.finished == ["stays"]
    assert set(seen.images) == {("stays", 0)}


def test_more_may_be_resident_than_share_a_step(runner: ModelRunner) -> None:
    engine = Engine(runner, max_batch=2)
    for number in range(5):
        engine.add(f"job{number}", replace(SMALL, steps=2))
    seen = _drain(engine)
    assert {output.trajectories for output in seen.outputs} == {1, 2}
    assert seen.finished == [f"job{number}" for number in range(5)]


def test_previews_are_spread_over_the_whole_image(runner: ModelRunner) -> None:
    engine = Engine(runner, max_batch=8)
    engine.add("job", replace(LARGE, steps=5, previews=3))
    seen = _drain(engine)
    previews = [preview for output in seen.outputs for preview in output.previews]
    assert [preview.step for preview in previews] == [2, 4, 6]
    assert all(preview.pixels.shape == (16, 16, 3) for preview in previews)


def test_what_cannot_be_prepared_fails_alone(runner: ModelRunner) -> None:
    engine = Engine(runner, max_batch=8)
    engine.add("good", SMALL)
    for bad in (replace(SMALL, width=65), replace(SMALL, model="nothing")):
        with pytest.raises(UnsupportedSampling):
            engine.add("bad", bad)
    assert _drain(engine).finished == ["good"]


@pytest.mark.parametrize("error", [RuntimeError("kernel"), ModelError("row")])
def test_a_row_that_fails_takes_only_its_own_job_along(
    pipeline: Pipeline, error: Exception
) -> None:
    engine = Engine(Sabotaged(pipeline, {42}, error), max_batch=8)
    engine.add("innocent", SMALL)
    engine.add("culprit", replace(SMALL, seed=41, n=2))
    engine.add("bystander", replace(SMALL, seed=9))
    seen = _drain(engine)
    assert set(seen.failed) == {"culprit"}
    assert sorted(seen.finished) == ["bystander", "innocent"]
    undisturbed = Engine(ModelRunner({"tiny": pipeline}), max_batch=8)
    undisturbed.add("innocent", SMALL)
    expected = _drain(undisturbed).images["innocent", 0]
    assert np.abs(seen.images["innocent", 0].astype(int) - expected.astype(int)).max() <= 1
    assert "culprit" not in seen.progress or seen.progress["culprit"] == [1]


def test_numbers_that_overflow_fail_their_job_alone(runner: ModelRunner) -> None:
    engine = Engine(runner, max_batch=8)
    engine.add("good", SMALL)
    engine.add("bad", replace(SMALL, seed=5))
    engine.step()
    resident = next(item for item in engine._scheduler if item.job.job_id == "bad")
    resident.trajectory.x[:] = torch.nan
    seen = _drain(engine)
    assert seen.finished == ["good"]
    assert isinstance(seen.failed["bad"], ModelError)


def test_out_of_memory_lowers_the_cap_and_loses_nobody(pipeline: Pipeline) -> None:
    engine = Engine(Cramped(pipeline, room=3), max_batch=8)
    for number in range(6):
        engine.add(f"job{number}", replace(SMALL, steps=2))
    seen = _drain(engine)
    assert not seen.failed
    assert len(seen.finished) == 6
    assert [output.rows for output in seen.outputs].count(0) == 1


def test_an_image_that_does_not_fit_alone_fails_with_a_retryable_error(
    pipeline: Pipeline,
) -> None:
    engine = Engine(Cramped(pipeline, room=0), max_batch=8)
    engine.add("job", SMALL)
    output = engine.step()
    ((job_id, error),) = output.failed
    assert (job_id, error.code, error.retryable) == ("job", "out_of_memory", True)
    assert engine.trajectories == 0


def test_a_lost_device_ends_the_engine(pipeline: Pipeline) -> None:
    engine = Engine(Sabotaged(pipeline, {1}, torch.AcceleratorError("gone")), max_batch=8)
    engine.add("job", SMALL)
    with pytest.raises(torch.AcceleratorError):
        engine.step()
    assert engine.jobs == ("job",)


def test_a_device_that_is_not_there_is_named() -> None:
    with pytest.raises(UnsupportedSampling, match="nonsense"):
        pick_device("nonsense")
    assert pick_device("cpu") == torch.device("cpu")

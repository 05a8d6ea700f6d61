"""Jobs that start from pictures, and jobs that keep the best of what they draw."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from model.catalog import total_steps
from model.errors import ConditioningError, UnsupportedSampling
from model.imaging import Pictures
from model.params import SamplerName, SamplingParams, Task
from model.pipeline import Pipeline
from service.engine.engine import Engine, FinishedImage
from service.engine.runner import ModelRunner
from tests.tiny_guides import write_guided_pipeline

PLAIN = SamplingParams(prompt="a red apple", model="guided", width=16, height=16, steps=3, seed=1)
LARGE = replace(PLAIN, width=64, height=64)
Pixels = NDArray[np.uint8]


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    return Pipeline.load(write_guided_pipeline(tmp_path_factory.mktemp("guided")))


class Brightness:
    """Ranks by how bright an image is."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int]] = []

    def scores(self, text: str, images: Sequence[Pixels]) -> list[float]:
        self.seen.append((text, len(images)))
        return [float(image.mean()) for image in images]


def _pictures(side: int = 64) -> Pictures:
    mask = np.zeros((side, side), np.uint8)
    mask[: side // 2] = 255
    return Pictures(
        np.random.default_rng(1).integers(0, 256, (side, side, 3), np.uint8),
        mask,
    )


def _edit(task: Task, **more: Any) -> SamplingParams:
    mask = "1" * 64 if task is Task.INPAINT else None
    return replace(LARGE, task=task, image="0" * 64, mask=mask, **more)


MIXED = {
    "plain": (LARGE, None),
    "inpaint": (_edit(Task.INPAINT, seed=2), _pictures()),
    "variation": (_edit(Task.VARIATION, steps=6, strength=0.4, seed=3), _pictures()),
    "upscale": (_edit(Task.UPSCALE, seed=4), _pictures(16)),
    "walk": (replace(LARGE, task=Task.INTERPOLATION, n=3, seed_to=99), None),
    "clip": (replace(LARGE, clip_guidance_scale=2.0, seed=5), None),
    "class": (
        replace(LARGE, classifier_guidance_scale=2.0, label=2, sampler=SamplerName.DDPM),
        None,
    ),
}


def _drain(engine: Engine) -> list[FinishedImage]:
    images: list[FinishedImage] = []
    while engine.trajectories:
        output = engine.step()
        assert not output.failed
        images += output.images
    return images


def test_alone_equals_together_for_every_task(pipeline: Pipeline) -> None:
    runner = ModelRunner({"guided": pipeline})
    alone: dict[tuple[str, int], Pixels] = {}
    for job_id, (params, pictures) in MIXED.items():
        engine = Engine(runner, max_batch=1)
        engine.add(job_id, params, pictures=pictures)
        alone |= {(job_id, image.index): image.pixels for image in _drain(engine)}
    engine = Engine(runner, max_batch=16)
    for job_id, (params, pictures) in MIXED.items():
        engine.add(job_id, params, pictures=pictures)
    first = engine.step()
    assert first.trajectories >= 8
    together = {(image.job_id, image.index): image.pixels for image in _drain(engine)}
    assert together.keys() == alone.keys()
    for name, pixels in together.items():
        assert np.abs(pixels.astype(int) - alone[name].astype(int)).max() <= 1


def test_progress_ends_at_the_steps_that_were_announced(pipeline: Pipeline) -> None:
    for params, pictures in MIXED.values():
        engine = Engine(ModelRunner({"guided": pipeline}), max_batch=16)
        engine.add("job", params, pictures=pictures)
        last = 0
        while engine.trajectories:
            last = engine.step().progress["job"]
        assert last == total_steps(pipeline.spec, params)


def test_the_best_of_all_drawn_are_kept_the_best_first(pipeline: Pipeline) -> None:
    engine = Engine(ModelRunner({"guided": pipeline}), max_batch=3)
    engine.add("all", replace(PLAIN, n=5))
    scores = {image.seed: pipeline.rank(PLAIN, [image.pixels])[0] for image in _drain(engine)}
    engine.add("best", replace(PLAIN, n=2, best_of=5))
    best = _drain(engine)
    assert [image.index for image in best] == [0, 1]
    assert [image.seed for image in best] == sorted(scores, key=lambda seed: -scores[seed])[:2]


def test_images_to_choose_from_are_held_until_the_last(pipeline: Pipeline) -> None:
    engine = Engine(ModelRunner({"guided": pipeline}), max_batch=1)
    engine.add("job", replace(PLAIN, n=1, best_of=3))
    outputs = []
    while engine.trajectories:
        outputs.append(engine.step())
    assert len(outputs) == 9
    assert [len(output.images) for output in outputs] == [0] * 8 + [1]
    assert outputs[-1].finished == ["job"]


def test_a_second_attempt_draws_all_again_and_delivers_what_was_missing(
    pipeline: Pipeline,
) -> None:
    params = replace(PLAIN, n=3, best_of=4)
    engine = Engine(ModelRunner({"guided": pipeline}), max_batch=8)
    engine.add("first", params)
    first = _drain(engine)
    engine.add("second", params, skip=(0, 2))
    (missing,) = _drain(engine)
    assert (missing.index, missing.seed) == (1, first[1].seed)
    assert np.array_equal(missing.pixels, first[1].pixels)


def test_a_ranker_beside_the_pipeline_takes_precedence(pipeline: Pipeline) -> None:
    ranker = Brightness()
    spec = replace(pipeline.spec, guides=())
    engine = Engine(ModelRunner({"guided": Pipeline.load(spec, ranker=ranker)}), max_batch=8)
    engine.add("job", replace(PLAIN, n=3, best_of=3))
    images = _drain(engine)
    brightness = [float(image.pixels.mean()) for image in images]
    assert brightness == sorted(brightness, reverse=True)
    assert ranker.seen == [("a red apple", 3)]
    without = Engine(ModelRunner({"guided": Pipeline.load(spec)}), max_batch=8)
    with pytest.raises(UnsupportedSampling, match="no CLIP to rank"):
        without.add("job", replace(PLAIN, best_of=3))


def test_a_ranker_that_fails_fails_its_job_alone(pipeline: Pipeline) -> None:
    class Broken:
        def scores(self, text: str, images: Sequence[Pixels]) -> list[float]:
            raise RuntimeError("no such kernel")

    broken = Pipeline.load(pipeline.spec, ranker=Broken())
    engine = Engine(ModelRunner({"guided": broken}), max_batch=8)
    engine.add("ranked", replace(PLAIN, best_of=2))
    engine.add("plain", PLAIN)
    failed, finished = [], []
    while engine.trajectories:
        output = engine.step()
        failed += [job_id for job_id, _ in output.failed]
        finished += output.finished
    assert (failed, finished) == (["ranked"], ["plain"])


def test_a_picture_that_cannot_be_used_takes_nothing_in(pipeline: Pipeline) -> None:
    engine = Engine(ModelRunner({"guided": pipeline}), max_batch=8)
    with pytest.raises(ConditioningError, match="can't be read"):
        engine.add("job", _edit(Task.VARIATION), pictures=Pictures(b"nothing"))
    assert engine.jobs == ()

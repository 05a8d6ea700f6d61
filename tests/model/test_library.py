"""The library's face: what it draws is what the service draws."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from model.catalog import PipelineSpec, with_defaults
from model.conditioning import stack
from model.diffusion.spacing import space_timesteps
from model.errors import ConditioningError, UnsupportedSampling
from model.params import SamplerName, Task, Thresholding, UpsampleParams
from model.pipeline import Pipeline, Progress
from model.sampling.noise import INITIAL, noise
from service.engine.engine import Engine
from service.engine.runner import ModelRunner
from tests.tiny_guides import write_guided_pipeline

PROMPT = "a red apple on the grass"


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> PipelineSpec:
    return write_guided_pipeline(tmp_path_factory.mktemp("guided"))


@pytest.fixture(scope="module")
def pipeline(spec: PipelineSpec) -> Pipeline:
    return Pipeline.load(spec.folder)


def _served(pipeline: Pipeline, **asked: Any) -> list[bytes]:
    """The images of a request as the service's engine makes them."""
    engine = Engine(ModelRunner({"guided": pipeline}), max_batch=8)
    engine.add("job", with_defaults(pipeline.spec, {"prompt": PROMPT, **asked}))
    images: dict[int, bytes] = {}
    while engine.trajectories:
        images |= {image.index: image.pixels.tobytes() for image in engine.step().images}
    return [images[index] for index in sorted(images)]


def _bytes(images: list[Image.Image]) -> list[bytes]:
    assert all(image.mode == "RGB" for image in images)
    return [image.tobytes() for image in images]


def _distance(one: Image.Image, other: Image.Image) -> float:
    return float(np.abs(np.asarray(one, float) - np.asarray(other, float)).mean())


def _picture(side: int = 64) -> Image.Image:
    pixels = np.random.default_rng(1).integers(0, 256, (side, side, 3), np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"n": 3, "seed": 4, "steps": 3, "sampler": "ddpm", "guidance_scale": 1.5},
        {"width": 16, "negative_prompt": "a dog", "thresholding": "dynamic"},
        {"upsample": UpsampleParams(steps=2, temperature=0.5), "clip_guidance_scale": 2.0},
        {"n": 2, "best_of": 9, "steps": 1, "width": 16},
    ],
)
def test_the_library_draws_what_the_service_draws(
    pipeline: Pipeline, asked: dict[str, Any]
) -> None:
    kinds = {"sampler": SamplerName, "thresholding": Thresholding}
    typed = {name: kinds[name](asked[name]) for name in kinds if name in asked}
    assert _bytes(pipeline.sample(PROMPT, **asked)) == _served(pipeline, **asked | typed)


def test_a_pipeline_is_loaded_by_name_folder_or_description(spec: PipelineSpec) -> None:
    assert Pipeline.load(str(spec.folder)).spec.name == "guided"
    assert Pipeline.load(spec).spec is spec
    with pytest.raises(UnsupportedSampling, match=r"no pipeline 'landscapes'.* scenes"):
        Pipeline.load("landscapes")


def test_progress_counts_to_the_end_and_shows_what_there_is(pipeline: Pipeline) -> None:
    seen: list[Progress] = []
    sizes: set[tuple[int, int]] = set()

    def watch(progress: Progress) -> None:
        seen.append(progress)
        sizes.update(image.size for image in progress.previews())

    pipeline.sample(PROMPT, n=2, steps=4, on_step=watch)
    assert [each.step for each in seen] == [2, 4, 6, 8, 10, 12, 14]
    assert {each.total_steps for each in seen} == {14}
    assert [each.stage for each in seen] == ["base"] * 4 + ["upsample"] * 3
    assert sizes == {(16, 16)}


def test_what_a_mask_keeps_comes_back(pipeline: Pipeline, tmp_path: Path) -> None:
    picture, mask = _picture(), Image.new("L", (64, 64), "black")
    mask.paste("white", (0, 0, 64, 32))
    picture.save(tmp_path / "picture.png")
    for image, painted in ((picture, mask), (tmp_path / "picture.png", np.asarray(mask))):
        (edited,) = pipeline.edit(PROMPT, image, painted, steps=3)
        assert edited.size == (64, 64)
        kept = (0, 32, 64, 64)
        assert edited.crop(kept).tobytes() == picture.crop(kept).tobytes()
        assert edited.tobytes() != picture.tobytes()
    transparent = picture.convert("RGBA")
    transparent.putalpha(Image.eval(mask, lambda level: 255 - level))
    (again,) = pipeline.edit(PROMPT, transparent, steps=3)
    assert again.crop((0, 36, 64, 64)).tobytes() == picture.crop((0, 36, 64, 64)).tobytes()


def test_a_strength_makes_variations(pipeline: Pipeline) -> None:
    steps: list[int] = []
    images = pipeline.edit(
        PROMPT,
        _picture(),
        strength=0.5,
        n=2,
        steps=4,
        on_step=lambda progress: steps.append(progress.step),
    )
    assert len(set(_bytes(images))) == 2
    assert steps == [2, 4, 6, 8, 10]
    with pytest.raises(ConditioningError, match="a mask or a strength"):
        pipeline.edit(PROMPT, _picture(), _picture(), strength=0.5)


def test_a_small_picture_is_enlarged(pipeline: Pipeline) -> None:
    buffer = io.BytesIO()
    _picture(16).save(buffer, "PNG")
    (large,) = pipeline.upscale(buffer.getvalue(), PROMPT)
    assert large.size == (64, 64)


def test_frames_lead_from_seed_to_seed(pipeline: Pipeline) -> None:
    first, between, last = pipeline.interpolate(PROMPT, 3, 8, 3, steps=2)
    for frame, seed in ((first, 3), (last, 8)):
        (end,) = pipeline.sample(PROMPT, seed=seed, steps=2)
        assert _distance(frame, end) < 0.1  # other batches, other last bits
        assert _distance(between, end) > 5
    walk = {"task": Task.INTERPOLATION, "seed": 3, "seed_to": 8, "n": 3, "steps": 2}
    assert _bytes([first, between, last]) == _served(pipeline, **walk)


def test_a_picture_is_encoded_as_the_paper_says(pipeline: Pipeline) -> None:
    encoded = pipeline.encode(_picture(16), PROMPT, steps=5)
    network, process = pipeline.denoiser("base"), pipeline.parameterization("base").schedule
    (trajectory,) = pipeline.prepare(
        with_defaults(pipeline.spec, {"prompt": PROMPT, "width": 16, "guidance_scale": 1.0})
    )
    grid = space_timesteps(5, process.timesteps)
    alpha_bars = [*process.alpha_bar[list(grid)], 0.0]
    x = torch.from_numpy(np.array(_picture(16))).permute(2, 0, 1)[None] / 127.5 - 1
    for t, a, a_next in zip(grid, alpha_bars, alpha_bars[1:], strict=False):
        with torch.no_grad():
            x_0 = network(x, torch.tensor([t]), stack([trajectory.conditioning])).clamp(-1, 1)
        eps = (x - a**0.5 * x_0) / (1 - a) ** 0.5
        x = (a_next**0.5 * x_0 + (1 - a_next) ** 0.5 * eps).float()
    torch.testing.assert_close(encoded, x[0], rtol=1e-3, atol=1e-3)


def test_a_run_may_start_from_given_noise(pipeline: Pipeline) -> None:
    given = noise(9, 0, INITIAL, (3, 16, 16))
    drawn = pipeline.sample(PROMPT, width=16, steps=3, sampler="ddim", start=given)
    assert _bytes(drawn) == _served(pipeline, width=16, steps=3, sampler=SamplerName.DDIM, seed=9)


def test_what_cannot_be_served_is_refused(pipeline: Pipeline) -> None:
    with pytest.raises(UnsupportedSampling, match=r"sampler: one of ddpm, .*, not 'plms'"):
        pipeline.sample(PROMPT, sampler="plms")
    with pytest.raises(UnsupportedSampling, match="width: guided makes 16x16, 64x64"):
        pipeline.sample(PROMPT, width=50)
    with pytest.raises(ConditioningError, match=r"nowhere\.png can't be read: No such file"):
        pipeline.upscale("nowhere.png")

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from model.catalog import GuideSpec, PipelineSpec, total_steps, with_defaults
from model.params import SamplerName, SamplingParams, Task, UpsampleParams
from tests.service.tiny_spec import tiny_spec

DIGEST = "0" * 64
PLAIN = SamplingParams(prompt="a red apple", model="tiny")
INPAINT = replace(PLAIN, task=Task.INPAINT, image=DIGEST, mask=DIGEST)
VARIATION = replace(PLAIN, task=Task.VARIATION, image=DIGEST)
UPSCALE = replace(PLAIN, task=Task.UPSCALE, image=DIGEST)
WALK = replace(PLAIN, task=Task.INTERPOLATION, n=4, seed_to=9)
CLASS = replace(PLAIN, prompt="", label=3, guidance_scale=1.0)


@pytest.fixture
def spec(tmp_path: Path) -> PipelineSpec:
    return tiny_spec(tmp_path)


@pytest.fixture
def guided(spec: PipelineSpec) -> PipelineSpec:
    guides = (GuideSpec(kind="clip", weights=()), GuideSpec(kind="classifier", weights=()))
    return replace(spec, classes=5, guides=guides)


@pytest.fixture
def classes(spec: PipelineSpec) -> PipelineSpec:
    return replace(spec, context=0, classes=5, guidance_scale=1.0)


def _wrong(spec: PipelineSpec, params: SamplingParams, *, ranking: bool = False) -> dict[str, str]:
    return {bad.field: bad.message for bad in spec.violations(params, ranking=ranking)}


@pytest.mark.parametrize("params", [PLAIN, INPAINT, VARIATION, UPSCALE, WALK])
def test_every_task_can_be_asked_for(spec: PipelineSpec, params: SamplingParams) -> None:
    assert _wrong(spec, params) == {}
    assert _wrong(spec, replace(INPAINT, mask=None)) == {}, "a picture may mask itself"


@pytest.mark.parametrize(
    ("params", "change", "field", "sentence"),
    [
        (PLAIN, {"image": DIGEST}, "image", "inpaint, variation, upscale"),
        (PLAIN, {"mask": DIGEST}, "mask", "ask for inpaint"),
        (PLAIN, {"seed_to": 3}, "seed_to", "ask for interpolation"),
        (INPAINT, {"image": None}, "image", "give one"),
        (VARIATION, {"mask": DIGEST}, "mask", "variation takes no mask"),
        (VARIATION, {"strength": 0.0}, "strength", r"\(0, 1\]"),
        (VARIATION, {"strength": 1.1}, "strength", r"\(0, 1\]"),
        (VARIATION, {"strength": float("nan")}, "strength", r"\(0, 1\]"),
        (UPSCALE, {"width": 64, "height": 64}, "width", "more of 64 px"),
        (WALK, {"seed_to": None}, "seed_to", "goes from seed to seed_to"),
        (WALK, {"seed_to": 2**63}, "seed_to", "between 0"),
        (WALK, {"n": 1}, "n", "at least 2"),
        (PLAIN, {"label": 3}, "label", "say it in the prompt"),
        (PLAIN, {"clip_guidance_scale": 2.0}, "clip_guidance_scale", "has no noised CLIP"),
        (PLAIN, {"classifier_guidance_scale": 2.0}, "classifier_guidance_scale", "no noised cl"),
        (PLAIN, {"best_of": 4}, "best_of", "GLIDE_MODELS__CLIP"),
    ],
)
def test_what_a_task_does_not_take_is_named_with_a_way_out(
    spec: PipelineSpec,
    params: SamplingParams,
    change: Mapping[str, Any],
    field: str,
    sentence: str,
) -> None:
    (found,) = spec.violations(replace(params, **change))
    assert found.field == field
    assert re.search(sentence, found.message)


def test_upscaling_needs_a_second_stage(spec: PipelineSpec) -> None:
    alone = replace(spec, stages=spec.stages[:1])
    wrong = _wrong(alone, replace(UPSCALE, width=64, height=64))
    assert wrong == {"task": "tiny has no second stage, so it can't upscale"}


@pytest.mark.parametrize(
    ("change", "field", "sentence"),
    [
        ({"prompt": "a dog"}, "prompt", "reads no captions: leave it empty and give a label"),
        ({"negative_prompt": "a dog"}, "negative_prompt", "reads no captions"),
        ({"label": None}, "label", "from 0 to 4"),
        ({"label": 5}, "label", "from 0 to 4"),
        ({"label": -1}, "label", "from 0 to 4"),
        ({"guidance_scale": 3.0}, "guidance_scale", "classifier_guidance_scale"),
    ],
)
def test_a_class_conditional_pipeline_takes_a_label_and_no_caption(
    classes: PipelineSpec, change: Mapping[str, Any], field: str, sentence: str
) -> None:
    assert _wrong(classes, CLASS) == {}
    wrong = _wrong(classes, replace(CLASS, **change))
    assert wrong.keys() == {field}
    assert sentence in wrong[field]


def test_an_unconditional_pipeline_needs_nothing(classes: PipelineSpec) -> None:
    unconditional = replace(classes, classes=0)
    assert _wrong(unconditional, replace(CLASS, label=None)) == {}
    assert (
        "leave it empty" in _wrong(unconditional, replace(CLASS, label=None, prompt="a"))["prompt"]
    )


def test_guides_need_what_they_compare_the_image_with(guided: PipelineSpec) -> None:
    clip = replace(PLAIN, clip_guidance_scale=3.0)
    classifier = replace(PLAIN, classifier_guidance_scale=1.0, label=4)
    assert _wrong(guided, clip) == {}
    assert _wrong(guided, classifier) == {}
    assert "prompt" in _wrong(guided, replace(clip, prompt=""))["clip_guidance_scale"]
    unlabelled = _wrong(guided, replace(classifier, label=None))
    assert "label" in unlabelled["classifier_guidance_scale"]
    assert "from 0 to 4" in _wrong(guided, replace(classifier, label=5))["label"]
    assert _wrong(guided, replace(clip, clip_guidance_scale=-1.0)).keys() == {"clip_guidance_scale"}
    upscaled = replace(UPSCALE, clip_guidance_scale=1.0)
    assert "upscale skips" in _wrong(guided, upscaled)["clip_guidance_scale"]


def test_the_best_are_chosen_where_something_can_rank(
    spec: PipelineSpec, guided: PipelineSpec
) -> None:
    chosen = replace(PLAIN, n=2, best_of=6)
    assert _wrong(guided, chosen) == {}
    assert _wrong(spec, chosen, ranking=True) == {}
    assert "between n, which is 2, and 32" in _wrong(guided, replace(chosen, best_of=1))["best_of"]
    assert _wrong(guided, replace(chosen, best_of=33)).keys() == {"best_of"}
    assert "prompt" in _wrong(guided, replace(chosen, prompt=""))["best_of"]
    assert _wrong(guided, replace(chosen, previews=1)).keys() == {"previews"}
    assert "all its frames" in _wrong(guided, replace(WALK, best_of=8))["best_of"]


def test_a_request_takes_the_steps_of_the_stages_that_its_task_passes(spec: PipelineSpec) -> None:
    steps = {
        "plain": total_steps(spec, replace(PLAIN, steps=20)),
        "varied": total_steps(spec, replace(VARIATION, steps=20, strength=0.55)),
        "upscaled": total_steps(spec, UPSCALE),
        "chosen": total_steps(spec, replace(PLAIN, steps=20, n=2, best_of=5)),
    }
    assert steps == {"plain": 47, "varied": 11 + 27, "upscaled": 27, "chosen": 5 * 47}


def test_what_a_client_leaves_out_is_the_pipeline_s_default(spec: PipelineSpec) -> None:
    params = with_defaults(spec, {"prompt": "a cat", "steps": None, "seed": 3})
    assert (params.model, params.width, params.height, params.seed) == ("tiny", 256, 256, 3)
    assert (params.steps, params.sampler) == (12, SamplerName.DPMPP_2M)
    assert (params.guidance_scale, params.guidance_interval) == (2.5, (0.1, 0.9))
    assert params.upsample == UpsampleParams(
        steps="fast27", sampler=SamplerName.DDIM, temperature=0.9
    )
    small = with_defaults(spec, {"height": 64, "upsample": UpsampleParams(steps=4)})
    assert (small.width, small.upsample) == (64, UpsampleParams(steps=4))

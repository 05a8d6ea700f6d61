from dataclasses import replace

import pytest

from model.params import SamplerName, SamplingParams, Task
from service.imagefile.a1111 import SAMPLERS, generation_text, parse_generation, request_of
from service.imagefile.provenance import provenance
from tests.service.imagefile.making import MAKER, MODEL_SHA256, PARAMS, drawn

TRAPS = (
    "Negative prompt: a trap",
    "a cat\nNegative prompt: a trap\nSteps: 5, Sampler: Euler a, CFG scale: 7, Seed: 1",
    "Steps: 5, Sampler: Euler a, CFG scale: 7",
    "negative prompt: in small letters",
    "already Negative prompt\\: with a stroke",
    'commas, colons: and "quotes"',
)


def text_of(params: SamplingParams) -> str:
    return generation_text(provenance(drawn(params), MAKER, MODEL_SHA256))


def test_the_text_is_what_galleries_expect() -> None:
    params = replace(PARAMS, prompt="a red apple,\non the grass", steps=25, guidance_scale=7.5)
    assert text_of(params) == (
        "a red apple,\non the grass\n"
        "Negative prompt: blur\n"
        "Steps: 25, Sampler: DPM++ 2M, CFG scale: 7.5, Seed: 42, Size: 16x8, "
        "Model hash: ababababab, Model: scenes, Version: glide 0.1.0"
    )


def test_a_request_comes_back_from_its_text() -> None:
    params = replace(PARAMS, prompt="a cat", negative_prompt="a\nb", steps="25,25", eta=0.5)
    assert request_of(parse_generation(text_of(params))) == {
        "prompt": "a cat",
        "negative_prompt": "a\nb",
        "seed": 42,
        "steps": "25,25",
        "sampler": "dpmpp_2m",
        "guidance_scale": 3.0,
        "width": 16,
        "height": 8,
    }


@pytest.mark.parametrize("caption", TRAPS)
def test_a_caption_cannot_pass_for_the_format_s_own_marks(caption: str) -> None:
    params = replace(PARAMS, prompt=caption, negative_prompt=caption)
    text = text_of(params)
    assert text.count("Negative prompt:") == 1
    assert text.count("Steps:") == 1
    found = parse_generation(text)
    assert (found.prompt, found.negative_prompt) == (caption, caption)
    assert found.settings["Steps"] == "20"


@pytest.mark.parametrize("name", ["a, b", "a: b", 'say "a"', "two\nlines"])
def test_values_that_look_like_several_are_quoted(name: str) -> None:
    found = parse_generation(text_of(replace(PARAMS, model=name)))
    assert found.settings["Model"] == name
    assert found.settings["Version"] == "glide 0.1.0"


def test_a_variation_names_its_strength() -> None:
    text = text_of(replace(PARAMS, task=Task.VARIATION, strength=0.4, image="ab"))
    assert parse_generation(text).settings["Denoising strength"] == "0.4"


def test_every_sampler_has_a_name_of_its_own() -> None:
    assert set(SAMPLERS) == set(SamplerName)
    assert len(set(SAMPLERS.values())) == len(SAMPLERS)


def test_text_of_another_program_is_read_as_far_as_it_goes() -> None:
    text = (
        "portrait of a fox, (detailed:1.2)\nNegative prompt: lowres,\nbad hands\n"
        "Steps: 30, Sampler: Euler a, CFG scale: 7, Seed: 965400086, Size: 512x768, "
        'Model hash: 1a189f0be6, Model: someModel_v1, Lora hashes: "a: 12, b: 34", Version: v1.6.0'
    )
    found = parse_generation(text)
    assert found.settings["Lora hashes"] == "a: 12, b: 34"
    assert request_of(found) == {
        "prompt": "portrait of a fox, (detailed:1.2)",
        "negative_prompt": "lowres,\nbad hands",
        "seed": 965400086,
        "steps": 30,
        "guidance_scale": 7.0,
        "width": 512,
        "height": 768,
    }


@pytest.mark.parametrize(
    "text",
    [
        "",
        "only a caption: with a colon",
        "a\nSteps: x, Seed: -1, Size: axb, CFG scale: nan, Sampler: none, Respacing: 1;2",
        "a\nSteps: 1, Sampler: " + "word " * 100_000,
        " " * 200_000 + "a:" * 200_000,
        'a: "\\", ' * 2_000,
        "a" * 19_999,
        "a " * 9_999,
        "a:" + " " * 19_997,
        'a:"\\' * 4_999,
    ],
)
def test_any_text_is_read_without_error(text: str) -> None:
    assert set(request_of(parse_generation(text))) <= {"prompt", "steps"}

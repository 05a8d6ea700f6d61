from dataclasses import replace
from typing import Any

import pytest

from model.catalog import PipelineSpec
from model.params import MAX_PROMPT_CHARACTERS, MAX_SEED, SamplerName, SamplingParams, Task
from model.text.tokenizer import CaptionTokenizer
from service.api.acceptance import accept, default_model
from service.api.pictures import NO_INPUTS, Inputs
from service.api.schemas import JobCreate
from service.errors import InvalidRequest
from service.jobs import Job, JobStatus
from tests.service.some_pictures import mask, picture

PICTURE, MASK = picture(), mask()


def accepted(
    spec: PipelineSpec, tokenizer: CaptionTokenizer, inputs: Inputs = NO_INPUTS, **members: Any
) -> Job:
    return accept(
        JobCreate.model_validate({"prompt": "a red apple", **members}),
        catalog={spec.name: spec},
        tokenizers={spec.name: tokenizer},
        job_id="job_1",
        tenant="default",
        seed=77,
        inputs=inputs,
    )


def refused(spec: PipelineSpec, tokenizer: CaptionTokenizer, **members: Any) -> dict[str, str]:
    with pytest.raises(InvalidRequest) as raised:
        accepted(spec, tokenizer, **members)
    return {error.pointer: error.detail for error in raised.value.errors}


def test_defaults_are_the_pipelines(spec: PipelineSpec, tokenizer: CaptionTokenizer) -> None:
    job = accepted(spec, tokenizer)
    params = job.params
    assert (params.model, params.width, params.height, params.n) == ("tiny", 256, 256, 1)
    assert (params.steps, params.sampler) == (12, SamplerName.DPMPP_2M)
    assert (params.guidance_scale, params.guidance_interval) == (2.5, (0.1, 0.9))
    upsample = params.upsample
    assert (upsample.steps, upsample.sampler) == ("fast27", SamplerName.DDIM)
    assert upsample.temperature == 0.9
    assert params.seed == 77
    assert (job.status, job.output_format) == (JobStatus.QUEUED, "png")
    assert job.total_steps == 12 + 27


def test_what_is_asked_replaces_the_defaults(
    spec: PipelineSpec, tokenizer: CaptionTokenizer
) -> None:
    job = accepted(
        spec,
        tokenizer,
        n=3,
        seed=5,
        steps="25,25",
        sampler="ddpm",
        guidance_scale=1,
        upsample={"steps": 4, "temperature": 1.0},
        output_format="webp",
        metadata={"row": "7"},
    )
    assert job.params.seed == 5
    assert job.params.sampler is SamplerName.DDPM
    assert job.params.upsample.sampler is SamplerName.DDIM
    assert job.params.upsample.steps == 4
    assert job.total_steps == 3 * (50 + 4)
    assert (job.output_format, job.metadata) == ("webp", {"row": "7"})


@pytest.mark.parametrize(
    ("members", "inputs", "task"),
    [
        ({}, Inputs(), Task.GENERATE),
        ({"seed_to": 9, "n": 2}, Inputs(), Task.INTERPOLATION),
        ({}, Inputs(PICTURE), Task.VARIATION),
        ({}, Inputs(PICTURE, MASK), Task.INPAINT),
        ({"task": "upscale"}, Inputs(PICTURE), Task.UPSCALE),
    ],
)
def test_the_task_is_seen_from_what_is_given(
    spec: PipelineSpec,
    tokenizer: CaptionTokenizer,
    members: dict[str, Any],
    inputs: Inputs,
    task: Task,
) -> None:
    params = accepted(spec, tokenizer, inputs, **members).params
    assert params.task is task
    assert params.image == inputs.image_digest
    assert params.mask == inputs.mask_digest


def test_a_pipeline_with_classes_and_no_captions_needs_no_tokenizer(spec: PipelineSpec) -> None:
    classes = replace(spec, context=0, classes=10, guidance_scale=1.0)
    job = accept(
        JobCreate(prompt="", label=3),
        catalog={"tiny": classes},
        tokenizers={},
        job_id="job_1",
        tenant="default",
        seed=1,
    )
    assert job.params.label == 3
    with pytest.raises(InvalidRequest, match="from 0 to 9"):
        accept(
            JobCreate(prompt="", label=10),
            catalog={"tiny": classes},
            tokenizers={},
            job_id="job_1",
            tenant="default",
            seed=1,
        )


def test_null_means_the_default(spec: PipelineSpec, tokenizer: CaptionTokenizer) -> None:
    nulls: dict[str, Any] = dict.fromkeys(set(JobCreate.model_fields) - {"prompt"})
    assert accepted(spec, tokenizer, **nulls) == accepted(spec, tokenizer)


def test_the_base_alone_leaves_the_second_stage_out(
    spec: PipelineSpec, tokenizer: CaptionTokenizer
) -> None:
    job = accepted(spec, tokenizer, width=64)
    assert (job.params.width, job.params.height) == (64, 64)
    assert job.params.upsample.steps is None
    assert job.total_steps == 12
    assert accepted(spec, tokenizer, height=64).params == job.params


def test_a_long_caption_is_accepted_with_a_warning(
    spec: PipelineSpec, tokenizer: CaptionTokenizer
) -> None:
    job = accepted(spec, tokenizer, prompt="a red apple on the grass a", negative_prompt="a " * 9)
    assert len(job.warnings) == 2
    assert "the prompt has more than 6 tokens" in job.warnings[0]
    assert "negative_prompt" in job.warnings[1]
    assert accepted(spec, tokenizer, prompt="").warnings == ()


def test_unknown_words_are_named_once_and_not_without_end(
    spec: PipelineSpec, tokenizer: CaptionTokenizer
) -> None:
    job = accepted(spec, tokenizer, prompt="a zebra", negative_prompt="zebra quagga")
    assert job.unknown_words == ("zebra", "quagga")
    many = " ".join(f"w{number}" for number in range(400))
    assert len(accepted(spec, tokenizer, prompt=many).unknown_words) == 50


@pytest.mark.parametrize(
    ("members", "pointer"),
    [
        ({"prompt": "x" * (MAX_PROMPT_CHARACTERS + 1)}, "/prompt"),
        ({"model": "other"}, "/model"),
        ({"width": 100, "height": 100}, "/width"),
        ({"height": 64, "width": 256}, "/height"),
        ({"n": 0}, "/n"),
        ({"n": 9}, "/n"),
        ({"n": 10**400}, "/n"),
        ({"seed": -1}, "/seed"),
        ({"seed": MAX_SEED + 1}, "/seed"),
        ({"steps": 0}, "/steps"),
        ({"steps": 10**6}, "/steps"),
        ({"steps": "fast28"}, "/steps"),
        ({"steps": "9" * 5000}, "/steps"),
        ({"steps": "١٢"}, "/steps"),
        ({"steps": "12\n"}, "/steps"),
        ({"steps": "ddim333"}, "/steps"),
        ({"steps": "600,1"}, "/steps"),
        ({"guidance_scale": -1}, "/guidance_scale"),
        ({"guidance_scale": 1e300}, "/guidance_scale"),
        ({"guidance_interval": [0.9, 0.1]}, "/guidance_interval"),
        ({"eta": 1.1}, "/eta"),
        ({"dynamic_percentile": 0}, "/dynamic_percentile"),
        ({"previews": 9}, "/previews"),
        ({"upsample": {"steps": 0}}, "/upsample/steps"),
        ({"upsample": {"steps": "600,1"}}, "/upsample/steps"),
        ({"upsample": {"temperature": 3}}, "/upsample/temperature"),
    ],
)
def test_what_the_pipeline_can_not_serve_is_refused_by_name(
    spec: PipelineSpec, tokenizer: CaptionTokenizer, members: dict[str, Any], pointer: str
) -> None:
    assert set(refused(spec, tokenizer, **members)) == {pointer}


def test_every_bad_field_is_named_at_once(spec: PipelineSpec, tokenizer: CaptionTokenizer) -> None:
    assert set(refused(spec, tokenizer, n=0, eta=2, steps=0)) == {"/n", "/eta", "/steps"}


def test_an_unknown_model_is_answered_with_the_known_ones(
    spec: PipelineSpec, tokenizer: CaptionTokenizer
) -> None:
    assert "there are: tiny" in refused(spec, tokenizer, model="other")["/model"]


def test_the_shipped_model_is_the_default_where_it_is(spec: PipelineSpec) -> None:
    assert default_model({"tiny": spec}) == "tiny"
    shipped = SamplingParams().model
    assert default_model({"tiny": spec, shipped: spec}) == shipped

"""From a client's `JobCreate` to the `Job` that is queued: defaults, limits, remarks.

Every front door of the API accepts jobs through here. Knows neither HTTP nor Redis.
"""

from collections.abc import Mapping
from typing import TypeVar

from model.catalog import PipelineSpec, StageSpec, Violation, total_steps
from model.diffusion.spacing import space_timesteps
from model.errors import UnsupportedSampling
from model.params import SamplingParams, UpsampleParams
from model.text.tokenizer import CaptionTokenizer
from service.api.schemas import JobCreate, OutputFormat, UpsampleCreate
from service.errors import FieldError, InvalidRequest
from service.jobs import Job, JobStatus

_DEFAULT_FORMAT: OutputFormat = "png"
_MAX_UNKNOWN_WORDS = 50  # a record stays small, whatever a caption holds

T = TypeVar("T")


def default_model(catalog: Mapping[str, PipelineSpec]) -> str:
    """The pipeline of a request that names none: the shipped one, or the catalog's first."""
    shipped = SamplingParams().model
    return shipped if shipped in catalog else next(iter(catalog))


def accept(
    body: JobCreate,
    *,
    catalog: Mapping[str, PipelineSpec],
    tokenizers: Mapping[str, CaptionTokenizer],
    job_id: str,
    tenant: str,
    seed: int,
) -> Job:
    """The job that `body` asks for, not yet queued.

    Args:
        body: the request.
        catalog: the pipelines, by name; at least one.
        tokenizers: the pipelines' tokenizers, by name.
        job_id: the new job's id.
        tenant: whose job it is.
        seed: taken where the request has none.

    Raises:
        InvalidRequest: the pipeline can't serve it; names every bad field.
    """
    spec = _pipeline(_given(body.model, default_model(catalog)), catalog)
    params = _params(body, spec, seed)
    violations = spec.violations(params) or _respacing_violations(spec, params)
    if violations:
        raise InvalidRequest.of(FieldError(f"/{bad.field}", bad.message) for bad in violations)
    warnings, unknown_words = _remarks(params, spec, tokenizers[spec.name])
    return Job(
        id=job_id,
        status=JobStatus.QUEUED,
        params=params,
        tenant=tenant,
        output_format=_given(body.output_format, _DEFAULT_FORMAT),
        total_steps=total_steps(spec, params),
        warnings=warnings,
        unknown_words=unknown_words,
        metadata=body.metadata,
    )


def _pipeline(name: str, catalog: Mapping[str, PipelineSpec]) -> PipelineSpec:
    if name not in catalog:
        known = ", ".join(sorted(catalog))
        raise InvalidRequest.of(
            [FieldError("/model", f"there is no model {name!r}; there are: {known}")]
        )
    return catalog[name]


def _params(body: JobCreate, spec: PipelineSpec, seed: int) -> SamplingParams:
    defaults = SamplingParams()
    width = _given(body.width, _given(body.height, spec.sizes[-1]))
    low, high = _given(body.guidance_interval, list(spec.guidance_interval))
    return SamplingParams(
        prompt=body.prompt,
        negative_prompt=_given(body.negative_prompt, defaults.negative_prompt),
        model=spec.name,
        width=width,
        height=_given(body.height, width),
        n=_given(body.n, defaults.n),
        seed=_given(body.seed, seed),
        steps=_given(body.steps, spec.base.steps),
        sampler=_given(body.sampler, spec.base.sampler),
        guidance_scale=_given(body.guidance_scale, spec.guidance_scale),
        guidance_interval=(low, high),
        eta=_given(body.eta, defaults.eta),
        thresholding=_given(body.thresholding, defaults.thresholding),
        dynamic_percentile=_given(body.dynamic_percentile, defaults.dynamic_percentile),
        upsample=_upsample(_given(body.upsample, UpsampleCreate()), spec, width),
        previews=_given(body.previews, defaults.previews),
    )


def _upsample(body: UpsampleCreate, spec: PipelineSpec, width: int) -> UpsampleParams:
    """The second stage's parameters, with its defaults where the image passes that stage."""
    if width == spec.base.resolution or len(spec.stages) == 1:
        return UpsampleParams(steps=body.steps, sampler=body.sampler, temperature=body.temperature)
    stage = spec.stages[1]
    return UpsampleParams(
        steps=_given(body.steps, stage.steps),
        sampler=_given(body.sampler, stage.sampler),
        temperature=_given(body.temperature, stage.temperature),
    )


def _respacing_violations(spec: PipelineSpec, params: SamplingParams) -> list[Violation]:
    asked: dict[str, tuple[int | str, StageSpec]] = {"steps": (params.steps, spec.base)}
    if len(spec.stages) > 1 and params.upsample.steps is not None:
        asked["upsample/steps"] = (params.upsample.steps, spec.stages[1])
    found = (_respacing_violation(name, *each) for name, each in asked.items())
    return [violation for violation in found if violation]


def _respacing_violation(name: str, steps: int | str, stage: StageSpec) -> Violation | None:
    try:
        space_timesteps(steps, stage.timesteps)
    except UnsupportedSampling as error:
        return Violation(name, str(error))
    return None


def _remarks(
    params: SamplingParams, spec: PipelineSpec, tokenizer: CaptionTokenizer
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Warnings about the captions, and the words of them that the pipeline never saw."""
    captions = {"prompt": params.prompt, "negative_prompt": params.negative_prompt}
    read = {name: tokenizer.encode(caption) for name, caption in captions.items()}
    warnings = tuple(
        f"the {name} has more than {spec.context} tokens; what follows them is ignored"
        for name, tokens in read.items()
        if tokens.truncated
    )
    unknown = dict.fromkeys(word for tokens in read.values() for word in tokens.unknown_words)
    return warnings, tuple(unknown)[:_MAX_UNKNOWN_WORDS]


def _given(value: T | None, default: T) -> T:
    return default if value is None else value

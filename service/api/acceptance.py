"""From a client's `JobCreate` to the `Job` that is queued: defaults, limits, remarks.

Every front door of the API accepts jobs through here. Knows neither HTTP nor Redis.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any, TypeVar

from model.catalog import (
    PipelineSpec,
    StageSpec,
    Violation,
    total_steps,
    total_work,
    with_defaults,
)
from model.diffusion.spacing import space_timesteps
from model.errors import UnsupportedSampling
from model.params import SamplingParams, Task, UpsampleParams
from model.text.tokenizer import CaptionTokenizer
from service.addresses import AddressRefused, read_endpoint
from service.api.pictures import NO_INPUTS, Inputs, picture_violations
from service.api.schemas import FINAL_EVENTS, JobCreate, WebhookCreate
from service.errors import FieldError, InvalidRequest
from service.jobs import Job, JobStatus, Priority, Provenance, WebhookTarget
from service.views.words import OutputFormat

_DEFAULT_FORMAT: OutputFormat = "png"
_MAX_UNKNOWN_WORDS = 50  # a record stays small, whatever a caption holds
_PLAIN_FIELDS = JobCreate.model_fields.keys() & set(SamplingParams.__slots__) - {
    "guidance_interval",
    "upsample",
    "image",
    "mask",
}
"""Fields of a request that mean the same in `SamplingParams`."""

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
    inputs: Inputs = NO_INPUTS,
    ranking: bool = False,
) -> Job:
    """The job that `body` asks for, not yet queued.

    Args:
        body: the request.
        catalog: the pipelines, by name; at least one.
        tokenizers: the tokenizers of those that read captions, by name.
        job_id: the new job's id.
        tenant: whose job it is.
        seed: taken where the request has none.
        inputs: the pictures that `body` names or that came with it.
        ranking: whether there is a CLIP beside the pipelines' own that ranks images.

    Raises:
        InvalidRequest: the pipeline can't serve it; names every bad field.
    """
    spec = _pipeline(_given(body.model, default_model(catalog)), catalog)
    params = _params(body, spec, seed, inputs)
    violations = spec.violations(params, ranking=ranking) or _respacing_violations(spec, params)
    wrong = [FieldError(f"/{bad.field}", bad.message) for bad in violations]
    wrong = wrong or picture_violations(inputs, params)
    if wrong:
        raise InvalidRequest.of(wrong)
    warnings, unknown_words = _remarks(params, spec, tokenizers.get(spec.name))
    return Job(
        id=job_id,
        status=JobStatus.QUEUED,
        params=params,
        tenant=tenant,
        output_format=_given(body.output_format, _DEFAULT_FORMAT),
        total_steps=total_steps(spec, params),
        work=total_work(spec, params),
        priority=_given(body.priority, Priority.NORMAL),
        timeout_s=body.timeout_seconds,
        webhook=_webhook(body.webhook),
        provenance=_given(body.provenance, Provenance.FULL),
        warnings=warnings,
        unknown_words=unknown_words,
        metadata=body.metadata,
    )


def deliverable(target: WebhookTarget, pointer: str, *, allow_private: bool) -> WebhookTarget:
    """A webhook with its URL in canonical form.

    Args:
        target: what the client asks for.
        pointer: where its request names the URL.
        allow_private: see `WebhookSettings`.

    Raises:
        InvalidRequest: nothing is ever delivered to that URL.
    """
    try:
        endpoint = read_endpoint(target.url, allow_private=allow_private)
    except AddressRefused as error:
        raise InvalidRequest.of([FieldError(pointer, str(error))]) from None
    return replace(target, url=endpoint.url)


def _webhook(asked: WebhookCreate | None) -> WebhookTarget | None:
    if asked is None:
        return None
    return WebhookTarget(url=asked.url, events=tuple(asked.events or FINAL_EVENTS))


def _pipeline(name: str, catalog: Mapping[str, PipelineSpec]) -> PipelineSpec:
    if name not in catalog:
        known = ", ".join(sorted(catalog))
        raise InvalidRequest.of(
            [FieldError("/model", f"there is no model {name!r}; there are: {known}")]
        )
    return catalog[name]


def _params(body: JobCreate, spec: PipelineSpec, seed: int, inputs: Inputs) -> SamplingParams:
    given: dict[str, Any] = {name: getattr(body, name) for name in _PLAIN_FIELDS}
    if body.guidance_interval is not None:
        given["guidance_interval"] = tuple(body.guidance_interval)
    if body.upsample is not None:
        given["upsample"] = UpsampleParams(**body.upsample.model_dump())
    given["seed"] = _given(body.seed, seed)
    given["task"] = _given(body.task, _inferred_task(body, inputs))
    pictures = {"image": inputs.image_digest, "mask": inputs.mask_digest}
    return with_defaults(spec, given | pictures)


def _inferred_task(body: JobCreate, inputs: Inputs) -> Task:
    """The task of a request that names none, from what it brings."""
    if inputs.mask is not None:
        return Task.INPAINT
    if inputs.image is not None:
        return Task.VARIATION
    return Task.GENERATE if body.seed_to is None else Task.INTERPOLATION


def _respacing_violations(spec: PipelineSpec, params: SamplingParams) -> list[Violation]:
    asked: dict[str, tuple[int | str, StageSpec]] = {"steps": (params.steps, spec.base)}
    if len(spec.stages) > 1 and params.upsample.steps is not None:
        asked["upsample/steps"] = (params.upsample.steps, spec.stages[1])
    found = {
        name: _why_not_spaced(steps, stage.timesteps) for name, (steps, stage) in asked.items()
    }
    return [Violation(name, why) for name, why in found.items() if why]


@lru_cache(maxsize=1024)
def _why_not_spaced(steps: int | str, timesteps: int) -> str | None:
    """Why a run can't have these steps; None if it can."""
    try:
        space_timesteps(steps, timesteps)
    except UnsupportedSampling as error:
        return str(error)
    return None


def _remarks(
    params: SamplingParams, spec: PipelineSpec, tokenizer: CaptionTokenizer | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Warnings about the captions, and the words of them that the pipeline never saw."""
    if tokenizer is None:
        return (), ()
    captions = {"prompt": params.prompt, "negative_prompt": params.negative_prompt}
    read = {name: tokenizer.encode(caption) for name, caption in captions.items() if caption}
    warnings = tuple(
        f"the {name} has more than {spec.context} tokens; what follows them is ignored"
        for name, tokens in read.items()
        if tokens.truncated
    )
    unknown = dict.fromkeys(word for tokens in read.values() for word in tokens.unknown_words)
    return warnings, tuple(unknown)[:_MAX_UNKNOWN_WORDS]


def _given(value: T | None, default: T) -> T:
    return default if value is None else value

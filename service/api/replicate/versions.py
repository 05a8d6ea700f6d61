"""A model's version as clients of Replicate's API see it: what it takes and what it gives."""

from typing import Any

from model.catalog import PipelineSpec
from model.params import MAX_SEED, SamplingParams
from service.api.replicate.models import NamedModel, created_at, version_of
from service.api.replicate.requests import PredictionInput
from service.views.links import Links
from service.views.prediction import time_text

COG_VERSION = "0.16.0"
"""Clients ask it for the meaning of schemas: since 0.3.9 an array is no iterator."""


def version_answer(spec: PipelineSpec) -> dict[str, Any]:
    """The one version of a pipeline."""
    return {
        "id": version_of(spec),
        "created_at": time_text(round(created_at(spec).timestamp() * 1000)),
        "cog_version": COG_VERSION,
        "openapi_schema": openapi_schema(spec),
    }


def model_answer(model: NamedModel, links: Links) -> dict[str, Any]:
    """A model with its version."""
    return {
        "url": links.to(f"/replicate/v1/models/{model.id}"),
        "owner": model.owner,
        "name": model.name,
        "description": model.spec.description,
        "visibility": "public",
        "github_url": None,
        "paper_url": None,
        "license_url": None,
        "run_count": 0,
        "cover_image_url": None,
        "default_example": None,
        "latest_version": version_answer(model.spec),
    }


def openapi_schema(spec: PipelineSpec) -> dict[str, Any]:
    """The parts of an OpenAPI document that clients read: `Input` and `Output`."""
    output = {"type": "array", "title": "Output", "items": {"type": "string", "format": "uri"}}
    return {
        "openapi": "3.0.2",
        "info": {"title": spec.name, "version": COG_VERSION},
        "paths": {},
        "components": {"schemas": {"Input": _input(spec), "Output": output}},
    }


def _input(spec: PipelineSpec) -> dict[str, Any]:
    """`PredictionInput` as this pipeline takes it: its own defaults, sizes and limits."""
    declared = PredictionInput.model_json_schema()
    own = _own(spec)
    properties = {
        name: _plain(member, declared.get("$defs", {})) | own.get(name, {}) | {"x-order": order}
        for order, (name, member) in enumerate(declared["properties"].items())
    }
    return {
        "type": "object",
        "title": "Input",
        "required": declared["required"],
        "properties": properties,
    }


def _plain(member: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """A member without null, references and choices, which many readers don't follow."""
    found = {name: member[name] for name in ("title", "description") if name in member}
    kinds = [kind for kind in member.get("anyOf", [member]) if kind.get("type") != "null"]
    kind = kinds[0]
    if "$ref" in kind:
        kind = definitions[kind["$ref"].rpartition("/")[2]]
    return found | {name: kind[name] for name in ("type", "enum", "minLength") if name in kind}


def _own(spec: PipelineSpec) -> dict[str, dict[str, Any]]:
    sizes = list(spec.sizes)
    size = {"enum": sizes, "default": sizes[-1]}
    picture = {"format": "uri"}
    strength = {"minimum": 0, "maximum": 1, "default": SamplingParams().strength}
    return {
        "negative_prompt": {"default": ""},
        "width": size,
        "height": size,
        "num_outputs": {"minimum": 1, "maximum": spec.max_images, "default": 1},
        "num_inference_steps": _steps(spec),
        "guidance_scale": {
            "minimum": 0,
            "maximum": spec.max_guidance_scale,
            "default": spec.guidance_scale,
        },
        "scheduler": {"default": spec.base.sampler.value},
        "seed": {"minimum": 0, "maximum": MAX_SEED},
        "image": picture,
        "mask": picture,
        "prompt_strength": strength,
        "output_format": {"default": "png"},
    }


def _steps(spec: PipelineSpec) -> dict[str, Any]:
    limits = {"minimum": 1, "maximum": min(spec.max_steps, spec.base.timesteps)}
    steps = spec.base.steps
    return limits | ({"default": steps} if isinstance(steps, int) else {})

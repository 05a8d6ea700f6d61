"""The description of the API, with what FastAPI doesn't find by itself."""

from collections.abc import Callable
from typing import Any

from service.api import auth
from service.api.declarations import declare_parameters_as_text
from service.api.dialects import huggingface, native, openai, replicate
from service.api.replicate.requests import PredictionCreate, VersionedPredictionCreate
from service.api.schemas import JobCreate

_UNFOUND_SCHEMAS = (
    native.Problem,
    openai.OpenAIError,
    openai.ModelProblem,
    huggingface.HuggingFaceError,
    replicate.ReplicateProblem,
    PredictionCreate,
    VersionedPredictionCreate,
    JobCreate,
)


def describe(generate: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """FastAPI's description, and the schemas of every error and of bodies that routes read."""
    document: dict[str, Any] = generate()
    template = "#/components/schemas/{model}"
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for kind in _UNFOUND_SCHEMAS:
        schema = kind.model_json_schema(ref_template=template)
        schemas.update(schema.pop("$defs", {}))
        schemas[kind.__name__] = schema
    declare_parameters_as_text(document)
    auth.describe(document)
    return document

"""The bodies of predictions, read and checked."""

from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request
from pydantic import BaseModel, ValidationError

from service.api.bodies import read_json
from service.api.dependencies import require_json
from service.api.problems import invalid_request
from service.api.replicate.requests import PredictionCreate, VersionedPredictionCreate

Body = TypeVar("Body", bound=BaseModel)


async def _read(request: Request, kind: type[Body]) -> Body:
    """A body of that kind.

    Raises:
        RequestValidationError: it isn't JSON.
        InvalidRequest: it isn't of that kind.
        HTTPException: status 415 for anything else than JSON, 413 for too much of it.
    """
    require_json(request)
    members = await read_json(request)
    try:
        return kind.model_validate(members)
    except ValidationError as error:
        found = [{**each, "loc": ("body", *each["loc"])} for each in error.errors()]
        raise invalid_request(found) from error


async def _read_prediction(request: Request) -> PredictionCreate:
    return await _read(request, PredictionCreate)


async def _read_versioned_prediction(request: Request) -> VersionedPredictionCreate:
    return await _read(request, VersionedPredictionCreate)


PredictionBody = Annotated[PredictionCreate, Depends(_read_prediction)]
VersionedPredictionBody = Annotated[VersionedPredictionCreate, Depends(_read_versioned_prediction)]


def declared_body(kind: type[BaseModel]) -> dict[str, Any]:
    """The `openapi_extra` of a route that reads such a body."""
    schema = {"$ref": f"#/components/schemas/{kind.__name__}"}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}

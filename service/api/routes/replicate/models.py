"""Models and their versions, under names of the form `owner/name`."""

from fastapi import APIRouter, Response

from service.api.dialects.replicate import answered
from service.api.replicate.answers import (
    ReplicateModel,
    ReplicateModelPage,
    ReplicateVersion,
    ReplicateVersionPage,
    answer,
)
from service.api.replicate.door import DoorDep
from service.api.replicate.versions import model_answer, version_answer
from service.errors import NotFound

router = APIRouter(prefix="/models", tags=["replicate"])


@router.get("", response_class=Response, responses=answered(ReplicateModelPage))
async def list_models(door: DoorDep) -> Response:
    """Every pipeline under each of its names."""
    models = [model_answer(model, door.links) for model in door.library.models()]
    return answer(_page(models))


@router.get("/{owner}/{name}", response_class=Response, responses=answered(ReplicateModel, 404))
async def get_model(door: DoorDep, owner: str, name: str) -> Response:
    """A model with its version."""
    return answer(model_answer(door.model(owner, name), door.links))


@router.get(
    "/{owner}/{name}/versions",
    response_class=Response,
    responses=answered(ReplicateVersionPage, 404),
)
async def list_versions(door: DoorDep, owner: str, name: str) -> Response:
    """The one version of a model: that of its weights as they are."""
    return answer(_page([version_answer(door.model(owner, name).spec)]))


@router.get(
    "/{owner}/{name}/versions/{version_id}",
    response_class=Response,
    responses=answered(ReplicateVersion, 404),
)
async def get_version(door: DoorDep, owner: str, name: str, version_id: str) -> Response:
    """A version: what it takes and what it gives."""
    model = door.model(owner, name)
    if version_id != model.version:
        raise NotFound(f"{model.id} has no version {version_id!r}; it has {model.version}.")
    return answer(version_answer(model.spec))


def _page(results: list[dict[str, object]]) -> dict[str, object]:
    return {"previous": None, "next": None, "results": results}

"""Predictions: create, look, list, cancel; the jobs of the native API under other words."""

import logging
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Response

from service.api.deadlines import DURATION_PATTERN
from service.api.dependencies import JobDep
from service.api.dialects.replicate import answered, declared
from service.api.idempotency import KEY_PATTERN
from service.api.replicate.answers import Prediction, PredictionPage, answer
from service.api.replicate.bodies import (
    PredictionBody,
    VersionedPredictionBody,
    declared_body,
)
from service.api.replicate.creation import create
from service.api.replicate.door import DoorDep
from service.api.replicate.listing import Period, page_of_predictions
from service.api.replicate.requests import PredictionCreate, VersionedPredictionCreate
from service.api.schemas import Moment
from service.errors import FieldError, InvalidRequest, NotFound

log = logging.getLogger(__name__)
router = APIRouter(tags=["replicate"])

_CREATED = {
    201: {"model": Prediction, "description": "created; or ended within the wait"},
    202: {"model": Prediction, "description": "the wait is over before the prediction"},
    **declared(400, 404, 413, 415),
}


def _headers(
    prefer: Annotated[
        str | None, Header(description="`wait` or `wait=n`, 1 … 60: answer when done, or in n s")
    ] = None,
    cancel_after: Annotated[
        str | None,
        Header(
            description="a duration such as `90s` or `1m30s`: cancel after it",
            json_schema_extra={"pattern": DURATION_PATTERN},
        ),
    ] = None,
    idempotency_key: Annotated[
        str | None,
        Header(
            description="a repetition with it gets the first prediction",
            json_schema_extra={"pattern": KEY_PATTERN},
        ),
    ] = None,
) -> None:
    """Declares the headers that `create` reads."""


_CREATING = [Depends(_headers)]


@router.post(
    "/predictions",
    status_code=201,
    response_class=Response,
    responses=_CREATED,
    dependencies=_CREATING,
    openapi_extra=declared_body(VersionedPredictionCreate),
)
async def create_prediction(door: DoorDep, body: VersionedPredictionBody) -> Response:
    """Creates a prediction of the model that the body names."""
    model = door.library.find(body.version)
    if model is None:
        raise InvalidRequest.of(
            [FieldError("/version", f"there is no model or version {body.version!r}")]
        )
    return await create(door, model, body)


@router.post(
    "/models/{owner}/{name}/predictions",
    status_code=201,
    response_class=Response,
    responses=_CREATED,
    dependencies=_CREATING,
    openapi_extra=declared_body(PredictionCreate),
)
async def create_prediction_of_model(
    door: DoorDep, owner: str, name: str, body: PredictionBody
) -> Response:
    """Creates a prediction of the model that the path names."""
    return await create(door, door.model(owner, name), body)


@router.post(
    "/deployments/{owner}/{name}/predictions",
    status_code=201,
    response_class=Response,
    responses=_CREATED,
    dependencies=_CREATING,
    openapi_extra=declared_body(PredictionCreate),
)
async def create_prediction_of_deployment(
    door: DoorDep, owner: str, name: str, body: PredictionBody
) -> Response:
    """Creates a prediction; every model is its own deployment."""
    model = door.model(owner, name)
    return await create(door, model, body, deployment=model.id)


@router.get("/predictions", response_class=Response, responses=answered(PredictionPage))
async def list_predictions(
    door: DoorDep,
    cursor: Annotated[
        str | None,
        Query(max_length=200, json_schema_extra={"pattern": "^job_[0-9a-hjkmnp-tv-z]{26}$"}),
    ] = None,
    created_after: Moment | None = None,
    created_before: Moment | None = None,
) -> Response:
    """The predictions of this client, newest first, a hundred a page."""
    period = Period(created_after, created_before)
    return answer(await page_of_predictions(door, cursor, period))


@router.get("/predictions/{job_id}", response_class=Response, responses=answered(Prediction, 404))
async def get_prediction(door: DoorDep, job: JobDep) -> Response:
    """A prediction as it is now."""
    return answer(door.show(job))


@router.post(
    "/predictions/{job_id}/cancel", response_class=Response, responses=answered(Prediction, 404)
)
async def cancel_prediction(door: DoorDep, job: JobDep) -> Response:
    """Stops a prediction; one that has ended stays as it is."""
    canceled = await door.services.queue.cancel(job.id, "canceled by the client")
    if canceled is None:
        raise NotFound(f"There is no prediction {job.id!r} any more.")
    log.info("job cancel asked", extra={"job_id": job.id})
    return answer(door.show(canceled))

"""From an accepted prediction to its answer, held back for as long as its client likes."""

import re
import time
from dataclasses import replace

from fastapi import Response

from service.api.bodies import Submission
from service.api.intake import hold, take, terms_of
from service.api.replicate.answers import answer
from service.api.replicate.door import Door
from service.api.replicate.models import NamedModel
from service.api.replicate.pictures import find_pictures
from service.api.replicate.requests import (
    PredictionCreate,
    echo_of,
    in_terms_of,
    job_create,
    webhook_of,
)
from service.errors import InvalidRequest
from service.queue.submission import Accepted
from service.views.prediction import prediction_path

LONGEST_HOLD_S = 55.0
"""Clients give up after 60 s, and some of them then ask for a second prediction."""
_WAIT = re.compile(r"wait(?:=([1-9]|[1-5][0-9]|60))?", re.ASCII)


async def create(
    door: Door, model: NamedModel, body: PredictionCreate, deployment: str | None = None
) -> Response:
    """Accepts a prediction and answers at once, or when it ends, or when the wait is over.

    Clients take every status but `starting` for the end, so that a prediction that outlasts the
    wait is shown as `starting` even while it runs.

    Args:
        door: the request.
        model: what is to draw.
        body: what is to be drawn.
        deployment: `owner/name` that the client called it by.

    Raises:
        InvalidRequest: the model can't serve it; with pointers into `body`.
    """
    arrived_s = time.monotonic()
    accepted = await _submit(door, model, body, deployment)
    job, status = accepted.job, 201
    headers = {"Location": prediction_path(job.id), "Vary": "Prefer"}
    if accepted.replayed:
        headers["Idempotency-Replayed"] = "true"
    wait = _WAIT.fullmatch(door.request.headers.get("prefer", ""))
    if wait:
        headers["Preference-Applied"] = wait[0]
        longest_s = min(LONGEST_HOLD_S, door.services.settings.api.max_wait_s)
        wait_s = min(float(wait[1] or longest_s), longest_s)
        left_s = max(0.0, arrived_s + wait_s - time.monotonic())
        job = await hold(door.request, job, left_s, door.services)
        status = 201 if job.status.is_final else 202
    shown = door.show(job)
    return answer(shown if status == 201 else shown | {"status": "starting"}, status, headers)


async def _submit(
    door: Door, model: NamedModel, body: PredictionCreate, deployment: str | None
) -> Accepted:
    sent = body.model_dump(mode="json", exclude_unset=True)
    terms = replace(
        terms_of(door.request, sent),
        api="replicate",
        webhook=webhook_of(body),
        echo={
            "model": model.id,
            "version": model.version,
            "deployment": deployment,
            "input": echo_of(body.input),
        },
    )
    pictures = await find_pictures(body.input, door.services, door.links, door.tenant)
    try:
        job = job_create(body.input, model.spec.name, pictures.texts)
        submission = Submission(job, pictures.files, sent)
        return await take(door.request, submission, terms, door.services, door.principal)
    except InvalidRequest as error:
        raise in_terms_of(body.input, error) from error

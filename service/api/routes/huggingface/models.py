"""Hugging Face's inference endpoints over the same jobs: a caption or a picture in, an image out.

The clients post to the whole address of a model, and read the bytes of an image. A 503 would make
their JavaScript client ask again without end; see `dialects.huggingface`.
"""

import asyncio
import base64
from dataclasses import replace
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from model.checkpoints.survey import survey
from model.params import Task
from service.api.auth import PrincipalDep
from service.api.dialects.huggingface import declared
from service.api.intake import take, terms_of
from service.api.limits import tell
from service.api.model_names import find_model
from service.api.outcomes import ended
from service.api.routes.huggingface.orders import HuggingFaceCreate, read_order
from service.api.services import Services, ServicesDep
from service.jobs import Job

router = APIRouter(prefix="/hf/models", tags=["huggingface"])

_BYTES = {"schema": {"type": "string", "format": "binary"}}
_BODY = {
    "required": True,
    "content": {
        "application/json": {"schema": HuggingFaceCreate.model_json_schema()},
        "application/octet-stream": _BYTES,
        "image/*": _BYTES,
    },
}
_DONE: dict[str, Any] = {
    "description": "the image, or with `Accept: application/json` all images",
    "content": {"image/png": _BYTES, "image/jpeg": _BYTES, "image/webp": _BYTES},
}


class HuggingFaceImage(BaseModel):
    """One image."""

    b64_json: str
    seed: int = Field(description="that makes it again")


class HuggingFaceImages(BaseModel):
    """All images of a request."""

    data: list[HuggingFaceImage]


class HuggingFaceModel(BaseModel):
    """Whether a model can be asked."""

    id: str
    loaded: bool = Field(description="whether a worker serves it now")
    state: Literal["Loaded", "Loadable"]
    framework: Literal["glide-service"] = "glide-service"
    pipeline_tag: Literal["text-to-image"] = "text-to-image"
    tasks: list[Task]


@router.get("/{model_id:path}", responses=declared(401, 404, 422))
async def get_huggingface_model(
    model_id: str, principal: PrincipalDep, services: ServicesDep
) -> HuggingFaceModel:
    """Whether a model is there, and what it can do."""
    del principal
    spec = find_model(model_id, services)
    workers = await services.queue.workers()
    live = any(spec.name in worker.models for worker in workers)
    seen = await asyncio.to_thread(survey, spec)
    return HuggingFaceModel(
        id=spec.name,
        loaded=live,
        state="Loaded" if live else "Loadable",
        tasks=list(seen.tasks),
    )


@router.post(
    "/{model_id:path}",
    response_model=HuggingFaceImages,
    responses={200: _DONE, **declared(400, 401, 403, 404, 409, 413, 422, 429)},
    openapi_extra={"requestBody": _BODY},
)
async def infer(
    request: Request, model_id: str, principal: PrincipalDep, services: ServicesDep
) -> Response:
    """An image from a caption, or from a picture and a caption."""
    order = await read_order(request, find_model(model_id, services))
    asked = order.submission
    terms = replace(terms_of(request, asked.members, asked.files), api="huggingface")
    with order.words.refusing():
        accepted = await take(request, asked, terms, services, principal)
    headers = {"x-job-id": accepted.job.id, "x-seed": str(accepted.job.params.seed)}
    if accepted.replayed:
        headers["Idempotency-Replayed"] = "true"
    tell(request, headers)
    named = terms.idempotency_key is not None
    job = await ended(request, accepted.job, services, named=named)
    found = await asyncio.to_thread(_bytes_of, job, services)
    if not order.as_json:
        return Response(found[0], media_type=job.images[0].content_type)
    data = [
        HuggingFaceImage(b64_json=base64.b64encode(each).decode(), seed=image.seed)
        for image, each in zip(job.images, found, strict=True)
    ]
    answer = HuggingFaceImages(data=data)
    return Response(answer.model_dump_json(), media_type="application/json")


def _bytes_of(job: Job, services: Services) -> list[bytes]:
    return [services.store.get(image.key) for image in job.images]

"""OpenAI's Images API over the same jobs: generations, edits, variations."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException

from service.api.auth import Principal, PrincipalDep
from service.api.bodies import read_json
from service.api.dependencies import is_form, links_of, require_json
from service.api.dialects.openai import declared
from service.api.intake import take, terms_of
from service.api.limits import tell
from service.api.outcomes import ended
from service.api.routes.openai.answers import images_response
from service.api.routes.openai.forms import read_image_form
from service.api.routes.openai.orders import Order, order_of, require_pictures
from service.api.routes.openai.schemas import (
    ImageCreate,
    ImagesResponse,
    PromptedImageCreate,
    json_schema,
)
from service.api.routes.openai.streaming import ImageStream, Kind
from service.api.services import Services, ServicesDep
from service.errors import FieldError, InvalidRequest

router = APIRouter(prefix="/v1/images", tags=["openai"])

_REFUSED = declared(400, 401, 403, 404, 413, 415, 429)
_EVENT = {
    "type": "object",
    "properties": {
        "event": {"type": "string", "description": "the `type` of `data`, or `error`"},
        "data": {"type": "string", "description": "JSON"},
    },
    "required": ["event", "data"],
}
_STREAM = {"text/event-stream": {"schema": _EVENT}}
_DONE = {"description": "the images, or with `stream` their events", "content": _STREAM}
_BYTES = {"type": "string", "format": "binary"}


def _form_body(kind: type[ImageCreate], *pictures: str) -> dict[str, Any]:
    schema = json_schema(kind)
    properties = {**schema["properties"], **dict.fromkeys(pictures, _BYTES)}
    required = ["image", *schema.get("required", [])]
    schema = {**schema, "properties": properties, "required": required}
    return {"required": True, "content": {"multipart/form-data": {"schema": schema}}}


_GENERATION = {
    "required": True,
    "content": {"application/json": {"schema": json_schema(PromptedImageCreate)}},
}


@router.post(
    "/generations",
    response_model=ImagesResponse,
    responses={200: _DONE, **_REFUSED},
    openapi_extra={"requestBody": _GENERATION},
)
async def generate(request: Request, principal: PrincipalDep, services: ServicesDep) -> Response:
    """Images from a caption."""
    require_json(request)
    members = await read_json(request)
    if not isinstance(members, dict):
        raise InvalidRequest.of([FieldError("", "is a JSON object", "invalid_type")])
    order = order_of(PromptedImageCreate, members, {}, services)
    return await _serve(request, order, "image_generation", services, principal)


@router.post(
    "/edits",
    response_model=ImagesResponse,
    responses={200: _DONE, **_REFUSED},
    openapi_extra={"requestBody": _form_body(PromptedImageCreate, "image", "mask")},
)
async def edit(request: Request, principal: PrincipalDep, services: ServicesDep) -> Response:
    """A picture, painted anew by a caption: where its mask is transparent, or as a whole."""
    order = await _order_with_pictures(PromptedImageCreate, request, services)
    return await _serve(request, order, "image_edit", services, principal)


@router.post(
    "/variations",
    response_model=ImagesResponse,
    responses={200: _DONE, **_REFUSED},
    openapi_extra={"requestBody": _form_body(ImageCreate, "image")},
)
async def vary(request: Request, principal: PrincipalDep, services: ServicesDep) -> Response:
    """Images like a picture; a caption is welcome."""
    order = await _order_with_pictures(ImageCreate, request, services)
    return await _serve(request, order, "image_edit", services, principal)


async def _order_with_pictures(
    kind: type[ImageCreate], request: Request, services: Services
) -> Order:
    if not is_form(request):
        raise HTTPException(415, "Send the pictures as files of a `multipart/form-data` form.")
    members, files = await read_image_form(request)
    async with services.unpacking:
        return await asyncio.to_thread(_understood, kind, members, files, services)


def _understood(
    kind: type[ImageCreate],
    members: Mapping[str, Any],
    files: Mapping[str, bytes],
    services: Services,
) -> Order:
    require_pictures(files)
    return order_of(kind, members, files, services)


async def _serve(
    request: Request, order: Order, kind: Kind, services: Services, principal: Principal
) -> Response:
    """Queues the job, and answers with its images or with their stream."""
    asked = order.submission
    terms = replace(terms_of(request, asked.members, asked.files), api="openai")
    with order.words.refusing(**order.sent_as):
        accepted = await take(request, asked, terms, services, principal)
    job, named = accepted.job, terms.idempotency_key is not None
    headers = {"x-job-id": job.id}
    if accepted.replayed:
        headers["Idempotency-Replayed"] = "true"
    tell(request, headers)
    if order.delivery.stream:
        return ImageStream(job, order.delivery, kind, services, named=named)
    job = await ended(request, job, services, named=named)
    answer = await images_response(job, order.delivery, services, await links_of(request))
    return Response(answer.model_dump_json(), media_type="application/json")

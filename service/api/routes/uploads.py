"""Uploads: pictures that jobs start from."""

import asyncio

from fastapi import APIRouter, Request
from starlette.datastructures import UploadFile

from model.errors import ConditioningError
from model.imaging import Picture, read_picture
from service.api.bodies import read_form
from service.api.dependencies import TenantDep, is_form
from service.api.problems import declared
from service.api.services import Services, ServicesDep
from service.errors import FieldError, InvalidRequest
from service.store.inputs import keep_input
from service.views.upload import UploadView

router = APIRouter(prefix="/v1/images", tags=["images"])

_FIELD = "image"
_BYTES = {"type": "string", "format": "binary"}
_FORM = {"type": "object", "properties": {_FIELD: _BYTES}, "required": [_FIELD]}
PICTURE_BODY = {
    "required": True,
    "content": {
        "application/octet-stream": {"schema": _BYTES},
        "image/*": {"schema": _BYTES},
        "multipart/form-data": {"schema": _FORM},
    },
}


@router.post(
    "",
    status_code=201,
    responses=declared(400, 408, 413, 422),
    openapi_extra={"requestBody": PICTURE_BODY},
)
async def upload(request: Request, services: ServicesDep, tenant: TenantDep) -> UploadView:
    """Keeps a picture, so that jobs of the same tenant may name it by its id."""
    data, pointer = await read_upload(request, services)
    async with services.unpacking:
        picture = await asyncio.to_thread(_unpacked, data, pointer)
    digest = await asyncio.to_thread(keep_input, services.store, data)
    await services.uploads.add(tenant, [digest])
    return UploadView(id=digest, width=picture.width, height=picture.height, bytes=len(data))


async def read_upload(request: Request, services: Services) -> tuple[bytes, str]:
    """The bytes of a picture, sent as they are or as a file of a form, and their pointer.

    Raises:
        InvalidRequest: there is none, or it is too large.
    """
    data, pointer = await _read(request)
    largest = services.settings.api.max_picture_bytes
    if len(data) > largest:
        raise _refusal(pointer, f"has more than {largest} bytes")
    return data, pointer


async def _read(request: Request) -> tuple[bytes, str]:
    if not is_form(request):
        return await request.body(), ""
    form = await read_form(request)
    try:
        file = form.get(_FIELD)
        if not isinstance(file, UploadFile):
            raise _refusal(f"/{_FIELD}", "is required, as a file")
        return await file.read(), f"/{_FIELD}"
    finally:
        await form.close()


def _unpacked(data: bytes, pointer: str) -> Picture:
    try:
        return read_picture(data)
    except ConditioningError as error:
        raise _refusal(pointer, str(error).rstrip(".")) from error


def _refusal(pointer: str, detail: str) -> InvalidRequest:
    return InvalidRequest.of([FieldError(pointer, detail)])

"""Files: pictures that predictions start from, uploaded beforehand."""

import asyncio
import json
import time
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException

from service.api.bodies import read_form
from service.api.dependencies import is_form
from service.api.dialects.replicate import answered, declared
from service.api.replicate.answers import ReplicateFile, ReplicateFilePage, answer, file_answer
from service.api.replicate.door import DoorDep
from service.errors import FieldError, InvalidRequest, NotFound
from service.queue.files import FILE_ID, FileRecord, new_file_id
from service.store.inputs import keep_input

router = APIRouter(prefix="/files", tags=["replicate"])

PAGE = 100
_LONGEST_NAME = 255
_LONGEST_METADATA = 16_384  # characters
_TEXT = {"type": "string"}
_FORM = {
    "type": "object",
    "properties": {
        "content": {"type": "string", "format": "binary"},
        "filename": _TEXT,
        "type": _TEXT,
        "metadata": {"type": "object"},
    },
    "required": ["content"],
}
_BODY = {"required": True, "content": {"multipart/form-data": {"schema": _FORM}}}


@dataclass(frozen=True, slots=True, eq=False)
class _Sent:
    """The parts of an file."""

    data: bytes
    name: str
    content_type: str
    metadata: dict[str, Any]


@router.post(
    "",
    status_code=201,
    response_class=Response,
    responses=answered(ReplicateFile, 413, 415, status=201),
    openapi_extra={"requestBody": _BODY},
)
async def create_file(door: DoorDep) -> Response:
    """Keeps a file for a day, so that predictions may name it by its URL."""
    sent = await _read(door.request)
    largest = door.services.settings.api.max_picture_bytes
    if len(sent.data) > largest:
        raise _refusal("content", f"has more than {largest} bytes")
    digest = await asyncio.to_thread(keep_input, door.services.store, sent.data)
    file = _record(sent, digest, life_s=door.services.settings.queue.retention_s)
    await door.services.files.add(door.tenant, file)
    return answer(file_answer(file, door.links), 201)


@router.get("", response_class=Response, responses=answered(ReplicateFilePage))
async def list_files(
    door: DoorDep,
    cursor: Annotated[
        str | None, Query(max_length=64, json_schema_extra={"pattern": f"^{FILE_ID.pattern}$"})
    ] = None,
) -> Response:
    """The files of this client, newest first."""
    files, following = await door.services.files.list(door.tenant, cursor=cursor, limit=PAGE)
    link = following and door.links.to(f"/replicate/v1/files?cursor={following}")
    results = [file_answer(file, door.links) for file in files]
    return answer({"previous": None, "next": link, "results": results})


@router.get("/{file_id}", response_class=Response, responses=answered(ReplicateFile, 404))
async def get_file(door: DoorDep, file_id: str) -> Response:
    """What is known of a file."""
    file = await door.services.files.get(door.tenant, file_id)
    if file is None:
        raise _no_file(file_id)
    return answer(file_answer(file, door.links))


@router.delete(
    "/{file_id}",
    status_code=204,
    response_class=Response,
    responses={204: {"description": "it is gone"}, **declared(404)},
)
async def delete_file(door: DoorDep, file_id: str) -> Response:
    """Forgets a file; predictions that name it keep their picture."""
    if not await door.services.files.remove(door.tenant, file_id):
        raise _no_file(file_id)
    return Response(status_code=204)


async def _read(request: Request) -> _Sent:
    if not is_form(request):
        raise HTTPException(415, "Send the file as `content` of a form, as multipart/form-data.")
    form = await read_form(request)
    try:
        return await _sent(form)
    finally:
        await form.close()


async def _sent(form: FormData) -> _Sent:
    content = form.get("content")
    if not isinstance(content, UploadFile):
        raise _refusal("content", "is required, as a file")
    name = await _text(form, "filename") or content.filename or "file"
    kind = await _text(form, "type") or content.content_type or "application/octet-stream"
    for field, text in (("filename", name), ("type", kind)):
        if len(text) > _LONGEST_NAME:
            raise _refusal(field, f"must have at most {_LONGEST_NAME} characters")
    return _Sent(await content.read(), name, kind, _metadata(await _text(form, "metadata")))


async def _text(form: FormData, name: str) -> str:
    """A part as text; clients send JSON as a file, too."""
    part = form.get(name, "")
    if not isinstance(part, UploadFile):
        return part
    try:
        return (await part.read()).decode()
    except UnicodeDecodeError:
        raise _refusal(name, "must be text in UTF-8") from None


def _metadata(text: str) -> dict[str, Any]:
    if len(text) > _LONGEST_METADATA:
        raise _refusal("metadata", f"must have at most {_LONGEST_METADATA} characters")
    try:
        found = json.loads(text or "{}")
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise _refusal("metadata", "must be a JSON object")
    return found


def _record(sent: _Sent, digest: str, *, life_s: float) -> FileRecord:
    now_ms = time.time_ns() // 1_000_000
    return FileRecord(
        id=new_file_id(now_ms),
        name=sent.name,
        content_type=sent.content_type,
        file_bytes=len(sent.data),
        sha256=digest,
        metadata=sent.metadata,
        created_at_ms=now_ms,
        expires_at_ms=now_ms + round(1000 * life_s),
    )


def _refusal(name: str, detail: str) -> InvalidRequest:
    return InvalidRequest.of([FieldError(f"/{name}", detail)])


def _no_file(file_id: str) -> NotFound:
    return NotFound(f"There is no file {file_id!r}, or none any more.")

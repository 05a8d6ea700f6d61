"""The body of a submission: JSON, or a form with the pictures as files.

Both become the same `Submission`, and both are refused with the same pointers. Knows no picture.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from service.api.dependencies import is_form, require_json
from service.api.json_text import parse_json
from service.api.pictures import PICTURE_FIELDS
from service.api.schemas import JobCreate
from service.errors import FieldError, InvalidRequest
from service.views.words import OutputFormat

_FORM_FIELDS = 64
VERBATIM = frozenset({"prompt", "negative_prompt", "model"} | set(PICTURE_FIELDS))
"""Fields of a form whose text stands for itself, though it may look like a number."""


@dataclass(frozen=True, slots=True, eq=False)
class Submission:
    """What a client asks for.

    Attributes:
        body: the request, checked.
        files: the pictures that came as files, by field.
        members: the body's JSON, or the fields of its form, as they came.
    """

    body: JobCreate
    files: Mapping[str, bytes] = field(default_factory=dict)
    members: Mapping[str, Any] = field(default_factory=dict)

    def in_format(self, output_format: OutputFormat | None) -> "Submission":
        """The same, whose images have that format unless the client names another."""
        if output_format is None or self.body.output_format is not None:
            return self
        return replace(self, body=self.body.model_copy(update={"output_format": output_format}))

    @property
    def has_pictures(self) -> bool:
        """Whether there is something to unpack."""
        return bool(self.files) or any(getattr(self.body, name) for name in PICTURE_FIELDS)


async def read_submission(request: Request) -> Submission:
    """Reads the body of `POST /v1/jobs`.

    Raises:
        RequestValidationError: it isn't JSON, or names no such fields.
        InvalidRequest: it isn't such a form.
        HTTPException: status 415 for anything else, 413 for too much of it.
    """
    if is_form(request):
        form = await read_form(request)
        try:
            members = _members(form)
            return Submission(_checked(members), await _files(form), members)
        finally:
            await form.close()
    require_json(request)
    members = await read_json(request)
    return Submission(_checked(members), members=members)


async def read_form(request: Request, max_files: int = len(PICTURE_FIELDS)) -> FormData:
    """The fields and files of a form.

    Raises:
        InvalidRequest: it can't be read as one.
    """
    try:
        return await request.form(max_files=max_files, max_fields=_FORM_FIELDS)
    except HTTPException as error:
        if error.status_code != 400:
            raise
        detail = f"can't be read as multipart/form-data: {error.detail.rstrip('.')}"
        raise InvalidRequest.of([FieldError("", detail)]) from error


async def read_json(request: Request) -> Any:
    """The JSON of a body; None where it is empty.

    Raises:
        RequestValidationError: it isn't JSON.
        InvalidRequest: an object in it names a member twice.
        HTTPException: status 400, for JSON that Python can't read.
    """
    raw = await request.body()
    if not raw:
        return None
    try:
        return parse_json(raw)
    except json.JSONDecodeError as error:
        place = ("body", error.pos)
        found = {"type": "json_invalid", "loc": place, "msg": "", "ctx": {"error": error.msg}}
        raise RequestValidationError([found]) from error
    except (ValueError, RecursionError) as error:
        raise HTTPException(400) from error


def _members(form: FormData) -> dict[str, Any]:
    """The form's text fields as members of a JSON object; files of pictures are left out."""
    members: dict[str, Any] = {}
    wrong: list[FieldError] = []
    for name, value in form.multi_items():
        if len(form.getlist(name)) > 1:
            wrong.append(FieldError(f"/{name}", "is there twice"))
        elif isinstance(value, UploadFile):
            if name not in PICTURE_FIELDS:
                wrong.append(FieldError(f"/{name}", "is no picture: send it as text"))
        else:
            members[name] = value if name in VERBATIM else number_or_text(value)
    if wrong:
        raise InvalidRequest.of(dict.fromkeys(wrong))
    return members


def number_or_text(text: str) -> Any:
    """What JSON would make of a form's text: `3`, `[0, 1]`, `{"a": "b"}`; else the text itself."""
    try:
        return parse_json(text)
    except (ValueError, RecursionError):
        return text


async def _files(form: FormData) -> dict[str, bytes]:
    return {
        name: await value.read() for name, value in form.items() if isinstance(value, UploadFile)
    }


def _checked(members: Any) -> JobCreate:
    try:
        return JobCreate.model_validate(members)
    except ValidationError as error:
        found = [{**each, "loc": ("body", *each["loc"])} for each in error.errors()]
        raise RequestValidationError(found) from error

"""Forms as OpenAI's clients write them: `image[]` is of a list, `svg[model]` of an object.

Knows no field but the pictures.
"""

import re
from collections import defaultdict
from typing import Any

from starlette.datastructures import UploadFile
from starlette.requests import Request

from service.api.bodies import VERBATIM, number_or_text, read_form
from service.api.pictures import PICTURE_FIELDS
from service.errors import FieldError, InvalidRequest

MOST_PICTURES = 16
_NAME = re.compile(r"([^\[\]]+)(?:\[([^\[\]]*)\](?:\[[^\[\]]*\])*)?")
"""A field and its member; what is nested deeper, as `svg[reasoning][effort]`, has no effect."""
_LISTS = frozenset({"guidance_interval"})
"""Fields that may also be repeated without brackets, as OpenAPI has it."""
_TEXTS = VERBATIM | {"user", "safety_identifier", "size"}


async def read_image_form(request: Request) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The fields of a form as members of a JSON object, and its pictures by field.

    Raises:
        InvalidRequest: it isn't such a form, or has more pictures than a job takes.
    """
    form = await read_form(request, max_files=MOST_PICTURES + len(PICTURE_FIELDS))
    texts: dict[str, Any] = {}
    files: defaultdict[str, list[UploadFile]] = defaultdict(list)
    try:
        for sent, value in form.multi_items():
            if isinstance(value, UploadFile):
                files[_split(sent)[0]].append(value)
            else:
                _put(texts, sent, value)
        _refuse_odd(texts, files)
        return texts, {name: await found[0].read() for name, found in files.items()}
    finally:
        await form.close()


def _split(sent: str) -> tuple[str, str | None]:
    """A field, and what stands in brackets behind it: nothing or a number for a list."""
    found = _NAME.fullmatch(sent)
    return (found[1], found[2]) if found else (sent, None)


def _put(texts: dict[str, Any], sent: str, text: str) -> None:
    name, member = _split(sent)
    value = text if name in _TEXTS else number_or_text(text)
    one_of_a_list = member is not None and (not member or member.isdecimal())
    if one_of_a_list or (member is None and name in _LISTS and not isinstance(value, list)):
        _list_of(texts, name, sent).append(value)
    elif member is None and name not in texts:
        texts[name] = value
    elif member is not None and isinstance(texts.setdefault(name, {}), dict):
        texts[name][member] = value
    else:
        raise _refusal(name, "is there twice")


def _list_of(texts: dict[str, Any], name: str, sent: str) -> list[Any]:
    found = texts.setdefault(name, [])
    if not isinstance(found, list):
        raise _refusal(name, f"is there twice, once as {sent}")
    return found


def _refuse_odd(texts: dict[str, Any], files: dict[str, list[UploadFile]]) -> None:
    for name, found in files.items():
        if name not in PICTURE_FIELDS:
            raise _refusal(name, "is no picture: send it as text")
        if len(found) > 1:
            raise _refusal(name, f"is one picture here, not {len(found)}")
    for name in PICTURE_FIELDS:
        if name in texts:
            raise _refusal(name, "is a picture: send it as a file")


def _refusal(name: str, detail: str) -> InvalidRequest:
    return InvalidRequest.of([FieldError(f"/{name}", detail)])

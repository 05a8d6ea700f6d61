"""Parts of a body: the header `Range` (RFC 9110, 14). Knows no job and no store."""

import re

from starlette.exceptions import HTTPException
from starlette.requests import Request

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)


def byte_range(request: Request, size: int, tag: str) -> range | None:
    """The bytes that a request asks for; None for all of them.

    A header that isn't understood is passed over, as one of several ranges is, and one whose
    `If-Range` names another body.

    Args:
        request: the request.
        size: of the whole body, bytes.
        tag: strong entity tag of the body.

    Raises:
        HTTPException: status 416, the body has no such bytes.
    """
    asked = _RANGE.fullmatch(request.headers.get("range", "").replace(" ", ""))
    if asked is None or asked[1] == asked[2] == "" or request.headers.get("if-range", tag) != tag:
        return None
    if asked[1]:
        start, end = int(asked[1]), int(asked[2] or size) + 1
        if asked[2] and end <= start:
            return None
    else:
        start, end = max(0, size - int(asked[2])), size
    found = range(start, min(end, size))
    if not found:
        detail = f"The body has {size} bytes, and none of those."
        raise HTTPException(416, detail, {"Content-Range": f"bytes */{size}"})
    return found

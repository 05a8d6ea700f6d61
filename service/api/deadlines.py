"""The header `Cancel-After`: a deadline beside the body, as a duration such as `90s` or `1m30s`.

Knows no job.
"""

import re

from starlette.requests import Request

from service.api.schemas import LONGEST_TIMEOUT_S
from service.errors import FieldError, InvalidRequest

POINTER = "/header/cancel-after"
_NUMBER = r"[0-9]{1,6}(\.[0-9]{1,6})?"
DURATION_PATTERN = f"^({_NUMBER}h({_NUMBER}m)?({_NUMBER}s?)?|{_NUMBER}m({_NUMBER}s?)?|{_NUMBER}s?)$"
"""Hours, minutes and seconds, each at most once and in this order; a number alone is seconds."""

_PART = re.compile(r"([0-9.]+)([hms]?)")
_SECONDS = {"h": 3600, "m": 60, "s": 1, "": 1}


def cancel_after_s(request: Request) -> float | None:
    """The duration in the header `Cancel-After`, s; None without the header.

    Raises:
        InvalidRequest: it is no duration, or none that a deadline may have.
    """
    text = request.headers.get("cancel-after")
    if text is None:
        return None
    if not re.fullmatch(DURATION_PATTERN, text):
        raise _refusal("a duration such as 60s or 1m30s")
    duration_s = sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text))
    if not 0 < duration_s <= LONGEST_TIMEOUT_S:
        raise _refusal(f"more than 0 s and at most {LONGEST_TIMEOUT_S} s")
    return duration_s


def _refusal(detail: str) -> InvalidRequest:
    return InvalidRequest.of([FieldError(POINTER, detail)])

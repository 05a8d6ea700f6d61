"""The header `Cancel-After`: a deadline beside the body, as a duration such as `90s` or `1m30s`.

Knows no job.
"""

import re

from starlette.requests import Request

from service.api.schemas import LONGEST_TIMEOUT_S
from service.errors import FieldError, InvalidRequest

DURATION_PATTERN = r"^(?=.)(\d{1,6}(\.\d{1,6})?h)?(\d{1,6}(\.\d{1,6})?m)?(\d{1,6}(\.\d{1,6})?s?)?$"
"""Hours, minutes and seconds, each at most once and in this order; a number alone is seconds."""

_DURATION = re.compile(
    r"(?=.)(?:(?P<hours>\d{1,6}(?:\.\d{1,6})?)h)?"
    r"(?:(?P<minutes>\d{1,6}(?:\.\d{1,6})?)m)?"
    r"(?:(?P<seconds>\d{1,6}(?:\.\d{1,6})?)s?)?",
    re.ASCII,
)
_SECONDS = {"hours": 3600, "minutes": 60, "seconds": 1}


def cancel_after_s(request: Request) -> float | None:
    """The duration in the header `Cancel-After`, s; None without the header.

    Raises:
        InvalidRequest: it is no duration, or none that a deadline may have.
    """
    text = request.headers.get("cancel-after")
    if text is None:
        return None
    found = _DURATION.fullmatch(text.strip().lower())
    if found is None:
        raise _refusal("a duration such as 60s or 1m30s")
    parts = found.groupdict(default="0")
    duration_s = sum(float(parts[unit]) * seconds for unit, seconds in _SECONDS.items())
    if not 0 < duration_s <= LONGEST_TIMEOUT_S:
        raise _refusal(f"more than 0 s and at most {LONGEST_TIMEOUT_S} s")
    return duration_s


def _refusal(detail: str) -> InvalidRequest:
    return InvalidRequest.of([FieldError("/header/cancel-after", detail)])

"""How a client wants its answer: the headers `Prefer` (RFC 7240) and `Accept` (RFC 9110, 12.5.1).

Both are wishes: what can't be understood is passed over and never refused. Knows no job.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from starlette.requests import Request

from service.views.words import OutputFormat

IMAGE_TYPES: Mapping[OutputFormat, str] = {
    "png": "image/png",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
}
"""What finished images are sent as; the first one is for clients that take any image."""

_PREFERENCE = re.compile(r'\s*([\w!#$%&\'*+.^`|~-]+)\s*(?:=\s*"?([^";]*)"?\s*)?(?:;.*)?', re.ASCII)
_SECONDS = re.compile(r"\d{1,6}", re.ASCII)
_HEADERS_KEPT = 64  # most clients send the same ones; each may be as long as a whole head
_QUALITY = re.compile(r"(?:0(?:\.\d{0,3})?|1(?:\.0{0,3})?)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Preferences:
    """What of `Prefer` is understood.

    Attributes:
        wait: the seconds of `wait=N` as they were written, `""` for a bare `wait`: as long as the
            server holds; None for an answer at once.
        respond_async: whether an answer before the end is wanted.
    """

    wait: str | None = None
    respond_async: bool = False

    def wait_s(self, longest_s: float) -> float:
        """How long to hold the answer."""
        if self.wait is None:
            return 0.0
        return min(float(self.wait), longest_s) if self.wait else longest_s

    def applied(self, *, finished: bool) -> dict[str, str]:
        """The header `Preference-Applied`, where something was heeded."""
        heeded = [f"wait={self.wait}" if self.wait else "wait"] if self.wait is not None else []
        if self.respond_async and not finished:
            heeded.append("respond-async")
        return {"Preference-Applied": ", ".join(heeded)} if heeded else {}


def preferences(request: Request) -> Preferences:
    """The preferences of a request; of two with the same name the first one counts."""
    return _understood(",".join(request.headers.getlist("prefer")))


@lru_cache(maxsize=_HEADERS_KEPT)
def _understood(header: str) -> Preferences:
    found: dict[str, str] = {}
    for text in header.split(","):
        match = _PREFERENCE.fullmatch(text)
        if match is not None:
            found.setdefault(match[1].lower(), (match[2] or "").strip())
    wait = found.get("wait")
    understood = wait is not None and (not wait or _SECONDS.fullmatch(wait))
    return Preferences(wait if understood else None, "respond-async" in found)


def wanted_image(request: Request) -> OutputFormat | None:
    """The format of a client that would rather have an image than JSON; None for JSON."""
    return _wanted(",".join(request.headers.getlist("accept")))


@lru_cache(maxsize=_HEADERS_KEPT)
def _wanted(header: str) -> OutputFormat | None:
    accepted = dict(_accepted(header))
    wishes = {name: _wish(accepted, media_type) for name, media_type in IMAGE_TYPES.items()}
    best = max(wishes, key=lambda name: wishes[name])
    return best if wishes[best] > _wish(accepted, "application/json") else None


def _accepted(header: str) -> Iterable[tuple[str, float]]:
    """Every media range and its quality."""
    for text in header.split(","):
        media_range, *parameters = (part.strip().lower() for part in text.split(";"))
        qualities = [value[2:].strip() for value in parameters if value.startswith("q=")]
        if all(_QUALITY.fullmatch(quality) for quality in qualities):
            yield media_range, float(qualities[0]) if qualities else 1.0


def _wish(accepted: Mapping[str, float], media_type: str) -> float:
    """The quality of the most specific range that a media type falls into."""
    kind = media_type.partition("/")[0]
    ranges = (media_type, f"{kind}/*", "*/*")
    return next((accepted[each] for each in ranges if each in accepted), 0.0)

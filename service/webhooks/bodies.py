"""What a delivery says: the job in the words of its front door, in at most 20 kB. Pure.

A body has the addresses of images and never their bytes. What makes one too long are the client's
own texts; those are cut, with a remark of how long they were.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from service.jobs import Job
from service.views.job import job_view
from service.views.links import Links
from service.views.prediction import prediction

MAX_BYTES = 20_000
_TEXT_LIMITS = (4000, 1000, 300, 80, 20)
_URL_CHARACTERS = 2048


def render(dialect: str, event: str, at_ms: int, job: Job, links: Links) -> str:
    """The body that tells of an event.

    Args:
        dialect: whose words it speaks: `native`, or `replicate`, whose body is the prediction.
        event: one of `WEBHOOK_EVENTS`.
        at_ms: Unix time of the event.
        job: as it was then.
        links: makes the URLs.
    """
    if dialect == "replicate":
        return _fitted(prediction(job, links))
    return _fitted(_native(event, at_ms, job, links))


def _native(event: str, at_ms: int, job: Job, links: Links) -> dict[str, Any]:
    moment = datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")
    return {
        "type": event,
        "timestamp": moment.replace("+00:00", "Z"),
        "data": job_view(job, links).model_dump(mode="json"),
    }


def _fitted(body: Mapping[str, Any]) -> str:
    """JSON of `body`, with its texts cut as far as it needs."""
    text = _json(body)
    for limit in _TEXT_LIMITS:
        if len(text.encode()) <= MAX_BYTES:
            break
        text = _json(_cut(body, limit))
    return text


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _cut(value: Any, limit: int) -> Any:
    if isinstance(value, str):
        return _cut_text(value, limit)
    if isinstance(value, Mapping):
        return {name: _cut(member, limit) for name, member in value.items()}
    return [_cut(member, limit) for member in value] if isinstance(value, list) else value


def _cut_text(text: str, limit: int) -> str:
    is_url = text.startswith(("https://", "http://")) and len(text) <= _URL_CHARACTERS
    if len(text) <= limit or is_url:
        return text
    return f"{text[:limit]}… (cut, of {len(text)} characters)"

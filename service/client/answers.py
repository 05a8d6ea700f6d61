"""Answers of the server, read: views of good ones, errors of the others. Pure."""

import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from service.client.errors import ApiError, UnreadableAnswer

V = TypeVar("V", bound=BaseModel)


def view_of(kind: type[V]) -> Callable[[httpx.Response], V]:
    """A reader of answers of one kind, which raises UnreadableAnswer at any other."""

    def read(response: httpx.Response) -> V:
        try:
            return kind.model_validate_json(response.content)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or "the body"
            raise UnreadableAnswer(
                f"{response.url} does not answer as this release of the client expects: "
                f"{where}: {first['msg']}."
            ) from error

    return read


def api_error(response: httpx.Response) -> ApiError:
    """What the server said, or, from a proxy that speaks no JSON, the status alone."""
    try:
        problem = response.json()
    except ValueError:
        problem = None
    if not isinstance(problem, dict):
        problem = {"title": f"{response.status_code} {response.reason_phrase}"}
    headers = response.headers
    said = headers.get("x-should-retry")
    return ApiError(
        problem,
        status=response.status_code,
        request_id=headers.get("x-request-id"),
        retry_after=_seconds(headers.get("retry-after", "")),
        should_retry=None if said is None else said.strip().lower() == "true",
    )


def _seconds(text: str) -> float | None:
    """What `Retry-After` asks for: a number of seconds, or a date."""
    text = text.strip()
    if text.isdecimal():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None

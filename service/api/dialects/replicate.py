"""Errors in the words of Replicate's API: RFC 7807, with one line for each bad field."""

import json
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, Field
from starlette.responses import Response
from starlette.types import Scope

from service.api.refusals import Refusal
from service.errors import FieldError

MEDIA_TYPE = "application/problem+json"
_TITLES = {401: "Unauthenticated", 422: "Input validation failed"}
_REQUIRED = "is required"
_BARE_STARTS = ("a ", "an ", "at most ", "between ", "in (", "more than ", "two ")
"""How details begin that say what a value must be, without saying so."""


class ReplicateProblem(BaseModel):
    """What every error below `/replicate/` looks like."""

    title: str = Field(description="the kind of error, in words")
    detail: str = Field(description="what is wrong this time; a line for each bad field")
    status: int
    type: str = Field(description="URN that names the kind of error")
    instance: str = Field(description="URN of the request that failed")


def render(refusal: Refusal, scope: Scope) -> Response:
    """The refusal as Replicate's clients read it."""
    body = {
        "title": _TITLES.get(refusal.status, refusal.title),
        "detail": _detail(refusal),
        "status": refusal.status,
        "type": f"urn:problem-type:glide:{refusal.code}",
        "instance": f"urn:request:{scope.get('state', {}).get('request_id', '')}",
    }
    headers = dict(refusal.headers)
    if refusal.accepted:
        headers["x-should-retry"] = "false"
    # ASCII, so that a broken character of the request, repeated here, can't break the answer.
    return Response(json.dumps(body), refusal.status, headers, media_type=MEDIA_TYPE)


def declared(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route for its error statuses; some are always possible."""
    schema = {"$ref": f"#/components/schemas/{ReplicateProblem.__name__}"}
    content = {MEDIA_TYPE: {"schema": schema}}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": content}
        for status in sorted({*statuses, 401, 403, 422, 429, 500, 503})
    }


def answered(
    model: type[BaseModel], *statuses: int, status: int = 200
) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that answers with `model`, and its error statuses."""
    return {status: {"model": model}, **declared(*statuses)}


def _detail(refusal: Refusal) -> str:
    if refusal.status == HTTPStatus.TOO_MANY_REQUESTS:
        seconds = refusal.headers.get("Retry-After", "1")
        return f"Request was throttled. Your rate limit resets in ~{seconds}s. {refusal.detail}"
    return "\n".join(map(_line, refusal.errors)) or refusal.detail


def _line(error: FieldError) -> str:
    """`- input.width: must be …`, as that API has it; a missing member is its owner's fault."""
    *owners, name = error.pointer.removeprefix("/").split("/")
    if error.detail == _REQUIRED and name:
        return f"- {'.'.join(owners) or 'body'}: {name} is required"
    return f"- {'.'.join([*owners, name]) or 'body'}: {_sentence(error.detail)}"


def _sentence(detail: str) -> str:
    detail = detail.replace("Input should be", "must be").rstrip(".")
    return f"must be {detail}" if detail.startswith(_BARE_STARTS) else detail

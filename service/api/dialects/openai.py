"""Errors in the words of OpenAI's API, whose clients read `error.code` and `error.param`.

They repeat a request by themselves after 408, 409, 429 and 5xx unless `x-should-retry` forbids it,
so a refusal that came after acceptance forbids it: a repetition would pay twice. Knows no route.
"""

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, Field
from starlette.responses import Response
from starlette.types import Scope

from service.api.dialects import native
from service.api.refusals import Refusal
from service.errors import FieldError

LONGEST_PAUSE_S = 60
"""Clients heed a `Retry-After` up to here, in Python up to 120 s; beyond it they don't wait so."""

_STATUSES: Mapping[int, int] = {409: 400, 422: 400}
_CODES: Mapping[str, str] = {
    "unauthenticated": "invalid_api_key",
    "rate_limited": "rate_limit_exceeded",
    "quota_exceeded": "insufficient_quota",
    "prompt_rejected": "content_policy_violation",
    "image_rejected": "content_policy_violation",
    "malformed_json": "invalid_json",
    "internal_error": "server_error",
    "service_error": "server_error",
    "job_failed": "generation_failed",
    "job_canceled": "generation_canceled",
}
_TYPES: Mapping[int, str] = {403: "permission_error", 429: "rate_limit_error"}
_FRUITLESS = frozenset({"insufficient_quota"})
_PICTURES = ("image", "mask")


class OpenAIErrorDetail(BaseModel):
    """What is wrong."""

    message: str
    type: str = Field(description="the class of error")
    param: str | None = Field(description="the bad field, where there is one")
    code: str | None = Field(description="the kind of error, for programs")


class OpenAIError(BaseModel):
    """What every error of these routes looks like."""

    error: OpenAIErrorDetail


class ModelProblem(native.Problem):
    """A problem that clients of OpenAI's API understand too."""

    error: OpenAIErrorDetail


def declared(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's `responses` of a route for its error statuses; 500 and 503 are always possible."""
    return _declared(OpenAIError, "application/json", statuses)


def declared_both(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The same, of a route that speaks both dialects at once."""
    return _declared(ModelProblem, native.MEDIA_TYPE, statuses)


def render(refusal: Refusal, scope: Scope) -> Response:
    """The refusal as OpenAI's API would word it."""
    status = _STATUSES.get(refusal.status, refusal.status)
    body = json.dumps({"error": error_of(refusal)})
    return Response(body, status, _headers(refusal, status), media_type="application/json")


def render_both(refusal: Refusal, scope: Scope) -> Response:
    """The refusal as a problem with OpenAI's member beside it, under the native status."""
    members = {**refusal.members, "error": error_of(refusal)}
    response = native.render(Refusal(**{**_fields(refusal), "members": members}), scope)
    for name, value in _headers(refusal, refusal.status).items():
        response.headers[name] = value
    return response


def error_of(refusal: Refusal) -> dict[str, Any]:
    """The member `error`, in a body as in a stream."""
    first = refusal.errors[0] if refusal.errors else None
    code = _code(refusal, first)
    return {
        "message": refusal.detail,
        "type": _type(refusal.status, code),
        "param": _param(first) if first else ("model" if code == "model_not_found" else None),
        "code": code,
    }


def _code(refusal: Refusal, first: FieldError | None) -> str:
    if first is None:
        return _CODES.get(refusal.code, refusal.code)
    if first.code == "invalid_value" and _param(first) in _PICTURES:
        return "invalid_image"
    return first.code


def _param(error: FieldError) -> str | None:
    """`/upsample/steps` is `upsample.steps`; the body itself has no name."""
    path = error.pointer.removeprefix("/").replace("/", ".")
    return path.replace("~1", "/").replace("~0", "~") or None


def _type(status: int, code: str) -> str:
    if code == "insufficient_quota":
        return code
    return _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")


def _headers(refusal: Refusal, status: int) -> dict[str, str]:
    headers = dict(refusal.headers)
    if status == HTTPStatus.SERVICE_UNAVAILABLE and "Retry-After" in headers:
        headers["Retry-After"] = str(min(int(headers["Retry-After"]), LONGEST_PAUSE_S))
    if "Retry-After" in headers:
        headers["retry-after-ms"] = str(int(headers["Retry-After"]) * 1000)
    if refusal.accepted or _CODES.get(refusal.code) in _FRUITLESS:
        headers["x-should-retry"] = "false"
    return headers


def _fields(refusal: Refusal) -> dict[str, Any]:
    return {name: getattr(refusal, name) for name in Refusal.__slots__}


def _declared(
    kind: type[BaseModel], media_type: str, statuses: tuple[int, ...]
) -> dict[int | str, dict[str, Any]]:
    content = {media_type: {"schema": {"$ref": f"#/components/schemas/{kind.__name__}"}}}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": content}
        for status in sorted({*statuses, 500, 503})
    }

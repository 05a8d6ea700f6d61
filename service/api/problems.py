"""The only file that turns errors into HTTP: every one becomes an RFC 9457 problem.

`application/problem+json` with `type, title, status, detail, code, errors, request_id`. Knows no
route; a traceback goes to the log, never to the client.
"""

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Scope

from service.errors import (
    Conflict,
    FieldError,
    InvalidRequest,
    NotFound,
    NoWorker,
    QueueFull,
    RateLimited,
    ServiceError,
    Unauthenticated,
    Unavailable,
)

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
_RETRY_AFTER_S = 5
_METHODS = ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")
_STATUSES: Mapping[type[ServiceError], int] = {
    InvalidRequest: 422,
    Unauthenticated: 401,
    NotFound: 404,
    Conflict: 409,
    RateLimited: 429,
    QueueFull: 503,
    NoWorker: 503,
    Unavailable: 503,
}
_MESSAGES = {"extra_forbidden": "there is no such field", "missing": "is required"}
_FRAMEWORK_CODES: Mapping[int, tuple[str, str]] = {
    400: ("malformed_json", "The request body is not JSON"),
    404: ("not_found", NotFound.title),
    405: ("method_not_allowed", "The method is not allowed here"),
    413: ("body_too_large", "The request body is too large"),
    415: ("unsupported_media_type", "The request body has the wrong content type"),
}


class ProblemField(BaseModel):
    """One bad field of a request."""

    pointer: str = Field(description="JSON pointer into the body; `/query/…` for a parameter")
    detail: str


class Problem(BaseModel):
    """What every error looks like (RFC 9457)."""

    type: str = Field(description="URN that names the kind of error")
    title: str = Field(description="what kind of error this is, in words")
    status: int
    detail: str = Field(description="what is wrong this time")
    code: str = Field(description="the kind of error, for programs")
    errors: list[ProblemField] = Field(description="the bad fields, where there are some")
    request_id: str = Field(description="the response's x-request-id")


def problem_response(
    scope: Scope,
    status: int,
    *,
    code: str,
    title: str,
    detail: str,
    errors: Sequence[FieldError] = (),
    headers: Mapping[str, str] | None = None,
    extension: Mapping[str, Any] | None = None,
) -> Response:
    """A problem as a response; `extension` are members beside the standard ones."""
    body = {
        "type": f"urn:problem-type:glide:{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
        "errors": [{"pointer": error.pointer, "detail": error.detail} for error in errors],
        "request_id": scope.get("state", {}).get("request_id", ""),
        **(extension or {}),
    }
    # ASCII, so that a broken character of the request, repeated here, can't break the answer.
    return Response(json.dumps(body), status, dict(headers or {}), media_type=MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Makes every error of `app` a problem."""
    app.add_exception_handler(ServiceError, _on_service_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_exception)


def internal_error(scope: Scope) -> Response:
    """The answer to a bug: a problem that shows nothing of it."""
    detail = "An error of the service's own; its log has more under the request_id."
    return problem_response(
        scope, 500, code="internal_error", title="The service failed", detail=detail
    )


def declared(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route for its error statuses; 500 and 503 are always possible."""
    schema = {"$ref": "#/components/schemas/Problem"}
    content = {MEDIA_TYPE: {"schema": schema}}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": content}
        for status in sorted({*statuses, 500, 503})
    }


def from_service_error(
    scope: Scope, error: ServiceError, extension: Mapping[str, Any] | None = None
) -> Response:
    """The problem for `error`."""
    status = next((s for kind, s in _STATUSES.items() if isinstance(error, kind)), 500)
    headers = {}
    if status in (429, 503):
        headers["Retry-After"] = str(error.retry_after_s or _RETRY_AFTER_S)
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return problem_response(
        scope,
        status,
        code=error.code,
        title=error.title,
        detail=error.detail,
        errors=error.errors if isinstance(error, InvalidRequest) else (),
        headers=headers,
        extension=extension,
    )


async def _on_service_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ServiceError)
    return from_service_error(request.scope, error)


async def _on_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    malformed = next((each for each in error.errors() if each["type"] == "json_invalid"), None)
    if malformed is not None:
        code, title = _FRAMEWORK_CODES[400]
        position = malformed["loc"][-1]
        detail = f"The body is not JSON: {malformed['ctx']['error']}, at character {position}."
        return problem_response(request.scope, 400, code=code, title=title, detail=detail)
    refusal = InvalidRequest.of(
        FieldError(_pointer(each["loc"]), _MESSAGES.get(each["type"], each["msg"]))
        for each in error.errors()
    )
    return from_service_error(request.scope, refusal)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status, headers = error.status_code, dict(error.headers or {})
    detail = str(error.detail)
    if status == 400:
        detail = "The body can't be read as JSON."
    elif status == 404:
        detail = f"There is nothing at {request.url.path}."
    elif status == 405:
        headers["Allow"] = ", ".join(sorted(_methods(request)))
        detail = f"{request.url.path} takes {headers['Allow']}, not {request.method}."
    code, title = _FRAMEWORK_CODES.get(status, ("http_error", HTTPStatus(status).phrase))
    return problem_response(
        request.scope, status, code=code, title=title, detail=detail, headers=headers
    )


def _pointer(location: Iterable[int | str]) -> str:
    """A JSON pointer (RFC 6901) from where the validation found the error."""
    source, *members = location
    prefix = "" if source == "body" else f"/{source}"
    escaped = (str(member).replace("~", "~0").replace("/", "~1") for member in members)
    return prefix + "".join(f"/{member}" for member in escaped)


def _methods(request: Request) -> set[str]:
    """Every method that the path of `request` takes, over all routes."""
    scopes = {method: {**request.scope, "method": method} for method in _METHODS}
    return {
        method
        for method, scope in scopes.items()
        for route in request.app.routes
        if route.matches(scope)[0] == Match.FULL
    }

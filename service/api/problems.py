"""The only file that turns errors into HTTP: a status, headers, and a body in the path's dialect.

Knows no route; a traceback goes to the log, never to the client.
"""

import dataclasses
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from service.api.dialects import huggingface, native, openai, replicate
from service.api.methods import allowed_methods
from service.api.refusals import Refusal
from service.errors import (
    Conflict,
    FieldCode,
    FieldError,
    Forbidden,
    ImageRejected,
    InvalidRequest,
    JobCanceled,
    KeyReused,
    NotFound,
    NoWorker,
    PromptRejected,
    QueueFull,
    RateLimited,
    ServiceError,
    Unauthenticated,
    Unavailable,
    Unmeetable,
)
from service.jobs import Job

log = logging.getLogger(__name__)

_RETRY_AFTER_S = 5
_STATUSES: Mapping[type[ServiceError], int] = {
    InvalidRequest: 422,
    Unauthenticated: 401,
    NotFound: 404,
    Forbidden: 403,
    Conflict: 409,
    KeyReused: 422,
    PromptRejected: 422,
    ImageRejected: 422,
    JobCanceled: 409,
    RateLimited: 429,
    Unmeetable: 503,
    QueueFull: 503,
    NoWorker: 503,
    Unavailable: 503,
}
_MESSAGES = {
    "extra_forbidden": "there is no such field",
    "missing": "is required",
    "model_type": "must be a JSON object",
    "model_attributes_type": "must be a JSON object",
}
_FIELD_CODES: Mapping[str, FieldCode] = {
    "extra_forbidden": "unknown_parameter",
    "missing": "missing_required_parameter",
    "steps": "invalid_type",
}
_FRAMEWORK_CODES: Mapping[int, tuple[str, str]] = {
    400: ("malformed_json", "The request body is not JSON"),
    404: ("not_found", NotFound.title),
    405: ("method_not_allowed", "The method is not allowed here"),
    408: ("body_too_slow", "The request body came too slowly"),
    413: ("body_too_large", "The request body is too large"),
    415: ("unsupported_media_type", "The request body has the wrong content type"),
    416: ("range_not_satisfiable", "There are no such bytes"),
}
_REFUSED_BY_POLICY = frozenset({PromptRejected.code, ImageRejected.code})

Render = Callable[[Refusal, Scope], Response]
_DIALECTS: tuple[tuple[str, Render], ...] = (
    ("/v1/images/generations", openai.render),
    ("/v1/images/edits", openai.render),
    ("/v1/images/variations", openai.render),
    ("/v1/models", openai.render_both),
    ("/hf/", huggingface.render),
    ("/replicate/", replicate.render),
)
"""Who speaks below which path; the native dialect speaks everywhere else."""


def respond(refusal: Refusal, scope: Scope) -> Response:
    """The refusal in the dialect of the path that was asked for."""
    if scope.get("state", {}).get("accepted"):
        refusal = dataclasses.replace(refusal, accepted=True)
    path = str(scope["path"])
    speaks = (render for prefix, render in _DIALECTS if path.startswith(prefix))
    return next(speaks, native.render)(refusal, scope)


def install(app: FastAPI) -> None:
    """Makes every error of `app` a problem."""
    for kind, handler in _HANDLERS.items():
        app.add_exception_handler(kind, handler)


async def answer_to(request: Request, error: Exception) -> Response | None:
    """The answer to an error, wherever it was raised; None for a bug."""
    for kind, handler in _HANDLERS.items():
        if isinstance(error, kind):
            return await handler(request, error)
    return None


def internal_error(scope: Scope) -> Response:
    """The answer to a bug: a problem that shows nothing of it."""
    detail = "An error of the service's own; its log has more under the request_id."
    refusal = Refusal(status=500, code="internal_error", title="The service failed", detail=detail)
    return respond(refusal, scope)


def declared(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route for its error statuses; 500 and 503 are always possible."""
    schema = {"$ref": "#/components/schemas/Problem"}
    content = {native.MEDIA_TYPE: {"schema": schema}}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": content}
        for status in sorted({*statuses, 500, 503})
    }


def refusal_of(error: ServiceError) -> Refusal:
    """What the client of a failed request is told."""
    status = next((s for kind, s in _STATUSES.items() if isinstance(error, kind)), 500)
    headers = {}
    if status in (429, 503):
        headers["Retry-After"] = str(error.retry_after_s or _RETRY_AFTER_S)
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return Refusal(
        status=status,
        code=error.code,
        title=error.title,
        detail=error.detail,
        errors=error.errors if isinstance(error, InvalidRequest) else (),
        members=error.members,
        headers=headers,
    )


def invalid_request(found: Iterable[Mapping[str, Any]]) -> InvalidRequest:
    """What the validation found, as the one error for bad fields.

    Args:
        found: `errors()` of pydantic's or FastAPI's exception; places begin with their source,
            such as `body`.
    """
    return InvalidRequest.of(
        FieldError(
            _pointer(each["loc"]),
            _message(each, code),
            code,
        )
        for each in found
        for code in [_field_code(each["type"], each["input"])]
    )


def refusal_of_job(job: Job) -> Refusal:
    """What a client is told that waits for images of a job that ended without them."""
    if job.failure is not None:
        status = 422 if job.failure.code in _REFUSED_BY_POLICY else 500
        code, detail = job.failure.code, job.failure.detail
        members: dict[str, Any] = {"retryable": job.failure.retryable}
    else:
        late = job.deadline_at_ms is not None and (job.finished_at_ms or 0) >= job.deadline_at_ms
        status = 504 if late else 409
        code, detail = "canceled", f"The job was canceled: {job.cancel_reason}."
        members = {"cancel_reason": job.cancel_reason}
    title = "The job ended without its images"
    members = {"job_id": job.id, **members}
    return Refusal(
        status=status, code=code, title=title, detail=detail, members=members, accepted=True
    )


async def _on_service_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ServiceError)
    return respond(refusal_of(error), request.scope)


async def _on_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    malformed = next((each for each in error.errors() if each["type"] == "json_invalid"), None)
    if malformed is not None:
        code, title = _FRAMEWORK_CODES[400]
        position = malformed["loc"][-1]
        detail = f"The body is not JSON: {malformed['ctx']['error']}, at character {position}."
        refusal = Refusal(status=400, code=code, title=title, detail=detail)
        return respond(refusal, request.scope)
    return respond(refusal_of(invalid_request(error.errors())), request.scope)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status, headers = error.status_code, dict(error.headers or {})
    detail = str(error.detail)
    if status == 400:
        detail = "The body can't be read as JSON."
    elif status == 404:
        detail = f"There is nothing at {request.url.path}."
    elif status == 405:
        headers["Allow"] = ", ".join(allowed_methods(request))
        if request.method == "OPTIONS":
            return Response(status_code=204, headers=headers)
        detail = f"{request.url.path} takes {headers['Allow']}, not {request.method}."
    code, title = _FRAMEWORK_CODES.get(status, ("http_error", HTTPStatus(status).phrase))
    refusal = Refusal(status=status, code=code, title=title, detail=detail, headers=headers)
    return respond(refusal, request.scope)


def _message(found: Mapping[str, Any], code: FieldCode) -> str:
    """What is wrong with a field; pydantic counts a text's characters as items, and we don't."""
    if code == "string_above_max_length":
        return f"at most {found['ctx']['max_length']} characters"
    return _MESSAGES.get(found["type"], str(found["msg"]))


def _field_code(kind: str, value: object) -> FieldCode:
    """The kind of a mistake that the validation found."""
    if kind.endswith("too_long") and isinstance(value, str):
        return "string_above_max_length"
    named = _FIELD_CODES.get(kind)
    return named or ("invalid_type" if kind.endswith("_type") else "invalid_value")


def _pointer(location: Iterable[int | str]) -> str:
    """A JSON pointer (RFC 6901) from where the validation found the error."""
    source, *members = location
    prefix = "" if source == "body" else f"/{source}"
    escaped = (str(member).replace("~", "~0").replace("/", "~1") for member in members)
    return prefix + "".join(f"/{member}" for member in escaped)


_HANDLERS: Mapping[type[Exception], Callable[[Request, Exception], Awaitable[Response]]] = {
    ServiceError: _on_service_error,
    RequestValidationError: _on_validation_error,
    HTTPException: _on_http_exception,
}

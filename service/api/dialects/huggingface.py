"""Errors in the words of Hugging Face's inference endpoints: `{"error": "a sentence"}`.

Their JavaScript client repeats a request after 503 at once and without end, so that status is never
sent. Knows no route.
"""

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, Field
from starlette.responses import Response
from starlette.types import Scope

from service.api.refusals import Refusal

_INSTEAD: Mapping[str, int] = {"queue_full": 429, "no_worker": 429, "deadline_unmeetable": 429}
"""What is sent instead of 503, by code: 429 where waiting helps, else 500."""


class HuggingFaceError(BaseModel):
    """What every error of these routes looks like."""

    error: str = Field(description="what is wrong, in a sentence")
    code: str = Field(description="the kind of error, for programs")


def declared(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's `responses` of a route for its error statuses; 500 is always possible."""
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/HuggingFaceError"}}}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": content}
        for status in sorted({*statuses, 500})
    }


def render(refusal: Refusal, scope: Scope) -> Response:
    """The refusal as a Hugging Face endpoint would word it."""
    status = refusal.status
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        status = _INSTEAD.get(refusal.code, 500)
    headers = dict(refusal.headers)
    if refusal.accepted:
        headers["x-should-retry"] = "false"
    body = json.dumps({"error": refusal.detail, "code": refusal.code})
    return Response(body, status, headers, media_type="application/json")

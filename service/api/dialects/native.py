"""Errors in the native API's words: `application/problem+json` (RFC 9457)."""

import json

from pydantic import BaseModel, Field
from starlette.responses import Response
from starlette.types import Scope

from service.api.refusals import Refusal

MEDIA_TYPE = "application/problem+json"


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


def render(refusal: Refusal, scope: Scope) -> Response:
    """The refusal as a problem."""
    body = {
        "type": f"urn:problem-type:glide:{refusal.code}",
        "title": refusal.title,
        "status": refusal.status,
        "detail": refusal.detail,
        "code": refusal.code,
        "errors": [{"pointer": each.pointer, "detail": each.detail} for each in refusal.errors],
        "request_id": scope.get("state", {}).get("request_id", ""),
        **refusal.members,
    }
    headers = dict(refusal.headers)
    if refusal.accepted:
        headers["x-should-retry"] = "false"
    # ASCII, so that a broken character of the request, repeated here, can't break the answer.
    return Response(json.dumps(body), refusal.status, headers, media_type=MEDIA_TYPE)

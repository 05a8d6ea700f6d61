"""What OpenAPI is told of the routes of jobs where FastAPI can't see it. Knows no request."""

from typing import Any

from service.api.deadlines import DURATION_PATTERN
from service.api.idempotency import KEY_PATTERN
from service.api.pictures import PICTURE_FIELDS
from service.api.preferences import IMAGE_TYPES
from service.views.job import JobView

_JOB_CREATE = {"$ref": "#/components/schemas/JobCreate"}
_BYTES = {"schema": {"type": "string", "format": "binary"}}
IMAGE_CONTENT = dict.fromkeys(IMAGE_TYPES.values(), _BYTES)

SUBMISSION_BODY = {
    "required": True,
    "content": {
        "application/json": {"schema": _JOB_CREATE},
        "multipart/form-data": {
            "schema": _JOB_CREATE,
            "encoding": {name: {"contentType": "text/plain, image/*"} for name in PICTURE_FIELDS},
        },
    },
}


def _header(name: str, description: str, **schema: Any) -> dict[str, Any]:
    schema = {"type": "string", **schema}
    return {"name": name, "in": "header", "description": description, "schema": schema}


SUBMISSION_HEADERS = [
    _header("Prefer", "`wait=N`: answer when done, or in N s; `respond-async`: at once"),
    _header("Idempotency-Key", "a repetition with it gets the first job", pattern=KEY_PATTERN),
    _header("Cancel-After", "as `timeout_seconds`: 60s, 1m30s", pattern=DURATION_PATTERN),
]


def _said(description: str, kind: str = "string") -> dict[str, Any]:
    return {"description": description, "schema": {"type": kind}}


_LOCATION = {"Location": _said("path of the job")}
_POLLED = {"Retry-After": _said("seconds until it is worth looking again", "integer")}

ACCEPTED: dict[str, Any] = {
    "description": "accepted; poll `Location`",
    "headers": {**_LOCATION, **_POLLED},
}
FINISHED: dict[str, Any] = {
    "model": JobView,
    "description": "finished within `Prefer: wait`; with `Accept: image/*` its first image, and "
    "the others in `Link`",
    "content": IMAGE_CONTENT,
    "headers": {**_LOCATION, "X-Seed": _said("of the image", "integer")},
}


def declare_parameters_as_text(document: dict[str, Any]) -> None:
    """Takes null out of the parameters of an OpenAPI document: one that is left out isn't sent."""
    operations = (operation for path in document["paths"].values() for operation in path.values())
    for operation in operations:
        for parameter in operation.get("parameters", ()):
            schema = parameter["schema"]
            kinds = [kind for kind in schema.pop("anyOf", ()) if kind != {"type": "null"}]
            parameter["schema"] = {**kinds[0], **schema} if len(kinds) == 1 else schema
            if len(kinds) > 1:
                schema["anyOf"] = kinds


UNCHANGED = {"description": "as the `If-None-Match` has it"}

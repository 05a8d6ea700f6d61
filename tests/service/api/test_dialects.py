"""Refusals in every dialect, as far as no request can bring them about easily."""

import json
from typing import Any

import pytest
from starlette.responses import Response

from service.api.dialects import huggingface, openai
from service.api.problems import refusal_of
from service.errors import (
    Conflict,
    FieldError,
    Forbidden,
    ImageRejected,
    InvalidRequest,
    JobCanceled,
    JobError,
    KeyReused,
    ModelNotFound,
    NotFound,
    PromptRejected,
    QueueFull,
    QuotaExceeded,
    RateLimited,
    ServiceError,
    Unauthenticated,
    Unavailable,
    Unmeetable,
)

SCOPE: dict[str, Any] = {"state": {"request_id": "r"}}


def body(response: Response) -> Any:
    return json.loads(bytes(response.body))


@pytest.mark.parametrize(
    ("error", "status", "kind", "code"),
    [
        (Unauthenticated(""), 401, "invalid_request_error", "invalid_api_key"),
        (Forbidden(""), 403, "permission_error", "forbidden"),
        (NotFound(""), 404, "invalid_request_error", "not_found"),
        (ModelNotFound(""), 404, "invalid_request_error", "model_not_found"),
        (InvalidRequest(""), 400, "invalid_request_error", "invalid_request"),
        (Conflict(""), 400, "invalid_request_error", "conflict"),
        (KeyReused(""), 400, "invalid_request_error", "idempotency_key_reused"),
        (JobCanceled(""), 400, "invalid_request_error", "generation_canceled"),
        (PromptRejected(""), 400, "invalid_request_error", "content_policy_violation"),
        (ImageRejected(""), 400, "invalid_request_error", "content_policy_violation"),
        (RateLimited(""), 429, "rate_limit_error", "rate_limit_exceeded"),
        (QuotaExceeded(""), 429, "insufficient_quota", "insufficient_quota"),
        (JobError(""), 500, "server_error", "generation_failed"),
        (ServiceError(""), 500, "server_error", "server_error"),
        (QueueFull(""), 503, "server_error", "queue_full"),
    ],
)
def test_openais_clients_get_a_class_and_a_code(
    error: ServiceError, status: int, kind: str, code: str
) -> None:
    response = openai.render(refusal_of(error), SCOPE)
    told = body(response)["error"]
    assert (response.status_code, told["type"], told["code"]) == (status, kind, code)


def test_openais_clients_are_never_told_a_conflict_which_they_would_repeat() -> None:
    for error in (Conflict(""), KeyReused(""), JobCanceled("")):
        assert openai.render(refusal_of(error), SCOPE).status_code not in (408, 409)


def test_a_pause_that_openais_client_would_not_wait_is_cut_for_a_crowded_service_alone() -> None:
    crowded = openai.render(refusal_of(QueueFull("", retry_after_s=500)), SCOPE)
    limited = openai.render(refusal_of(RateLimited("", retry_after_s=500)), SCOPE)
    assert (crowded.headers["retry-after"], crowded.headers["retry-after-ms"]) == ("60", "60000")
    assert (limited.headers["retry-after"], limited.headers["retry-after-ms"]) == ("500", "500000")


def test_a_field_is_named_as_a_path() -> None:
    error = InvalidRequest.of([FieldError("/metadata/a~1b", "too long", "invalid_type")])
    told = body(openai.render(refusal_of(error), SCOPE))["error"]
    assert (told["param"], told["code"]) == ("metadata.a/b", "invalid_type")
    whole = InvalidRequest.of([FieldError("", "is a JSON object", "invalid_type")])
    assert body(openai.render(refusal_of(whole), SCOPE))["error"]["param"] is None


def test_the_models_speak_both_dialects() -> None:
    response = openai.render_both(refusal_of(ModelNotFound("There is none.")), SCOPE)
    assert response.headers["content-type"] == "application/problem+json"
    told = body(response)
    assert (told["code"], told["detail"], told["request_id"]) == (
        "model_not_found",
        "There is none.",
        "r",
    )
    assert (told["error"]["code"], told["error"]["param"]) == ("model_not_found", "model")
    assert told["error"]["message"] == "There is none."


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (QueueFull(""), 429),
        (Unmeetable(""), 429),
        (Unavailable(""), 500),
        (InvalidRequest(""), 422),
        (Unauthenticated(""), 401),
    ],
)
def test_hugging_faces_clients_get_a_sentence_and_never_a_503(
    error: ServiceError, status: int
) -> None:
    response = huggingface.render(refusal_of(error), SCOPE)
    assert response.status_code == status
    assert isinstance(body(response)["error"], str)

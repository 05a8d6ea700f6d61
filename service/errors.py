"""Every error the service raises; `api/problems.py` alone turns them into HTTP.

ServiceError
├── InvalidRequest     a request that can't be accepted, with a pointer for each bad field
│   └── DeadlineTooShort   even an idle service can't meet its deadline
├── Unauthenticated    no key, or a wrong one
├── Forbidden          a key that may not do this
├── NotFound           no such job, image or model
│   └── ModelNotFound      no such model
├── Conflict           the request contradicts the state of things
├── KeyReused          an idempotency key that stands for another request
├── Unmeetable         a deadline that can't be met just now
├── RateLimited        this client must wait
│   └── QuotaExceeded      it has used up its quota
├── QueueFull          the queue is at its bound
├── NoWorker           no live worker can serve this
├── Unavailable        Redis or the store can't be reached just now
└── JobError           a job that was accepted and failed
    ├── PromptRejected     the prompt is refused by policy
    ├── ImageRejected      the finished image is refused by policy
    ├── ImageUnchecked     retryable: the check of finished images failed
    ├── InputLost          a picture to start from is gone or damaged
    ├── JobCanceled        it was stopped before its end
    ├── OutOfMemory        retryable on a worker with room
    ├── WorkerLost         retryable: its worker died or was cut off
    └── Timeout            the job's own deadline passed
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

FieldCode = Literal[
    "invalid_value",
    "invalid_type",
    "missing_required_parameter",
    "string_above_max_length",
    "unknown_parameter",
]
"""The kinds of mistakes in a field, in the words that programs already know from OpenAI's API."""


@dataclass(frozen=True, slots=True)
class FieldError:
    """One bad field: a JSON pointer into the request, a sentence, and the kind of mistake."""

    pointer: str
    detail: str
    code: FieldCode = "invalid_value"


class ServiceError(Exception):
    """What the world can break inside `service`; its text is fit to show to the client.

    `retry_after_s` is when to try again; `members` are facts for programs, shown beside the text.
    """

    code: str = "service_error"
    title: ClassVar[str] = "The service failed"
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        detail: str,
        *,
        retry_after_s: int | None = None,
        members: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after_s = retry_after_s
        self.members = dict(members or {})


class InvalidRequest(ServiceError):
    """A request that can't be accepted."""

    code = "invalid_request"
    title = "The request is not valid"

    def __init__(
        self,
        detail: str,
        *,
        errors: Sequence[FieldError] = (),
        members: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail, members=members)
        self.errors = tuple(errors)

    @classmethod
    def of(cls, errors: Iterable[FieldError]) -> Self:
        """A refusal whose text names every bad field."""
        found = tuple(errors)
        sentence = "; ".join(f"{error.pointer or 'the body'}: {error.detail}" for error in found)
        return cls(f"{sentence}.", errors=found)


class DeadlineTooShort(InvalidRequest):
    """Even an idle service can't meet the deadline; `members` has the predicted finish."""

    code = "deadline_too_short"
    title = "The deadline is too short"


class Unauthenticated(ServiceError):
    """No API key, or one that is not known."""

    code = "unauthenticated"
    title = "Authentication is required"


class Forbidden(ServiceError):
    """A known client that may not do this."""

    code = "forbidden"
    title = "This is not allowed"


class NotFound(ServiceError):
    """No such job, image or model."""

    code = "not_found"
    title = "There is no such thing"


class ModelNotFound(NotFound):
    """No such model."""

    code = "model_not_found"
    title = "There is no such model"


class Conflict(ServiceError):
    """The request contradicts the state of what it is about."""

    code = "conflict"
    title = "The request conflicts with the state of things"


class KeyReused(ServiceError):
    """An idempotency key that stands for another request."""

    code = "idempotency_key_reused"
    title = "The idempotency key stands for another request"


class Unmeetable(ServiceError):
    """A deadline that can't be met just now; `members` has the predicted finish."""

    code = "deadline_unmeetable"
    title = "The deadline can't be met"
    retryable = True


class RateLimited(ServiceError):
    """This client must wait."""

    code = "rate_limited"
    title = "Too many requests"
    retryable = True


class QuotaExceeded(RateLimited):
    """This client has used up its quota."""

    code = "quota_exceeded"
    title = "The quota is used up"


class QueueFull(ServiceError):
    """The queue is at its bound."""

    code = "queue_full"
    title = "The queue is full"
    retryable = True


class NoWorker(ServiceError):
    """No live worker can serve this."""

    code = "no_worker"
    title = "No worker can serve this"
    retryable = True


class Unavailable(ServiceError):
    """Redis or the image store can't be reached just now; nothing was accepted."""

    code = "unavailable"
    title = "The service is unavailable"
    retryable = True


class JobError(ServiceError):
    """A job that was accepted and failed."""

    code = "job_failed"
    title = "The job failed"


class PromptRejected(JobError):
    """The prompt is refused by policy."""

    code = "prompt_rejected"
    title = "The prompt was rejected"


class ImageRejected(JobError):
    """A finished image is refused by policy."""

    code = "image_rejected"
    title = "The image was rejected"


class ImageUnchecked(JobError):
    """The operator's check of finished images failed, so that the image can't be shown."""

    code = "image_unchecked"
    title = "The image could not be checked"
    retryable = True


class InputLost(JobError):
    """A picture that the job starts from is no longer in the store, or is damaged there."""

    code = "input_lost"
    title = "A picture to start from is lost"


class JobCanceled(JobError):
    """The job was stopped by its client, by its deadline, or because nobody waited any more."""

    code = "job_canceled"
    title = "The job was canceled"


class OutOfMemory(JobError):
    """The device has no room for this job just now."""

    code = "out_of_memory"
    title = "Out of memory"
    retryable = True


class WorkerLost(JobError):
    """The job's worker died or was cut off."""

    code = "worker_lost"
    title = "The worker was lost"
    retryable = True


class Timeout(JobError):
    """The job's own deadline passed."""

    code = "timeout"
    title = "The deadline passed"

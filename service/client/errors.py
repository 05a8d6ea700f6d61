"""What can go wrong between a client and its server. Knows no connection."""

from collections.abc import Mapping
from typing import Any

from service.errors import FieldError, JobError, ServiceError
from service.views.job import JobView


class ApiError(ServiceError):
    """The server refused; its text is what the server said.

    Attributes:
        status: of the HTTP response.
        code: the kind of error, as docs/api.md lists them; `api_error` from a proxy without one.
        errors: the bad fields.
        request_id: names the request in the server's log.
        retry_after: when to ask again, s; None where the server doesn't say.
        should_retry: what the server says of asking again; None where it says nothing.
        problem: all that it said (RFC 9457).
    """

    code = "api_error"
    title = "The server refused"

    def __init__(
        self,
        problem: Mapping[str, Any],
        *,
        status: int,
        request_id: str | None = None,
        retry_after: float | None = None,
        should_retry: bool | None = None,
    ) -> None:
        reason = problem.get("detail") or problem.get("title") or "no reason given"
        super().__init__(str(reason), members=problem)
        self.problem = dict(problem)
        self.status = status
        self.code = str(problem.get("code", self.code))
        self.errors = _field_errors(problem.get("errors"))
        self.request_id = request_id
        self.retry_after = retry_after
        self.should_retry = should_retry


class UnreadableAnswer(ServiceError):
    """The server's answer is not what this release of the client can read."""

    code = "unreadable_answer"
    title = "The answer can't be read"


class JobFailed(JobError):
    """A job ended without all its images; `job` is its record, `code` its failure's."""

    code = "job_failed"
    title = "The job did not succeed"

    def __init__(self, job: JobView) -> None:
        reason = job.error.detail if job.error else job.cancel_reason
        super().__init__(f"The job is {job.status}: {reason or 'no reason given'}")
        self.job = job
        self.code = job.error.code if job.error else job.status.value


def _field_errors(found: object) -> tuple[FieldError, ...]:
    """The bad fields, as far as they can be read."""
    members = [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
    return tuple(
        FieldError(str(each.get("pointer", "")), str(each.get("detail", ""))) for each in members
    )

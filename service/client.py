"""A client of the HTTP API, for the command line, benchmarks and end-to-end tests.

Jobs and errors are the JSON that the server sends. What may be asked twice without harm is asked
again, with growing pauses, while the server can't be reached or answers 502, 503 or 504: reading,
and cancelling. A submission is sent again only if no connection came about.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import httpx

from service.errors import ServiceError, Unavailable

JobRecord = dict[str, Any]

_TRANSIENT = frozenset({502, 503, 504})
_LONG_POLL_S = 30.0
_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 5.0
_FINAL = frozenset({"succeeded", "failed", "canceled"})


class ApiError(ServiceError):
    """The server refused: `problem` is what it said (RFC 9457), `status` the HTTP status."""

    code = "api_error"
    title = "The server refused"

    def __init__(self, problem: Mapping[str, Any]) -> None:
        super().__init__(str(problem.get("detail") or problem.get("title") or "no reason given"))
        self.problem = dict(problem)
        self.status = int(problem.get("status", 0))


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One event of a job's stream; `id` resumes after it."""

    id: str
    name: str
    data: dict[str, Any]


class GlideClient:
    """Talks to one server; use it in a `with` block or close it.

    Args:
        base_url: such as `http://127.0.0.1:8000`.
        timeout_s: for a connection, and for an answer beyond the time it was asked to wait.
        attempts: how often a request is sent at most.
        sleep: how pauses are made.
    """

    def __init__(
        self,
        base_url: str,
        *,
        timeout_s: float = 30.0,
        attempts: int = 6,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._http = httpx.Client(base_url=base_url, timeout=timeout_s)
        self._timeout_s = timeout_s
        self._attempts = attempts
        self._sleep = sleep

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def submit(self, request: Mapping[str, Any]) -> JobRecord:
        """Queues a job.

        Raises:
            ApiError: the request was refused.
            Unavailable: the server can't be reached.
        """
        return _json(self._send("POST", "/v1/jobs", idempotent=False, json=dict(request)))

    def upload(self, picture: bytes) -> JobRecord:
        """Keeps a picture; its `id` may be a job's `image` or `mask`. Raises as `submit` does."""
        headers = {"Content-Type": "application/octet-stream"}
        return _json(self._send("POST", "/v1/images", content=picture, headers=headers))

    def get(self, job_id: str, *, wait_s: float = 0.0) -> JobRecord:
        """A job, at once or when it is final, after at most `wait_s`; raises as `submit` does."""
        query = {"wait": wait_s} if wait_s else {}
        timeout = wait_s + self._timeout_s
        return _json(self._send("GET", f"/v1/jobs/{job_id}", params=query, timeout=timeout))

    def wait(self, job_id: str) -> JobRecord:
        """A job when it is final; raises as `submit` does."""
        while True:
            job = self.get(job_id, wait_s=_LONG_POLL_S)
            if job["status"] in _FINAL:
                return job

    def jobs(self, *, limit: int = 20, status: str | None = None) -> Iterator[JobRecord]:
        """All jobs, newest first, fetched `limit` at a time; raises as `submit` does."""
        query: dict[str, Any] = {"limit": limit} | ({"status": status} if status else {})
        while True:
            page = _json(self._send("GET", "/v1/jobs", params=query))
            yield from page["data"]
            if not page["has_more"]:
                return
            query["cursor"] = page["next_cursor"]

    def cancel(self, job_id: str) -> JobRecord:
        """Stops a job, or leaves a final one as it is; raises as `submit` does."""
        return _json(self._send("POST", f"/v1/jobs/{job_id}/cancel"))

    def image(self, job_id: str, index: int) -> bytes:
        """Finished image `index` of a job; raises as `submit` does."""
        return self._send("GET", f"/v1/jobs/{job_id}/images/{index}").content

    def models(self) -> list[dict[str, Any]]:
        """Every model of the server; raises as `submit` does."""
        models: list[dict[str, Any]] = _json(self._send("GET", "/v1/models"))["data"]
        return models

    def events(self, job_id: str, *, after: str | None = None) -> Iterator[ServerEvent]:
        """The events of a job to its end; a broken connection resumes after the last of them.

        Args:
            job_id: whose events.
            after: id of the last event already seen.

        Raises:
            ApiError: there is no such job.
            Unavailable: the server can't be reached, `attempts` times in a row.
        """
        failures = 0
        while True:
            try:
                for event in self._stream(job_id, after):
                    failures, after = 0, event.id
                    yield event
                    if event.name == "end":
                        return
            except (httpx.TransportError, ApiError) as error:
                if isinstance(error, ApiError) and error.status not in _TRANSIENT:
                    raise
                failures += 1
                if failures >= self._attempts:
                    raise self._unreachable(error) from error
            if after == "end":
                return
            self._sleep(_pause_s(failures))

    def _stream(self, job_id: str, after: str | None) -> Iterator[ServerEvent]:
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": after} if after else {})
        path = f"/v1/jobs/{job_id}/events"
        with self._http.stream("GET", path, headers=headers) as response:
            if response.is_error:
                response.read()
                raise _api_error(response)
            yield from _parse(response.iter_lines())

    def _send(
        self, method: str, path: str, *, idempotent: bool = True, **options: Any
    ) -> httpx.Response:
        for attempt in range(1, self._attempts + 1):
            last = attempt == self._attempts
            try:
                response = self._http.request(method, path, **options)
            except httpx.TransportError as error:
                if last or not (idempotent or isinstance(error, httpx.ConnectError)):
                    raise self._unreachable(error) from error
                self._sleep(_pause_s(attempt))
                continue
            if not response.is_error:
                return response
            if last or not idempotent or response.status_code not in _TRANSIENT:
                raise _api_error(response)
            self._sleep(_retry_after_s(response) or _pause_s(attempt))
        raise AssertionError("the last attempt returns or raises")

    def _unreachable(self, error: Exception) -> Unavailable:
        why = str(error) or type(error).__name__
        return Unavailable(f"the server at {self._http.base_url} can't be reached: {why}")


def _json(response: httpx.Response) -> dict[str, Any]:
    record: dict[str, Any] = response.json()
    return record


def _api_error(response: httpx.Response) -> ApiError:
    """What the server said, or, from a proxy that speaks no JSON, the status alone."""
    try:
        problem = response.json()
    except ValueError:
        problem = None
    if not isinstance(problem, dict):
        problem = {"title": response.reason_phrase}
    return ApiError({"status": response.status_code, **problem})


def _pause_s(attempt: int) -> float:
    return min(_FIRST_PAUSE_S * 2.0 ** max(attempt - 1, 0), _LONGEST_PAUSE_S)


def _retry_after_s(response: httpx.Response) -> float | None:
    asked = response.headers.get("retry-after", "")
    return min(float(asked), _LONGEST_PAUSE_S) if asked.isdecimal() else None


def _parse(lines: Iterator[str]) -> Iterator[ServerEvent]:
    """Events from the lines of a stream; comments and blocks without data are skipped."""
    block: dict[str, str] = {}
    for line in lines:
        if not line:
            if "data" in block:
                name, data = block.get("event", "message"), json.loads(block["data"])
                yield ServerEvent(block.get("id", ""), name, data)
            block = {}
            continue
        field, _, value = line.partition(":")
        if field:
            value = value.removeprefix(" ")
            joins = field == "data" and field in block
            block[field] = f"{block[field]}\n{value}" if joins else value

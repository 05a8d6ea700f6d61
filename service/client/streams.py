"""The events of a job, made of the lines of a stream, and where to resume it. Pure."""

import json
from typing import Any

import httpx
from pydantic import TypeAdapter, ValidationError

from service.client.calls import Call, path_of
from service.client.errors import UnreadableAnswer
from service.views.event import JobEvent

_END = "end"
_EVENT: TypeAdapter[JobEvent] = TypeAdapter(JobEvent)


class Follower:
    """Reads the stream of one job over as many connections as it takes.

    Args:
        job_id: whose events.
        after: id of the last event already seen.
        previews: whether previews are wanted.
    """

    def __init__(self, job_id: str, *, after: str | None, previews: bool) -> None:
        self._job_id = job_id
        self._after = after
        self._previews = previews
        self._block: dict[str, str] = {}

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self._after == _END

    def connect(self) -> Call[httpx.Response]:
        """The request for all events after the last one; a half-read event is forgotten."""
        self._block = {}
        resume = {} if self._after is None else {"Last-Event-ID": self._after}
        return Call(
            method="GET",
            path=f"{path_of(self._job_id)}/events",
            read=lambda response: response,
            query={} if self._previews else {"previews": "false"},
            headers={"Accept": "text/event-stream", **resume},
        )

    def feed(self, line: str) -> JobEvent | None:
        """The event that a line completes; None where it completes none that is known here.

        Raises:
            UnreadableAnswer: it is no event of a job.
        """
        if line:
            self._take(line)
            return None
        block, self._block = self._block, {}
        event = _event(block) if "data" in block else None
        self._after = block.get("id", self._after)
        return event

    def _take(self, line: str) -> None:
        name, _, value = line.partition(":")
        if name:  # else it is a comment
            value = value.removeprefix(" ")
            joins = name == "data" and name in self._block
            self._block[name] = f"{self._block[name]}\n{value}" if joins else value


def _event(block: dict[str, str]) -> JobEvent | None:
    try:
        data: Any = json.loads(block["data"])
        return _EVENT.validate_python({**data, "id": block.get("id")})
    except ValidationError as error:
        if error.errors()[0]["type"] == "union_tag_invalid":
            return None  # a newer server knows more kinds of events
        raise UnreadableAnswer(
            f"The event {block.get('event')!r} can't be read: {error}"
        ) from error
    except (ValueError, TypeError) as error:
        raise UnreadableAnswer(f"The event {block.get('event')!r} is no JSON object.") from error

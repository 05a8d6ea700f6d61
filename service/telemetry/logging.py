"""Log lines: one event with fields on each, as JSON or as text. Knows nothing of who logs.

`logger.info("job accepted", extra={"model": "scenes"})` gives an event and its fields; `bound`
adds fields, such as a job's id, to every line logged within it. A caption is logged at DEBUG only.
"""

import contextlib
import json
import logging
import sys
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, TextIO

from service.settings import LogSettings

_BOUND: ContextVar[Mapping[str, object]] = ContextVar("bound_fields", default={})  # noqa: B039
_RECORD_MEMBERS = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime"}
# uvicorn adds a copy of the message with terminal colours.
_UNWANTED = frozenset({"color_message"})
_LEVELS_OF_LIBRARIES = {"httpx": "WARNING", "httpcore": "WARNING", "uvicorn.access": "WARNING"}


@contextlib.contextmanager
def bound(**fields: object) -> Iterator[None]:
    """Adds `fields` to every line that this thread or task logs inside the `with` block."""
    token = _BOUND.set({**_BOUND.get(), **fields})
    try:
        yield
    finally:
        _BOUND.reset(token)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: `time`, `level`, `logger`, `event`, then the fields."""

    def format(self, record: logging.LogRecord) -> str:
        """The line for `record`."""
        line: dict[str, Any] = {
            "time": _rfc3339(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class TextFormatter(logging.Formatter):
    """A line for people: time, level, event, `name=value` for each field."""

    def format(self, record: logging.LogRecord) -> str:
        """The line for `record`."""
        fields = "".join(f" {name}={_quoted(value)}" for name, value in _fields(record).items())
        time = _rfc3339(record.created)[11:23]
        line = f"{time} {record.levelname:<7} {_one_line(record.getMessage())}{fields}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


def configure_logging(settings: LogSettings, stream: TextIO | None = None) -> None:
    """Sends every line of the process to `stream` (standard error), replacing earlier handlers."""
    stream = sys.stderr if stream is None else stream
    as_text = settings.format == "text" or (settings.format == "auto" and stream.isatty())
    handler = logging.StreamHandler(stream)
    handler.setFormatter(TextFormatter() if as_text else JsonFormatter())
    handler.addFilter(_bind)
    logging.basicConfig(handlers=[handler], level=settings.level, force=True)
    for name, level in _LEVELS_OF_LIBRARIES.items():
        logging.getLogger(name).setLevel(level)


def _bind(record: logging.LogRecord) -> bool:
    for name, value in _BOUND.get().items():
        record.__dict__.setdefault(name, value)
    return True


def _fields(record: logging.LogRecord) -> dict[str, object]:
    foreign = record.__dict__.keys() - _RECORD_MEMBERS - _UNWANTED
    return {name: record.__dict__[name] for name in record.__dict__ if name in foreign}


def _quoted(value: object) -> str:
    text = str(value)
    return text if text.isprintable() and text and " " not in text else json.dumps(text)


def _one_line(text: str) -> str:
    return text.replace("\r", "\\r").replace("\n", "\\n")


def _rfc3339(time_s: float) -> str:
    moment = datetime.fromtimestamp(time_s, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")

"""Log lines: one event with fields on each, as JSON or as text. Knows nothing of who logs.

`logger.info("job accepted", extra={"model": "scenes"})` gives an event and its fields; `bound`
adds fields, such as a job's id, to every line logged within it. A caption is logged at DEBUG only.
"""

import asyncio
import contextlib
import json
import logging
import sys
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, TextIO

from service.settings import LogSettings

_BOUND: ContextVar[Mapping[str, object]] = ContextVar("bound_fields", default={})  # noqa: B039
# No fields: what every record has, and uvicorn's copy of the message with terminal colours.
_NO_FIELDS = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "color_message"}
_ENCODER = json.JSONEncoder(default=str)  # `json.dumps` with a default makes one for each call
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
        return _ENCODER.encode(line)


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


class GatheringHandler(logging.StreamHandler[TextIO]):
    """Writes the lines of one turn of an event loop with one system call.

    A line logged outside a loop, and an error anywhere, is written at once, after what waits; so is
    what waits when the process ends. Only a process that is killed loses its last turn's lines.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._waiting: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Takes a record; `handle` holds the lock."""
        try:
            self._waiting.append(self.format(record))
            if record.levelno >= logging.ERROR:
                self.flush()
            elif len(self._waiting) == 1:
                self._flush_soon()
        except Exception:  # noqa: BLE001 (as every handler of `logging` does)
            self.handleError(record)

    def flush(self) -> None:
        """Writes what waits; `logging` asks for it when the process ends."""
        with self.lock or contextlib.nullcontext():
            waiting, self._waiting = self._waiting, []
            if waiting:
                self.stream.write("\n".join(waiting) + "\n")
            super().flush()

    def _flush_soon(self) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.flush()
        else:
            loop.call_soon(self.flush)


def configure_logging(
    settings: LogSettings, stream: TextIO | None = None, *, gathered: bool = False
) -> None:
    """Sends every line of the process to `stream`, replacing earlier handlers.

    Args:
        settings: level and format.
        stream: where to; None: standard error.
        gathered: lines of one turn of an event loop are written together.
    """
    stream = sys.stderr if stream is None else stream
    as_text = settings.format == "text" or (settings.format == "auto" and stream.isatty())
    handler = (GatheringHandler if gathered else logging.StreamHandler)(stream)
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
    return {name: value for name, value in record.__dict__.items() if name not in _NO_FIELDS}


def _quoted(value: object) -> str:
    text = str(value)
    return text if text.isprintable() and text and " " not in text else json.dumps(text)


def _one_line(text: str) -> str:
    return text.replace("\r", "\\r").replace("\n", "\\n")


def _rfc3339(time_s: float) -> str:
    second, milliseconds = divmod(int(time_s * 1000), 1000)
    return f"{_rfc3339_to_the_second(second)}.{milliseconds:03d}Z"


@lru_cache(maxsize=1)
def _rfc3339_to_the_second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")

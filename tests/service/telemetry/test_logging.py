import asyncio
import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator

import pytest

from service.settings import LogSettings
from service.telemetry.logging import bound, configure_logging

log = logging.getLogger("tests.logging")


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield io.StringIO()
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_json_line_carries_its_event_and_its_fields(stream: io.StringIO) -> None:
    configure_logging(LogSettings(format="json"), stream)
    with bound(job_id="job_1", attempt=1), bound(attempt=2):
        log.info("step\ndone", extra={"rows": 8})
    log.info("later")
    first, second = (json.loads(line) for line in stream.getvalue().splitlines())
    assert first.pop("time").endswith("Z")
    assert first == {
        "level": "info",
        "logger": "tests.logging",
        "event": "step\ndone",
        "rows": 8,
        "job_id": "job_1",
        "attempt": 2,
    }
    assert "job_id" not in second


def test_a_text_line_can_not_be_forged_by_its_fields(stream: io.StringIO) -> None:
    configure_logging(LogSettings(format="text"), stream)
    log.warning("a\nb", extra={"word": "c\n00:00 ERROR d", "plain": "e"})
    (line,) = stream.getvalue().splitlines()
    assert line.endswith(r'WARNING a\nb word="c\n00:00 ERROR d" plain=e')


def test_lines_below_the_level_are_dropped(stream: io.StringIO) -> None:
    configure_logging(LogSettings(format="json", level="WARNING"), stream)
    log.info("quiet")
    assert stream.getvalue() == ""


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_traceback_reaches_the_log(stream: io.StringIO, form: str) -> None:
    configure_logging(LogSettings.model_validate({"format": form}), stream)
    try:
        raise ZeroDivisionError("by nought")
    except ZeroDivisionError:
        log.exception("broken")
    assert "ZeroDivisionError: by nought" in stream.getvalue()


def test_auto_means_json_where_no_terminal_is(stream: io.StringIO) -> None:
    configure_logging(LogSettings(), stream)
    log.info("event")
    assert json.loads(stream.getvalue())["event"] == "event"


class CountingStream(io.StringIO):
    writes = 0

    def write(self, text: str) -> int:
        self.writes += 1
        return super().write(text)


def test_lines_of_one_turn_of_the_loop_are_written_together() -> None:
    stream = CountingStream()
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    configure_logging(LogSettings(format="json"), stream, gathered=True)

    async def turns() -> None:
        log.info("first")
        log.info("second")
        assert stream.writes == 0
        await asyncio.sleep(0)
        assert stream.writes == 1
        log.info("third")
        log.error("told at once")
        assert stream.writes == 2

    try:
        asyncio.run(turns())
        log.info("outside")
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    events = [json.loads(line)["event"] for line in stream.getvalue().splitlines()]
    assert events == ["first", "second", "third", "told at once", "outside"]
    assert stream.writes == 3


ENDS_WITHIN_A_TURN = """
import asyncio, logging, sys
from service.settings import LogSettings
from service.telemetry.logging import configure_logging

configure_logging(LogSettings(format="json"), gathered=True)

async def main():
    logging.getLogger("tests").info("last words")
    {end}

asyncio.run(main())
"""


@pytest.mark.parametrize("end", ["sys.exit(3)", "raise ZeroDivisionError", "return"])
def test_a_process_that_ends_loses_no_line(end: str) -> None:
    command = [sys.executable, "-c", ENDS_WITHIN_A_TURN.format(end=end)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert '"event": "last words"' in ended.stderr

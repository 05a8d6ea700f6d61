import io
import json
import logging
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

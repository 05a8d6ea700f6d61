"""What surrounds every request: its id, its log line. Knows no route.

Plain ASGI, so that an event stream passes through piece by piece.
"""

import logging
import random
import re
import time

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.problems import internal_error
from service.telemetry.logging import bound

log = logging.getLogger(__name__)

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}", re.ASCII)
_LOOKING = frozenset({"GET", "HEAD"})
_REFUSED = 400
_QUIET_PATHS = frozenset({"/healthz", "/readyz"})


class RequestContext:
    """Gives every request an id, echoes it, logs one line, and answers for bugs.

    Whatever a route or a dependency puts into `request.state.headers` goes with the response, be it
    an answer or a refusal.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves a request within its context."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started_s = time.perf_counter()
        request_id = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        status: int | None = None

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = request_id
                for name, value in scope["state"].get("headers", {}).items():
                    headers.setdefault(name, value)
                headers.append("server-timing", _timing(started_s))
            await send(message)

        with bound(request_id=request_id):
            try:
                await self._app(scope, receive, send_with_id)
            except ClientDisconnect:
                log.debug("client gone")  # in the middle of its body; nobody reads an answer
            except Exception:
                log.exception("request failed", extra={"method": scope["method"]})
                if status is not None:
                    raise  # half an answer is out; only closing the connection tells the client
                await internal_error(scope)(scope, receive, send_with_id)
            finally:
                _log_request(scope, status, time.perf_counter() - started_s)


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            asked: str = value.decode("latin-1")
            if _REQUEST_ID.fullmatch(asked):
                return asked
            break
    return new_request_id()


def new_request_id() -> str:
    """A name for a request that brings none."""
    return f"{random.getrandbits(128):032x}"  # no secret: it needs no system call


def _timing(started_s: float) -> str:
    """The time until the head of an answer, ms; a route may have said before where a job's went."""
    return f"total;dur={1000 * (time.perf_counter() - started_s):.1f}"


def _log_request(scope: Scope, status: int | None, seconds: float) -> None:
    """One line a request, with what a route has to say of it; who only looked is told at DEBUG."""
    looked = scope["method"] in _LOOKING and status is not None and status < _REFUSED
    level = logging.DEBUG if looked or scope["path"] in _QUIET_PATHS else logging.INFO
    if not log.isEnabledFor(level):
        return
    route = getattr(scope.get("route"), "path", None)
    state = scope.get("state", {})
    fields = {
        "method": scope["method"],
        "route": route or "none",
        "status": status or 0,
        "seconds": round(seconds, 4),
        **({"key_id": state["key_id"]} if "key_id" in state else {}),
        **state.get("logged", {}),
    }
    log.log(level, "request", extra=fields)

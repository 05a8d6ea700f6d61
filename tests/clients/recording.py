"""Tells a test what a client really sent: every request, as it reached the application."""

import threading
from dataclasses import dataclass, field

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A request, its path also as it was spelled, and the status of its answer.

    The status is 0 where the client went before there was one.
    """

    method: str
    path: str
    raw_path: str
    headers: Headers
    status: int


@dataclass(eq=False)
class Recorder:
    """Every answered request, oldest first. Several threads may look."""

    requests: list[Seen] = field(default_factory=list)
    _news: threading.Condition = field(default_factory=threading.Condition)

    def around(self, app: ASGIApp) -> ASGIApp:
        """`app`, recorded."""

        async def recorded(scope: Scope, receive: Receive, send: Send) -> None:
            status = 0

            async def send_and_note(message: Message) -> None:
                nonlocal status
                if message["type"] == "http.response.start":
                    status = message["status"]
                    self._note(scope, status)
                await send(message)

            await app(scope, receive, send_and_note)
            if scope["type"] == "http" and not status:
                self._note(scope, 0)

        return recorded

    def posts(self, path: str) -> list[Seen]:
        """The POSTs to a path."""
        return [seen for seen in self.requests if (seen.method, seen.path) == ("POST", path)]

    def wait_for(self, status: int) -> None:
        """Returns once something was answered with `status`."""
        with self._news:
            self._news.wait_for(lambda: any(seen.status == status for seen in self.requests))

    def _note(self, scope: Scope, status: int) -> None:
        with self._news:
            seen = Seen(
                method=scope["method"],
                path=scope["path"],
                raw_path=scope["raw_path"].decode(),
                headers=Headers(scope=scope),
                status=status,
            )
            self.requests.append(seen)
            self._news.notify_all()

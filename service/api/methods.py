"""The methods that every route has without declaring them: HEAD where GET is, OPTIONS everywhere.

Plain ASGI, so that it works for every route, whoever adds it. Knows no job.
"""

import asyncio

from starlette.requests import Request
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_METHODS = ("DELETE", "GET", "PATCH", "POST", "PUT")


class HeadRequests:
    """Answers HEAD as GET would be answered, without the body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves a request."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return
        answered = asyncio.Event()

        async def send_head(message: Message) -> None:
            if answered.is_set():
                return
            if message["type"] == "http.response.body":
                answered.set()
                message = {"type": "http.response.body", "body": b"", "more_body": False}
            await send(message)

        # The body may be a stream without end, so nobody waits for it.
        asked = {**scope, "method": "GET"}

        async def get() -> None:
            await self._app(asked, receive, send_head)

        getting = asyncio.create_task(get())
        ended = asyncio.create_task(answered.wait())
        await asyncio.wait({getting, ended}, return_when=asyncio.FIRST_COMPLETED)
        for task in (getting, ended):
            task.cancel()
        results = await asyncio.gather(getting, ended, return_exceptions=True)
        scope["route"] = asked.get("route")  # for the log
        if isinstance(results[0], Exception):
            raise results[0]


def allowed_methods(request: Request) -> list[str]:
    """Every method that the path of `request` takes, over all routes, sorted."""
    scopes = {method: {**request.scope, "method": method} for method in _METHODS}
    found = {
        method
        for method, scope in scopes.items()
        for route in request.app.routes
        if route.matches(scope)[0] == Match.FULL
    }
    return sorted(found | {"OPTIONS"} | ({"HEAD"} if "GET" in found else set()))

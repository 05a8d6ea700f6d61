"""A short way to the endpoints that are asked most: submitting a job, and looking at one.

FastAPI's routing and resolution of dependencies cost more than a poll does. A `DirectRoute` is
declared like any other, so it stands in the API's description, but its endpoint takes the request
alone, reads its parameters itself, and says in `openapi_extra` what they are. `DirectLane` leads to
such routes past everything else; whatever another method or path asks for goes the usual way.
"""

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.auth import Principal, authenticate

Endpoint = Callable[[Request], Awaitable[Response]]
Answer = Callable[[Request, Exception], Awaitable[Response | None]]


class DirectRoute(APIRoute):
    """Asks for a key, as every route does, and calls its endpoint."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """What serves a request."""
        return self.answer

    async def answer(self, request: Request) -> Response:
        """The endpoint's answer to whoever may ask."""
        request.state.principal = await authenticate(request)
        endpoint: Endpoint = self.endpoint
        return await endpoint(request)


class DirectLane:
    """Serves direct routes itself and passes on all else.

    Args:
        app: serves what is passed on.
        routes: of which the direct ones are served here.
        on_error: the answer to an error of an endpoint; None lets it rise.
    """

    def __init__(self, app: ASGIApp, routes: Sequence[BaseRoute], on_error: Answer) -> None:
        self._app = app
        self._routes = [route for route in routes if isinstance(route, DirectRoute)]
        self._on_error = on_error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves a request."""
        if scope["type"] == "http":
            for route in self._routes:
                match, found = route.matches(scope)
                if match is Match.FULL:
                    scope.update(found)
                    scope["route"] = route
                    response = await self._response(route, Request(scope, receive, send))
                    await response(scope, receive, send)
                    return
        await self._app(scope, receive, send)

    async def _response(self, route: DirectRoute, request: Request) -> Response:
        try:
            return await route.answer(request)
        except Exception as error:
            refusal = await self._on_error(request, error)
            if refusal is None:
                raise
            return refusal


def principal_of(request: Request) -> Principal:
    """Who sent a request of a direct route."""
    principal: Principal = request.state.principal
    return principal

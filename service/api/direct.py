"""Routes that answer without FastAPI's resolution of dependencies, for what is asked most often.

Resolving a handful of dependencies costs more than a submission or a poll does. Such an endpoint
takes the request alone, reads its parameters itself, and says in `openapi_extra` what they are.
"""

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from service.api.auth import Principal, authenticate
from service.api.services import services_of

Endpoint = Callable[[Request], Awaitable[Response]]


class DirectRoute(APIRoute):
    """Asks for a key, as every route does, and calls its endpoint."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """What serves a request."""
        endpoint: Endpoint = self.endpoint

        async def answer(request: Request) -> Response:
            request.state.principal = await authenticate(request, services_of(request))
            return await endpoint(request)

        return answer


def principal_of(request: Request) -> Principal:
    """Who sent a request of a direct route."""
    principal: Principal = request.state.principal
    return principal

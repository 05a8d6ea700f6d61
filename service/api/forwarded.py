"""What proxies say of a request: who sent it, and by which address. Knows no route.

Only what comes from a trusted address counts. uvicorn's middleware reads `X-Forwarded-For` and
`-Proto`; `-Host` and `-Prefix` are read here.
"""

import re

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

OWN_HOST = "own_host"
"""Where a request's state keeps the `Host` that a forwarded one stands for."""

_HOST = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?", re.ASCII)
_PREFIX = re.compile(r"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~-]{1,64}){1,8}", re.ASCII)


class ForwardedHeaders:
    """Puts the client's own view of a request in the place of the proxy's.

    The prefix is what the proxy took off the path; it comes back in every link.

    Args:
        app: what is served.
        trusted: addresses and networks of proxies; `*`: all.
    """

    def __init__(self, app: ASGIApp, trusted: tuple[str, ...]) -> None:
        hosts = "*" if "*" in trusted else list(trusted)
        self._direct = app
        self._app = ProxyHeadersMiddleware(app, trusted_hosts=hosts)  # type: ignore[arg-type]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves a request as its client sent it."""
        if not any(name.startswith(b"x-forwarded-") for name, _ in scope.get("headers", ())):
            await self._direct(scope, receive, send)
            return
        client = scope.get("client")
        if scope["type"] == "http" and client and client[0] in self._app.trusted_hosts:
            headers = Headers(scope=scope)
            host = headers.get("x-forwarded-host", "").partition(",")[0].strip()
            if _HOST.fullmatch(host):
                scope.setdefault("state", {})[OWN_HOST] = headers.get("host", "")
                MutableHeaders(scope=scope)["host"] = host
            prefix = headers.get("x-forwarded-prefix", "").strip().rstrip("/")
            if _PREFIX.fullmatch(prefix):
                scope["root_path"] = prefix
        await self._app(scope, receive, send)  # type: ignore[arg-type]

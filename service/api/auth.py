"""Who asks: from a request's key to the principal that it stands for.

Every route asks for a key unless it says `openapi_extra=NO_KEY`. Until there is a first key the
server is open, but to this machine alone, unless the settings open it to everybody.
"""

import ipaddress
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import Depends, Request

from service.api.forwarded import OWN_HOST
from service.api.services import Services, services_of
from service.api_keys import Allowance, ApiKey, is_intact
from service.errors import Unauthenticated

NO_KEY: dict[str, Any] = {"security": []}
"""The `openapi_extra` of a route that asks for no key, or verifies a signature of its own."""
_SCHEMES = frozenset({"bearer", "token"})
_SECURITY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "header": {"type": "apiKey", "in": "header", "name": "x-api-key"},
}
_HOW_TO_CREATE = "`glide keys create --tenant NAME` on the server makes one"


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Whoever sent a request.

    Attributes:
        tenant: whose jobs it sees.
        key_id: of its API key; None where the server is open.
        rate: requests that create jobs, for this key.
        quota: images, for this key.
    """

    tenant: str = "default"
    key_id: str | None = None
    rate: Allowance | None = None
    quota: Allowance | None = None


async def authenticate(request: Request) -> Principal:
    """The principal of a request.

    Raises:
        Unauthenticated: its key is wrong, or missing where one is needed.
        Unavailable: the keys are not known yet, since Redis can't be reached.
    """
    if _asks_for_no_key(request):
        return Principal()
    services = services_of(request)
    ring = await services.api_keys.ring()
    text = _key_text(request)
    if text:
        key = ring.find(_intact(text), int(time.time() * 1000))
        if key is None:
            raise Unauthenticated("The API key is not known here, or is revoked.")
        request.state.key_id = key.id
        return _principal(key)
    if not ring.is_empty:
        raise Unauthenticated(
            f"Send an API key, as `Authorization: Bearer glide_sk_…`; {_HOW_TO_CREATE}."
        )
    if not (services.settings.api.open or _is_local(request, services)):
        raise Unauthenticated(
            "Without API keys the server answers its own machine alone, as localhost: create a key "
            f"({_HOW_TO_CREATE}), or open it to everybody with GLIDE_API__OPEN=true."
        )
    return Principal()


PrincipalDep = Annotated[Principal, Depends(authenticate)]


def describe(document: dict[str, Any]) -> None:
    """Adds to an OpenAPI document how keys are sent, and that they may be refused."""
    document["components"]["securitySchemes"] = _SECURITY_SCHEMES
    document["security"] = [{name: []} for name in _SECURITY_SCHEMES]
    problem = {"schema": {"$ref": "#/components/schemas/Problem"}}
    refused = {
        "description": "Unauthorized",
        "content": {"application/problem+json": problem},
        "headers": {"WWW-Authenticate": {"schema": {"type": "string"}}},
    }
    for path in document["paths"].values():
        for operation in path.values():
            if operation.get("security") != []:
                operation["responses"].setdefault("401", refused)


def _asks_for_no_key(request: Request) -> bool:
    extra = getattr(request.scope.get("route"), "openapi_extra", None) or {}
    return extra.get("security") == []


def _key_text(request: Request) -> str:
    """The key as it was sent; empty where there is none.

    Raises:
        Unauthenticated: it was sent in another way.
    """
    sent = request.headers.getlist("authorization")
    fallback = request.headers.get("x-api-key", "").strip()
    if not any(each.strip() for each in sent):
        return fallback
    scheme, _, text = sent[0].strip().partition(" ")
    if len(sent) == 1 and scheme.lower() in _SCHEMES:
        return text.strip() or fallback
    if fallback:
        return fallback  # the other header speaks to a proxy
    raise Unauthenticated("Send the API key once, as `Authorization: Bearer glide_sk_…`.")


def _intact(text: str) -> str:
    if not is_intact(text):
        raise Unauthenticated(
            "This is no API key of this service, or it was mistyped: a key is `glide_sk_` and 49 "
            "letters and digits, the last of which are a checksum."
        )
    return text


def _principal(key: ApiKey) -> Principal:
    return Principal(tenant=key.tenant, key_id=key.id, rate=key.rate, quota=key.quota)


def _is_local(request: Request, services: Services) -> bool:
    """Whether the client is surely on this machine, and means it.

    A page of another origin may give a name of its own this machine's address, and ask through its
    reader's browser (DNS rebinding); the name that it asked for gives it away.
    """
    if not _means_this_machine(request, services):
        return False
    if "*" in services.settings.api.trusted_proxies and "x-forwarded-for" in request.headers:
        return False  # anybody may have written it
    return request.client is not None and _is_loopback(request.client.host)


def _means_this_machine(request: Request, services: Services) -> bool:
    asked = getattr(request.state, OWN_HOST, None) or request.headers.get("host", "")
    host = _hostname(asked)
    public = urlsplit(services.settings.public_url or "").hostname
    return host in ("localhost", public) or host.endswith(".localhost") or _is_loopback(host)


@lru_cache(maxsize=64)
def _hostname(host: str) -> str:
    """`Host` without its port; empty where it is none."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


@lru_cache(maxsize=64)
def _is_loopback(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback

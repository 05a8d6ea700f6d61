"""One POST to a client's server: to an address that was checked, and never anywhere else.

The name is resolved, every address of it is checked, and the connection goes to one of those, with
the name for TLS and the Host header: a name that resolves otherwise a moment later changes nothing.
Each call has a connection of its own, so nothing of one client's server reaches another's. Knows
neither jobs nor deliveries.
"""

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from typing import Protocol

import httpx

from service.addresses import AddressRefused, Endpoint, read_endpoint, require_callable

READ_BYTES, _READ_S = 1024, 2.0
"""So much of a refusal is read, for the log, and for so long."""
_ADDRESSES_TRIED = 4
_ERROR_CHARACTERS = 200
_LONGEST_RETRY_AFTER_S = 86_400.0


class Resolve(Protocol):
    """Finds the IP addresses of a name, in the order in which to try them."""

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """The addresses; raises OSError or UnicodeError when there are none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of a call.

    Attributes:
        duration_s: until the answer, or the failure.
        status: of the answer; None when there was none.
        error: why it is no success.
        retry_after_s: the pause that the answer asks for.
        response: the start of an answer that is no success.
    """

    duration_s: float
    status: int | None = None
    error: str | None = None
    retry_after_s: float | None = None
    response: str | None = None


class SystemResolver:
    """Asks the system, in threads of its own: a slow name server holds up no other work."""

    def __init__(self, threads: int) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="resolve")

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """The addresses of `host`."""
        found = await asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        )
        return [str(address[0]) for *_, address in found]

    def close(self) -> None:
        """Lets the threads end; waits for none."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class Caller:
    """Calls clients' servers.

    Args:
        resolve: finds the addresses of a name; asked again for every call.
        timeout_s: longest call, from the name to the answer.
        allow_private: whether private addresses and plain http are allowed.
        tls: who is trusted; None: the usual authorities.
        clock: Unix time, for dates in answers.
    """

    def __init__(
        self,
        resolve: Resolve,
        *,
        timeout_s: float,
        allow_private: bool,
        tls: ssl.SSLContext | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._resolve, self._clock = resolve, clock
        self._timeout_s, self._allow_private = timeout_s, allow_private
        self._tls = tls or httpx.create_ssl_context()

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Posts `body`; failures of every kind are answers, too."""
        started_s = time.monotonic()
        try:
            async with contextlib.AsyncExitStack() as stack:
                async with asyncio.timeout(self._timeout_s):
                    response = await self._open(stack, url, headers, body)
                return await self._read(response, time.monotonic() - started_s)
        except TimeoutError:
            error = f"no answer within {self._timeout_s:g} s"
        except AddressRefused as refused:
            error = str(refused)
        except (httpx.HTTPError, httpx.InvalidURL) as failed:
            error = f"{type(failed).__name__}: {failed}"
        except (OSError, UnicodeError) as failed:
            error = f"the name can't be resolved: {failed}"
        return Answer(duration_s=time.monotonic() - started_s, error=error[:_ERROR_CHARACTERS])

    async def _open(
        self,
        stack: contextlib.AsyncExitStack,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
    ) -> httpx.Response:
        """The answer with its body unread; `stack` closes the connection."""
        endpoint = read_endpoint(url, allow_private=self._allow_private)
        addresses = await self._checked(endpoint)
        client = await stack.enter_async_context(
            httpx.AsyncClient(
                verify=self._tls,
                trust_env=False,
                follow_redirects=False,
                timeout=httpx.Timeout(self._timeout_s, connect=self._timeout_s / len(addresses)),
            )
        )
        response = await _first(client, endpoint, addresses, headers, body)
        stack.push_async_callback(response.aclose)
        return response

    async def _checked(self, endpoint: Endpoint) -> Sequence[str]:
        """The addresses of a host, of which every single one may be called."""
        addresses = list(dict.fromkeys(await self._resolve(endpoint.host, endpoint.port)))
        if not addresses:
            raise AddressRefused("the name has no address")
        for address in addresses:
            require_callable(ip_address(address), allow_private=self._allow_private)
        return addresses[:_ADDRESSES_TRIED]

    async def _read(self, response: httpx.Response, duration_s: float) -> Answer:
        status = response.status_code
        if response.is_success:
            return Answer(duration_s=duration_s, status=status)
        moved = " and redirects are not followed" if response.is_redirect else ""
        return Answer(
            duration_s=duration_s,
            status=status,
            error=f"answered {status}{moved}",
            retry_after_s=_retry_after_s(response.headers.get("retry-after"), self._clock()),
            response=await start_of(response),
        )


async def _first(
    client: httpx.AsyncClient,
    endpoint: Endpoint,
    addresses: Sequence[str],
    headers: Mapping[str, str],
    body: bytes,
) -> httpx.Response:
    """The answer of the first address that can be connected to."""
    *spare, last = addresses
    for address in spare:
        with contextlib.suppress(httpx.ConnectError, httpx.ConnectTimeout):
            return await client.send(_request(endpoint, address, headers, body), stream=True)
    return await client.send(_request(endpoint, last, headers, body), stream=True)


def _request(
    endpoint: Endpoint, address: str, headers: Mapping[str, str], body: bytes
) -> httpx.Request:
    shown = f"[{address}]" if ":" in address else address
    return httpx.Request(
        "POST",
        f"{endpoint.scheme}://{shown}:{endpoint.port}{endpoint.target}",
        headers={"host": endpoint.authority, "accept-encoding": "identity", **headers},
        content=body,
        extensions={"sni_hostname": endpoint.host},
    )


async def start_of(response: httpx.Response) -> str | None:
    """The first bytes of a body, as far as they come soon; reads no more of it."""
    data = b""
    with contextlib.suppress(httpx.HTTPError, TimeoutError):
        async with asyncio.timeout(_READ_S):
            async for part in response.aiter_raw(READ_BYTES):
                data += part
                if len(data) >= READ_BYTES:
                    break
    return data[:READ_BYTES].decode(errors="replace") or None


def _retry_after_s(header: str | None, now_s: float) -> float | None:
    """The pause that a `Retry-After` asks for: seconds, or a date; None for anything else."""
    text = (header or "").strip()
    if text.isascii() and text.isdigit():
        pause_s = float(text[:9])
    else:
        try:
            pause_s = parsedate_to_datetime(text).timestamp() - now_s
        except (ValueError, OverflowError):
            return None
    return min(max(pause_s, 0.0), _LONGEST_RETRY_AFTER_S)

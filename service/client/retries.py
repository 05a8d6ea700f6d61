"""When a request is sent again, after which pause, and when not. Pure; `tenacity` does the rest."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from tenacity import RetryCallState, retry_if_exception, stop_after_attempt
from tenacity.wait import wait_exponential, wait_random

from service.client.errors import ApiError
from service.errors import Unavailable

_TRANSIENT = frozenset({408, 429, 502, 503, 504})
_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_OUR_MISTAKE = (httpx.UnsupportedProtocol, httpx.LocalProtocolError)
_BACKOFF = wait_exponential(multiplier=0.2, max=5.0) + wait_random(0.0, 0.2)


@dataclass(frozen=True, slots=True)
class Patience:
    """How hard the client tries.

    Attributes:
        attempts: how often a request is sent at most.
        longest_pause_s: a server that asks for a longer pause is not asked again.
    """

    attempts: int
    longest_pause_s: float

    def rules(self, *, repeatable: bool) -> dict[str, Any]:
        """What `tenacity` is told of a request.

        Args:
            repeatable: it may be sent again though the server may have heard it.
        """
        return {
            "stop": stop_after_attempt(self.attempts),
            "wait": _pause_s,
            "retry": retry_if_exception(lambda error: self._helps(error, repeatable)),
            "reraise": True,
        }

    def _helps(self, error: BaseException, repeatable: bool) -> bool:
        """Whether another attempt may succeed, and does no harm."""
        if isinstance(error, _NEVER_SENT):
            return True
        if not repeatable or isinstance(error, _OUR_MISTAKE):
            return False
        if isinstance(error, ApiError):
            in_time = (error.retry_after or 0.0) <= self.longest_pause_s
            return in_time and error.should_retry is not False and error.status in _TRANSIENT
        return isinstance(error, httpx.TransportError)


@contextmanager
def reported(base_url: httpx.URL) -> Iterator[None]:
    """Turns what a connection breaks with into one sentence.

    Raises:
        Unavailable: the server can't be reached.
    """
    try:
        yield
    except httpx.TransportError as error:
        why = str(error) or type(error).__name__
        raise Unavailable(f"The server at {base_url} can't be reached: {why}") from error


def _pause_s(state: RetryCallState) -> float:
    """As long as the server asks for, else a growing time."""
    error = state.outcome.exception() if state.outcome else None
    asked_s = error.retry_after if isinstance(error, ApiError) else None
    return _BACKOFF(state) if asked_s is None else asked_s

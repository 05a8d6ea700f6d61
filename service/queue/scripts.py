"""Loads the transitions of `lua/`: what they share goes between a file's first line and the rest.

Knows neither a client nor what the transitions do.
"""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files

from service.settings import QueueSettings

TRANSITIONS = (
    "submit",
    "lease",
    "renew",
    "event",
    "image",
    "finish",
    "fail",
    "release",
    "cancel",
    "delete",
    "limit",
    "abandon",
    "announce",
    "maintain",
    "look",
    "webhook_claim",
    "webhook_freeze",
    "webhook_log",
    "webhook_redeliver",
    "webhook_secrets",
    "webhook_settle",
)

SHARED = (
    "words",
    "events",
    "counters",
    "fairness",
    "estimate",
    "outbox",
    "lifecycle",
    "maintenance",
)
"""Files of `lua/shared/`, each of which may use those before it."""


@cache
def sources() -> Mapping[str, str]:
    """The full Lua text of every transition, by name."""
    folder = files("service.queue") / "lua"
    prelude = "\n".join((folder / "shared" / f"{name}.lua").read_text() for name in SHARED)
    return {
        name: (folder / f"{name}.lua").read_text().replace("\n", f"\n{prelude}", 1)
        for name in TRANSITIONS
    }


def milliseconds(seconds: float) -> int:
    """Whole milliseconds, at least one."""
    return max(1, round(seconds * 1000))


def times(settings: QueueSettings) -> dict[str, int]:
    """The times, ms, that transitions of leases and of maintenance ask for.

    A worker is present for as long as it may miss three announcements, and no shorter than a lease.
    After an outage its owners have two heartbeats to renew.
    """
    return {
        "lease_ms": milliseconds(settings.lease_s),
        "grace_ms": milliseconds(2 * settings.heartbeat_s),
        "presence_ms": milliseconds(max(3 * settings.heartbeat_s, settings.lease_s)),
    }

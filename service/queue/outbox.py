"""The outbox: what clients' own servers are to be told, and the secrets that sign it.

The transitions that move jobs fill it (`lua/shared/outbox.lua`); a sender drains it. Knows no HTTP.
"""

import base64
import secrets
from dataclasses import dataclass
from typing import Any, Protocol

from service.queue.keys import quoted
from service.queue.scripts import milliseconds

OVERLAP_S = 86_400.0
"""For so long after a rotation the former secret signs beside the new one."""
_SECRET_BYTES = 32


class Run(Protocol):
    """Runs one transition of `lua/` by name."""

    async def __call__(self, transition: str, **arguments: Any) -> Any:
        """What the transition returns.

        Raises:
            Unavailable: Redis can't be reached.
        """


@dataclass(frozen=True, slots=True)
class WebhookSecrets:
    """What signs a tenant's deliveries.

    Attributes:
        newest: `whsec_` and 32 random bytes in padded standard base64.
        previous: the one before the last rotation, while it still signs.
        previous_ends_at_ms: Unix time until when it does.
    """

    newest: str
    previous: str | None = None
    previous_ends_at_ms: int | None = None

    @property
    def signing(self) -> tuple[str, ...]:
        """All that sign now, the newest first."""
        return (self.newest, self.previous) if self.previous else (self.newest,)


class Outbox:
    """The outbox of one queue."""

    def __init__(self, run: Run) -> None:
        self._run = run

    async def secrets(self, tenant: str) -> WebhookSecrets:
        """A tenant's secrets; the first question makes one."""
        return _secrets(
            await self._run("webhook_secrets", tenant=quoted(tenant), fresh=_new_secret())
        )

    async def rotate_secret(self, tenant: str) -> WebhookSecrets:
        """Gives a tenant a new secret; its former one signs on for `OVERLAP_S`."""
        answer = await self._run(
            "webhook_secrets",
            tenant=quoted(tenant),
            fresh=_new_secret(),
            rotate=True,
            overlap_ms=milliseconds(OVERLAP_S),
        )
        return _secrets(answer)


def _new_secret() -> str:
    return "whsec_" + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def _secrets(answer: list[str]) -> WebhookSecrets:
    newest, *before = answer
    if not before:
        return WebhookSecrets(newest)
    return WebhookSecrets(newest, before[0], int(before[1]))

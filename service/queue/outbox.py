"""The outbox: what clients' own servers are to be told, and the secrets that sign it.

The transitions that move jobs fill it (`lua/shared/outbox.lua`); a sender drains it. Knows no HTTP.
"""

import base64
import secrets
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from service.queue.deliveries import (
    Attempt,
    Claim,
    Delivery,
    attempt_to_json,
    claim_from_answer,
    delivery_from_answer,
)
from service.queue.hub import Hint
from service.queue.keys import quoted
from service.queue.scripts import milliseconds
from service.views.delivery import DeliveryState

OVERLAP_S = 86_400.0
"""For so long after a rotation the former secret signs beside the new one."""
_SECRET_BYTES = 32
_HINT = "webhooks"
_FULL_S = 1.0
"""A lane without room is looked at again after this."""

Watch = Callable[[str], AbstractAsyncContextManager[Hint]]


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

    newest: str = field(repr=False)
    previous: str | None = field(default=None, repr=False)
    previous_ends_at_ms: int | None = None

    @property
    def signing(self) -> tuple[str, ...]:
        """All that sign now, the newest first."""
        return (self.newest, self.previous) if self.previous else (self.newest,)


@dataclass(frozen=True, slots=True)
class Claims:
    """What a sender may attempt now, and the time until more is due, s; None: nothing waits."""

    claims: tuple[Claim, ...]
    next_due_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How much a sender is at, and may be at.

    Attributes:
        free: attempts that it may begin.
        lanes: attempts that run, by lane.
        tenants: attempts that run, by tenant.
        per_lane: the bound of each lane.
        per_tenant: the bound of each tenant.
    """

    free: int
    lanes: Mapping[str, int]
    tenants: Mapping[str, int]
    per_lane: int
    per_tenant: int


class Outbox:
    """The outbox of one queue; every method but `news` may raise `Unavailable`."""

    def __init__(self, run: Run, watch: Watch) -> None:
        self._run, self._watch = run, watch

    def news(self) -> AbstractAsyncContextManager[Hint]:
        """A hint that is given when something enters the outbox."""
        return self._watch(_HINT)

    async def claim(self, load: Load, lease_s: float) -> Claims:
        """Takes deliveries that are due; one not settled within `lease_s` is due again."""
        token = secrets.token_hex(8)
        claimed, next_due_ms = await self._run(
            "webhook_claim",
            token=token,
            lease_ms=milliseconds(lease_s),
            full_ms=milliseconds(_FULL_S),
            free=load.free,
            per_lane=load.per_lane,
            per_tenant=load.per_tenant,
            lanes=dict(load.lanes),
            tenants={quoted(tenant): count for tenant, count in load.tenants.items()},
        )
        claims = tuple(claim_from_answer(token, answer) for answer in claimed)
        return Claims(claims, None if next_due_ms is None else int(next_due_ms) / 1000)

    async def freeze(self, claim: Claim, body: str) -> bool:
        """Fixes what all attempts send; False when the claim is no longer this sender's."""
        answer = await self._run("webhook_freeze", id=claim.id, token=claim.token, body=body)
        return bool(answer == "ok")

    async def settle(
        self,
        claim: Claim,
        attempt: Attempt,
        state: DeliveryState,
        *,
        retry_s: float = 0.0,
        throttle_s: float = 0.0,
    ) -> bool:
        """Records an attempt and what comes of it; False when the claim is no longer one's own.

        Args:
            claim: what was attempted.
            attempt: how it went.
            state: what the delivery is now; `pending` with another attempt after `retry_s`.
            retry_s: time until then.
            throttle_s: no attempt in this lane for so long.
        """
        throttle = {"throttle_ms": milliseconds(throttle_s)} if throttle_s > 0 else {}
        answer = await self._run(
            "webhook_settle",
            id=claim.id,
            token=claim.token,
            attempt=attempt_to_json(attempt),
            state=state,
            retry_ms=milliseconds(retry_s),
            **throttle,
        )
        return bool(answer == "ok")

    async def hand_back(self, claim: Claim) -> None:
        """Ends a claim without an attempt: the delivery is due at once."""
        await self._run(
            "webhook_settle", id=claim.id, token=claim.token, state="pending", retry_ms=0
        )

    async def log(self, job_id: str, tenant: str) -> tuple[Delivery, ...]:
        """The deliveries of a tenant's job, oldest first; known for longer than the job."""
        answers = await self._run("webhook_log", id=job_id)
        found = (delivery_from_answer(answer) for answer in answers)
        return tuple(delivery for delivery in found if delivery.tenant == tenant)

    async def redeliver(self, job_id: str, tenant: str, delivery_id: str) -> bool:
        """Sends a delivery again, at once and with the same id; False when there is none."""
        answer = await self._run(
            "webhook_redeliver", id=delivery_id, job=job_id, tenant=quoted(tenant)
        )
        return bool(answer == "ok")

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

"""`Sender`: drains the outbox: claims what is due, posts it, records what came of it.

Any number of senders share the work. One that is killed loses nothing: what it was at is due again
when its claims are out, with the same id and the same bytes. Knows neither Redis nor sockets.
"""

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlsplit

from standardwebhooks import Webhook
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_fixed

from service.errors import Unavailable
from service.queue.deliveries import Attempt, Claim
from service.queue.outbox import Claims, Load, Outbox
from service.telemetry.logging import bound
from service.version import service_version
from service.webhooks.calls import Answer, Caller
from service.webhooks.schedule import Schedule, Verdict, judge

LOOK_S = 1.0
"""At the latest after this a sender looks whether something is due."""
MARGIN_S = 15.0
"""A claim outlives its call by so much, for Redis to hear what came of it."""
DRAIN_S = 3.0
"""So long a sender that is told to stop waits for the answers to its calls."""

log = logging.getLogger(__name__)

Render = Callable[[Claim], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many attempts one sender makes at a time.

    Attributes:
        total: of all.
        timeout_s: longest call of its `Caller`; a claim lasts `MARGIN_S` longer.
    """

    total: int
    timeout_s: float

    @property
    def per_lane(self) -> int:
        """Of one tenant to one host: a slow server leaves room for the others."""
        return max(1, self.total // 4)

    @property
    def per_tenant(self) -> int:
        """Of one tenant: many slow servers of one leave room for the others' tenants."""
        return max(1, self.total // 2)


class Sender:
    """Sends what clients' servers are to be told.

    Args:
        outbox: where it is.
        render: makes the body of a delivery that has none yet.
        caller: makes the calls.
        bounds: how many at a time.
        schedule: when failed attempts are repeated.
        clock: Unix time, s.
        chance: random numbers, 0 … 1.
    """

    def __init__(
        self,
        outbox: Outbox,
        render: Render,
        caller: Caller,
        bounds: Bounds,
        *,
        schedule: Schedule | None = None,
        clock: Callable[[], float] = time.time,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._outbox, self._render, self._caller = outbox, render, caller
        self._bounds, self._schedule = bounds, schedule or Schedule()
        self._clock, self._chance = clock, chance
        self._running: dict[asyncio.Task[None], Claim] = {}
        self._wake = asyncio.Event()
        self._stopping = False

    def stop(self) -> None:
        """Ends `run` within `DRAIN_S`; what is not sent by then is due again at once."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Sends until `stop`."""
        listening = asyncio.create_task(self._listen())
        try:
            while not self._stopping:
                self._wake.clear()
                pause_s = await self._begin_due()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), min(pause_s, LOOK_S))
        finally:
            self._stopping = True
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
            await self._drain()

    async def _listen(self) -> None:
        async with self._outbox.news() as hint:
            while not self._stopping:  # `wait_for` may swallow a cancellation
                await hint.wait()
                self._wake.set()

    async def _begin_due(self) -> float:
        """Begins what is due and has room; returns the time until there may be more, s."""
        if len(self._running) >= self._bounds.total:
            return LOOK_S  # the end of a call wakes
        try:
            claimed = await self._claim()
        except Unavailable as error:
            log.warning("can't look for webhooks", extra={"reason": error.detail})
            return LOOK_S
        for claim in claimed.claims:
            task = asyncio.create_task(self._deliver(claim))
            self._running[task] = claim
            task.add_done_callback(self._ended)
        return LOOK_S if claimed.next_due_s is None else claimed.next_due_s

    async def _claim(self) -> Claims:
        at_work = self._running.values()
        load = Load(
            free=self._bounds.total - len(self._running),
            lanes=Counter(claim.lane for claim in at_work),
            tenants=Counter(claim.tenant for claim in at_work),
            per_lane=self._bounds.per_lane,
            per_tenant=self._bounds.per_tenant,
        )
        return await self._outbox.claim(load, self._bounds.timeout_s + MARGIN_S)

    def _ended(self, task: asyncio.Task[None]) -> None:
        claim = self._running.pop(task)
        self._wake.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            fields = {"delivery": claim.id, "job_id": claim.job_id}
            log.error("webhook broke", extra=fields, exc_info=error)

    async def _deliver(self, claim: Claim) -> None:
        # While Redis is away nothing is lost: the delivery is due again when the claim is out.
        with bound(job_id=claim.job_id, delivery=claim.id), suppress(Unavailable):
            body = await self._frozen_body(claim)
            if body is None:
                return
            at_s = self._clock()
            headers = await self._headers(claim, at_s, body)
            answer = await self._caller.post(claim.url, headers, body.encode())
            await self._settle(claim, at_s, answer)

    async def _frozen_body(self, claim: Claim) -> str | None:
        """What every attempt sends; None when another sender has the claim by now."""
        if claim.body is not None:
            return claim.body
        body = await self._render(claim)
        return body if await self._outbox.freeze(claim, body) else None

    async def _headers(self, claim: Claim, at_s: float, body: str) -> Mapping[str, str]:
        """Standard Webhooks 1.0: one signature for each secret that is valid now."""
        secrets = await self._outbox.secrets(claim.tenant)
        moment = datetime.fromtimestamp(int(at_s), UTC)
        signatures = (Webhook(secret).sign(claim.id, moment, body) for secret in secrets.signing)
        return {
            "content-type": "application/json",
            "user-agent": f"glide-service/{service_version()}",
            "webhook-id": claim.id,
            "webhook-timestamp": str(int(at_s)),
            "webhook-signature": " ".join(signatures),
        }

    async def _settle(self, claim: Claim, at_s: float, answer: Answer) -> None:
        verdict = judge(self._schedule, claim.event, claim.tries, answer, self._chance())
        attempt = Attempt(
            at_ms=round(at_s * 1000),
            duration_ms=round(answer.duration_s * 1000),
            status=answer.status,
            error=answer.error,
            response=answer.response,
        )
        # What was delivered must not be sent again only because Redis was away for a moment.
        async for again in AsyncRetrying(
            retry=retry_if_exception_type(Unavailable),
            stop=stop_after_delay(MARGIN_S / 2),
            wait=wait_fixed(0.5),
            reraise=True,
        ):
            with again:
                await self._outbox.settle(
                    claim,
                    attempt,
                    verdict.state,
                    retry_s=verdict.retry_s,
                    throttle_s=verdict.throttle_s,
                )
        _note(claim, answer, verdict)

    async def _drain(self) -> None:
        """Waits a little for answers; hands back what has none yet."""
        if self._running:
            await asyncio.wait(self._running, timeout=DRAIN_S)
        left = dict(self._running)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        for claim in left.values():
            with suppress(Unavailable):
                await self._outbox.hand_back(claim)


def _note(claim: Claim, answer: Answer, verdict: Verdict) -> None:
    fields = {
        "webhook": claim.event,
        "host": urlsplit(claim.url).hostname,  # without the path, which may hold a secret
        "attempt": claim.tries + 1,
        "status": answer.status,
        "state": verdict.state,
    }
    if verdict.state == "delivered":
        log.info("webhook delivered", extra=fields)
    else:
        log.warning("webhook not delivered", extra={**fields, "reason": answer.error})

"""The webhooks process: builds the sender, answers to signals, exits. Never loads torch.

SIGTERM and SIGINT end it within seconds; what it had not sent, the next one sends.
"""

import asyncio
import logging
import signal

from service.queue.deliveries import Claim
from service.queue.redis import RedisJobQueue
from service.settings import Settings
from service.views.links import Links, LinkSigner
from service.webhooks.bodies import render
from service.webhooks.calls import Caller, SystemResolver
from service.webhooks.sender import Bounds, Sender
from service.wiring import build_queue, require_redis

log = logging.getLogger(__name__)


def run_webhooks(settings: Settings) -> None:
    """Sends until a signal.

    Raises:
        ServiceError: Redis isn't configured or can't be reached.
    """
    require_redis(settings)
    asyncio.run(_send(settings))


class JobRenderer:
    """Renders bodies with the links that the job's client knows the service by."""

    def __init__(self, settings: Settings, queue: RedisJobQueue) -> None:
        self._settings, self._queue = settings, queue
        self._signer: LinkSigner | None = None

    async def __call__(self, claim: Claim) -> str:
        """The body of a delivery.

        Raises:
            Unavailable: Redis, which keeps the key of links, can't be reached.
        """
        assert claim.job is not None, "a claim without a body has the job"
        if self._signer is None:
            given = self._settings.api.signing_key
            self._signer = LinkSigner(given.encode() if given else await self._queue.signing_key())
        base_url = claim.job.base_url or (self._settings.public_url or "").rstrip("/")
        links = Links(base_url, self._signer)
        return render(claim.dialect, claim.event, claim.created_at_ms, claim.job, links)


async def _send(settings: Settings) -> None:
    options = settings.webhooks
    queue = build_queue(settings)
    resolver = SystemResolver(options.concurrency)
    caller = Caller(resolver, timeout_s=options.timeout_s, allow_private=options.allow_private)
    bounds = Bounds(options.concurrency, options.timeout_s)
    sender = Sender(queue.outbox, JobRenderer(settings, queue), caller, bounds)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, sender.stop)
    log.info("webhooks ready", extra={"concurrency": options.concurrency})
    try:
        await sender.run()
    finally:
        resolver.close()
        await queue.aclose()

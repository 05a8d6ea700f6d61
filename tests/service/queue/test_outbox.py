"""The outbox in Redis: what enters it, who may take it, and what is left of it."""

import asyncio
import base64

from service.queue.redis import RedisJobQueue


async def test_a_tenant_has_one_secret_whoever_asks_first(queue: RedisJobQueue) -> None:
    asked = await asyncio.gather(*(queue.webhook_secret("acme") for _ in range(8)))
    assert len(set(asked)) == 1
    assert await queue.webhook_secret("other") not in asked
    prefix, encoded = asked[0].split("_")
    assert prefix == "whsec"
    assert len(base64.b64decode(encoded, validate=True)) == 32


async def test_a_rotated_secret_signs_on_beside_the_new_one(queue: RedisJobQueue) -> None:
    old = await queue.webhook_secret("acme")
    new = await queue.rotate_webhook_secret("acme")
    assert new != old
    assert await queue.webhook_secret("acme") == new
    assert (await queue.outbox.secrets("acme")).signing == (new, old)

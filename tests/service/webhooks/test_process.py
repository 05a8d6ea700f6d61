"""The process: it starts, sends, ends in good order, and loses nothing when it is killed."""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping

from tests.service.webhooks.conftest import Service
from tests.service.webhooks.receiver import Receiver

HASTY_SENDER = """
import asyncio, sys
from service.queue.redis import RedisJobQueue
from service.settings import RedisSettings, Settings
from service.webhooks import sender
from service.webhooks.calls import Caller, SystemResolver
from service.webhooks.main import JobRenderer

async def send(url, prefix):
    sender.MARGIN_S = 0.1
    queue = RedisJobQueue(url, prefix=prefix)
    settings = Settings(redis=RedisSettings(url=url, prefix=prefix))
    caller = Caller(SystemResolver(1), timeout_s=0.4, allow_private=True)
    bounds = sender.Bounds(4, 0.4)
    await sender.Sender(queue.outbox, JobRenderer(settings, queue), caller, bounds).run()

asyncio.run(send(*sys.argv[1:]))
"""


def environment(service: Service) -> Mapping[str, str]:
    return os.environ | {
        "GLIDE_REDIS__URL": service.url,
        "GLIDE_REDIS__PREFIX": service.prefix,
        "GLIDE_WEBHOOKS__ALLOW_PRIVATE": "true",
        "GLIDE_LOG__FORMAT": "json",
    }


async def started(*arguments: str, service: Service) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, *arguments, env=environment(service), stderr=asyncio.subprocess.PIPE
    )


async def test_the_process_sends_and_ends_at_a_signal(service: Service, receiver: Receiver) -> None:
    job = await service.ended(receiver.url)
    process = await started("-m", "service.cli.main", "webhooks", service=service)
    got = await receiver.next()
    assert (await service.settled(job)).id == got.id
    process.send_signal(signal.SIGTERM)
    _, said = await process.communicate()
    assert process.returncode == 0, said.decode()
    assert b"webhook delivered" in said
    assert b"a cat" not in said
    assert b"/hook" not in said


async def test_a_sender_killed_before_it_hears_loses_nothing(
    service: Service, receiver: Receiver
) -> None:
    receiver.open_gate.clear()
    job = await service.ended(receiver.url)
    process = await started("-c", HASTY_SENDER, service.url, service.prefix, service=service)
    first = await receiver.next()
    process.kill()
    await process.communicate()
    receiver.open_gate.set()
    assert (await service.log(job))[0].attempts == ()

    process = await started("-c", HASTY_SENDER, service.url, service.prefix, service=service)
    second = await receiver.next()
    delivery = await service.settled(job)
    process.terminate()
    await process.communicate()
    assert (second.id, second.body) == (first.id, first.body)
    assert (delivery.id, delivery.state) == (first.id, "delivered")
    assert [attempt.status for attempt in delivery.attempts] == [204]

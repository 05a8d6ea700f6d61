"""What a client's server is told, when, and how often."""

import contextlib
import itertools
import time
from email.utils import formatdate

import pytest
from redis import Redis
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from service.queue.outbox import Load
from service.webhooks.schedule import Schedule
from service.webhooks.sender import Bounds
from tests.service.webhooks.conftest import Service, running
from tests.service.webhooks.receiver import Receiver, receiving

SLOW = Schedule(delays_s=(60.0, 60.0), jitter=0.0, throttle_s=30.0)
ALL = Load(free=99, lanes={}, tenants={}, per_lane=99, per_tenant=99)


async def test_a_delivery_is_signed_and_shows_the_job(service: Service, receiver: Receiver) -> None:
    job = await service.ended(receiver.url)
    async with running(service.sender()):
        got = await receiver.next()
        delivery = await service.settled(job)
    body = Webhook(await service.queue.webhook_secret("default")).verify(got.body, got.headers)
    assert body["type"] == "job.succeeded"
    assert body["timestamp"].endswith("Z")
    assert body["data"]["id"] == job.id
    assert body["data"]["status"] == "succeeded"
    assert body["data"]["links"]["self"] == f"https://glide.example/v1/jobs/{job.id}"
    assert got.headers["content-type"] == "application/json"
    assert got.headers["user-agent"].startswith("glide-service/")
    assert (delivery.id, delivery.state) == (got.id, "delivered")
    assert [attempt.status for attempt in delivery.attempts] == [204]
    assert delivery.next_attempt_at_ms is None


async def test_a_body_that_was_changed_does_not_verify(
    service: Service, receiver: Receiver
) -> None:
    await service.ended(receiver.url)
    async with running(service.sender()):
        got = await receiver.next()
    webhook = Webhook(await service.queue.webhook_secret("default"))
    with pytest.raises(WebhookVerificationError):
        webhook.verify(got.body.replace(b"succeeded", b"canceled."), got.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(await service.queue.webhook_secret("other")).verify(got.body, got.headers)


async def test_the_replicate_dialect_sends_the_prediction(
    service: Service, receiver: Receiver
) -> None:
    job = await service.ended(receiver.url, dialect="replicate", api="replicate")
    async with running(service.sender()):
        got = await receiver.next()
    assert (got.json["id"], got.json["status"]) == (job.id, "succeeded")
    assert got.json["urls"]["get"].startswith("https://glide.example/replicate/v1/")


async def test_a_retry_has_the_same_id_and_bytes_and_its_own_time(
    service: Service, receiver: Receiver
) -> None:
    now_s = int(time.time())
    clock = itertools.count(now_s)
    receiver.answer(500, body=b"broken")
    receiver.answer(404)
    job = await service.ended(receiver.url)
    async with running(service.sender(clock=lambda: next(clock))):
        got = [await receiver.next() for _ in range(3)]
        delivery = await service.settled(job)
    assert len({request.id for request in got}) == 1
    assert len({request.body for request in got}) == 1
    stamps = [int(request.headers["webhook-timestamp"]) for request in got]
    assert stamps == [now_s, now_s + 1, now_s + 2]
    webhook = Webhook(await service.queue.webhook_secret("default"))
    for request in got:
        webhook.verify(request.body, request.headers)
    assert delivery.state == "delivered"
    assert [attempt.status for attempt in delivery.attempts] == [500, 404, 204]
    assert delivery.attempts[0].response == "broken"
    assert delivery.attempts[0].at_ms == now_s * 1000


async def test_it_fails_for_good_after_the_last_delay(service: Service, receiver: Receiver) -> None:
    for _ in range(3):
        receiver.answer(500)
    job = await service.ended(receiver.url)
    async with running(service.sender(Schedule(delays_s=(0.01, 0.01), jitter=0.0))):
        delivery = await service.settled(job)
    assert delivery.state == "failed"
    assert [attempt.status for attempt in delivery.attempts] == [500, 500, 500]
    assert len(receiver.received) == 3


async def test_a_server_that_is_gone_gets_nothing_more_until_asked(
    service: Service, receiver: Receiver
) -> None:
    receiver.answer(410)
    first = await service.ended(receiver.url)
    async with running(service.sender()):
        disabled = await service.settled(first)
        assert disabled.state == "disabled"
        second = await service.ended(receiver.url)
        assert (await service.settled(second)).state == "disabled"
        elsewhere = await service.ended(receiver.url + "/other")
        assert (await service.settled(elsewhere)).state == "delivered"
        assert await service.queue.outbox.redeliver(first.id, "default", disabled.id)
        assert (await service.settled(first)).state == "delivered"
        third = await service.ended(receiver.url)
        assert (await service.settled(third)).state == "delivered"
    targets = [request.target for request in receiver.received]
    assert targets == ["/hook", "/hook/other", "/hook", "/hook"]
    assert receiver.received[0].id == receiver.received[2].id


async def test_deliveries_that_wait_for_a_server_that_is_gone_are_disabled_too(
    service: Service, receiver: Receiver
) -> None:
    receiver.answer(410)
    jobs = [await service.ended(receiver.url) for _ in range(3)]
    async with running(service.sender(bounds=Bounds(1, 5.0))):
        assert {(await service.settled(job)).state for job in jobs} == {"disabled"}
    assert len(receiver.received) == 1


@pytest.mark.parametrize("as_date", [False, True])
async def test_retry_after_puts_the_next_attempt_off(
    service: Service, receiver: Receiver, as_date: bool
) -> None:
    pause = formatdate(time.time() + 7200, usegmt=True) if as_date else "7200"
    receiver.answer(503, f"retry-after: {pause}")
    job = await service.ended(receiver.url)
    async with running(service.sender()):
        delivery = await service.attempted(job)
    assert delivery.state == "pending"
    assert delivery.next_attempt_at_ms is not None
    pause_s = (delivery.next_attempt_at_ms - delivery.attempts[0].at_ms) / 1000
    assert 7195 < pause_s < 7205


@pytest.mark.parametrize("status", [429, 502, 504])
async def test_a_busy_host_gets_nothing_for_a_while_and_others_do(
    service: Service, receiver: Receiver, status: int
) -> None:
    receiver.answer(status)
    first = await service.ended(receiver.url)
    async with running(service.sender(SLOW)), receiving() as other:
        await service.attempted(first)
        held = await service.ended(receiver.url)
        sent = await service.ended(other.url)
        assert (await service.settled(sent)).state == "delivered"
        assert (await service.log(held))[0].attempts == ()
    assert len(receiver.received) == 1


async def test_an_error_of_one_url_does_not_throttle_its_host(
    service: Service, receiver: Receiver
) -> None:
    receiver.answer(500)
    first = await service.ended(receiver.url)
    async with running(service.sender(SLOW)):
        await service.attempted(first)
        second = await service.ended(receiver.url)
        assert (await service.settled(second)).state == "delivered"


async def test_redirects_are_failures_and_not_followed(
    service: Service, receiver: Receiver
) -> None:
    async with receiving() as elsewhere, running(service.sender(SLOW)):
        for status in (301, 302, 307, 308):
            receiver.answer(status, f"location: {elsewhere.url}")
            job = await service.ended(receiver.url)
            (attempt,) = (await service.attempted(job)).attempts
            assert attempt.status == status
            assert attempt.error is not None
        assert elsewhere.received == []


async def test_slow_servers_do_not_hold_up_the_others(service: Service, receiver: Receiver) -> None:
    receiver.open_gate.clear()
    slow = [await service.ended(receiver.url) for _ in range(40)]
    async with running(service.sender(bounds=Bounds(8, 5.0))), receiving() as fast:
        await receiver.next()
        quick = [await service.ended(fast.url) for _ in range(20)]
        for job in quick:
            assert (await service.settled(job)).state == "delivered"
        assert len(receiver.received) == 2
        receiver.open_gate.set()
        for job in slow:
            assert (await service.settled(job)).state == "delivered"
    assert len(receiver.received) == 40


async def test_a_tenant_with_many_slow_servers_leaves_room_for_others(service: Service) -> None:
    async with contextlib.AsyncExitStack() as stack:
        fast, *slow = [await stack.enter_async_context(receiving()) for _ in range(6)]
        for receiver in slow:
            receiver.open_gate.clear()
            await service.ended(receiver.url, tenant="slow")
        await stack.enter_async_context(running(service.sender(bounds=Bounds(4, 5.0))))
        await slow[0].next()
        job = await service.ended(fast.url, tenant="fast")
        assert (await service.settled(job)).state == "delivered"
        assert sum(len(receiver.received) for receiver in slow) == 2
        for receiver in slow:
            receiver.open_gate.set()


async def test_a_server_that_does_not_answer_in_time_is_tried_again(
    service: Service, receiver: Receiver
) -> None:
    receiver.open_gate.clear()
    job = await service.ended(receiver.url)
    async with running(service.sender(bounds=Bounds(4, 0.2))):
        delivery = await service.attempted(job)
        receiver.open_gate.set()
        await service.settled(job)
    assert delivery.attempts[0].status is None
    assert delivery.attempts[0].error == "no answer within 0.2 s"


async def test_the_log_has_a_kilobyte_of_an_endless_refusal(
    service: Service, receiver: Receiver
) -> None:
    receiver.floods = True
    receiver.answers.append(b"HTTP/1.1 500 Oh\r\ncontent-length: 999999999999\r\n\r\n")
    job = await service.ended(receiver.url)
    async with running(service.sender(SLOW)):
        (attempt,) = (await service.attempted(job)).attempts
    assert (attempt.status, attempt.response) == (500, "x" * 1024)


async def test_two_senders_share_the_work(service: Service, receiver: Receiver) -> None:
    jobs = [await service.ended(receiver.url) for _ in range(40)]
    async with running(service.sender()), running(service.sender()):
        for job in jobs:
            assert (await service.settled(job)).state == "delivered"
    assert len(receiver.received) == len({request.id for request in receiver.received}) == 40


async def test_a_stopped_sender_hands_back_what_has_no_answer(
    service: Service, receiver: Receiver
) -> None:
    receiver.open_gate.clear()
    job = await service.ended(receiver.url)
    async with running(service.sender()):
        first = await receiver.next()
    assert (await service.log(job))[0].attempts == ()
    (claim,) = (await service.queue.outbox.claim(ALL, 1.0)).claims
    assert (claim.id, claim.body) == (first.id, first.body.decode())


async def test_what_was_delivered_is_sent_again_only_when_asked(
    service: Service, receiver: Receiver
) -> None:
    job = await service.ended(receiver.url)
    async with running(service.sender()):
        delivery = await service.settled(job)
        assert (await service.queue.outbox.claim(ALL, 1.0)).claims == ()
        assert await service.queue.outbox.redeliver(job.id, "default", delivery.id)
        delivery = await service.attempted(job, 2)
    first, second = receiver.received
    assert (second.id, second.body) == (first.id, first.body)
    assert [attempt.status for attempt in delivery.attempts] == [204, 204]


async def test_after_a_rotation_both_secrets_verify(service: Service, receiver: Receiver) -> None:
    old = await service.queue.webhook_secret("default")
    new = await service.queue.rotate_webhook_secret("default")
    await service.ended(receiver.url)
    async with running(service.sender()):
        got = await receiver.next()
    assert len(got.headers["webhook-signature"].split(" ")) == 2
    for secret in (old, new):
        Webhook(secret).verify(got.body, got.headers)


async def test_each_event_shows_the_job_as_it_was_then(
    service: Service, receiver: Receiver
) -> None:
    await service.submit(receiver.url, "job.started", "job.progress", "job.succeeded")
    lease = service.lease()
    service.leases.renew([(lease.job.id, lease.token, 7)])
    async with running(service.sender(bounds=Bounds(1, 5.0))):
        started, progress = await receiver.next(), await receiver.next()
        service.leases.finish(lease.job.id, lease.token)
        succeeded = await receiver.next()
    seen = {
        got.json["type"]: (got.json["data"]["status"], got.json["data"]["step"])
        for got in (started, progress, succeeded)
    }
    assert seen == {
        "job.started": ("running", 0),
        "job.progress": ("running", 7),
        "job.succeeded": ("succeeded", 20),
    }


async def test_progress_is_attempted_once(service: Service, receiver: Receiver) -> None:
    receiver.answer(500)
    job = await service.submit(receiver.url, "job.progress")
    lease = service.lease()
    service.leases.renew([(lease.job.id, lease.token, 7)])
    async with running(service.sender()):
        delivery = await service.settled(job)
    assert (delivery.event, delivery.state) == ("job.progress", "failed")
    assert len(receiver.received) == 1


async def test_proxies_of_the_environment_are_not_used(
    service: Service, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    job = await service.ended(receiver.url)
    async with running(service.sender(SLOW)):
        assert [each.status for each in (await service.attempted(job)).attempts] == [204]


async def test_cookies_of_a_server_are_not_kept(service: Service, receiver: Receiver) -> None:
    receiver.answer(500, "set-cookie: a=b")
    await service.ended(receiver.url)
    async with running(service.sender()):
        await receiver.next()
        assert "cookie" not in (await receiver.next()).headers


async def test_a_job_that_is_forgotten_is_told_of_all_the_same(
    service: Service, receiver: Receiver, redis: Redis
) -> None:
    job = await service.ended(receiver.url)
    redis.delete(f"{service.prefix}job:{job.id}")
    async with running(service.sender()):
        assert (await receiver.next()).json["data"]["id"] == job.id

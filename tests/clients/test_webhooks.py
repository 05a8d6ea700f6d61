"""Deliveries, verified by the libraries that receivers have: Standard Webhooks' and Replicate's."""

import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from replicate.client import Client
from replicate.webhook import InvalidSignatureError, Webhooks
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from service.webhooks.calls import Caller, SystemResolver
from service.webhooks.main import JobRenderer
from service.webhooks.sender import Bounds, Sender
from service.wiring import build_queue
from tests.clients.node_clients import Node
from tests.service.live_api import LiveApi, Worker
from tests.service.webhooks.conftest import running
from tests.service.webhooks.receiver import Received, Receiver, receiving

PICTURE = b"the bytes of a picture"
PRIVATE = pytest.mark.parametrize(
    "idle_service", [{"webhooks": {"allow_private": True}}], indirect=True
)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


@contextlib.asynccontextmanager
async def sending(api: LiveApi) -> AsyncIterator[None]:
    queue = build_queue(api.settings)
    caller = Caller(SystemResolver(1), timeout_s=5.0, allow_private=True)
    render = JobRenderer(api.settings, queue)
    async with running(Sender(queue.outbox, render, caller, Bounds(4, 5.0))):
        yield
    await queue.aclose()


def draw(player: Worker) -> None:
    """Does the one job that waits."""
    (lease,) = player.leases.lease(("tiny",), 1)
    player.finish(lease, PICTURE)


def changed(got: Received) -> Received:
    return replace(got, body=got.body.replace(b"succeeded", b"successed"))


async def a_delivery(api: LiveApi, player: Worker, receiver: Receiver) -> Received:
    api.submit(model="tiny", webhook={"url": receiver.url})
    draw(player)
    async with sending(api):
        return await receiver.next()


def secret_of(api: LiveApi) -> str:
    secret: str = api.http.get("/v1/webhooks/secret").json()["secret"]
    return secret


@PRIVATE
async def test_the_python_library_verifies_a_delivery_and_no_other(
    idle_service: LiveApi, player: Worker, receiver: Receiver
) -> None:
    got = await a_delivery(idle_service, player, receiver)
    webhook = Webhook(secret_of(idle_service))
    event = webhook.verify(got.body, got.headers)
    assert event["type"] == "job.succeeded"
    (image,) = event["data"]["images"]
    assert idle_service.http.get(image["url"]).content == PICTURE
    with pytest.raises(WebhookVerificationError):
        webhook.verify(changed(got).body, got.headers)


@PRIVATE
async def test_the_javascript_libraries_verify_a_delivery_and_no_other(
    idle_service: LiveApi, player: Worker, receiver: Receiver, node: Node
) -> None:
    got = await a_delivery(idle_service, player, receiver)
    texts = [
        json.dumps({"headers": each.headers, "body": each.body.decode()})
        for each in (got, changed(got))
    ]
    genuine, forged = node.run("webhooks.mjs", secret_of(idle_service), *texts)
    assert genuine == {"standard": got.json, "replicate": True}
    assert forged == {"standard": {"error": "WebhookVerificationError"}, "replicate": False}


@PRIVATE
async def test_replicates_client_verifies_the_webhook_of_a_prediction(
    idle_service: LiveApi, player: Worker, receiver: Receiver
) -> None:
    key = idle_service.new_key()
    headers = {"authorization": f"Bearer {key}"}
    body = {"version": "tiny", "input": {"prompt": "a cat"}, "webhook": receiver.url}
    response = idle_service.http.post("/replicate/v1/predictions", json=body, headers=headers)
    assert response.status_code == 201, response.text
    draw(player)
    async with sending(idle_service):
        while (got := await receiver.next()).json["status"] != "succeeded":
            assert got.json["status"] == "processing"
    assert got.json["id"] == response.json()["id"]
    (url,) = got.json["output"]
    assert idle_service.http.get(url).content == PICTURE
    client = Client(base_url=f"{idle_service.url}/replicate", api_token=key)
    with contextlib.closing(client._client):  # it has no close of its own
        secret = client.webhooks.default.secret()
    Webhooks.validate(headers=got.headers, body=got.body.decode(), secret=secret)
    with pytest.raises(InvalidSignatureError):
        Webhooks.validate(headers=got.headers, body=changed(got).body.decode(), secret=secret)

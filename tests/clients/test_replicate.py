"""Replicate's Python client 1.x against the whole service: what it asks for, what it is given."""

import asyncio
import io
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from PIL import Image
from replicate.client import Client
from replicate.exceptions import ModelError, ReplicateError
from replicate.pagination import paginate
from replicate.stream import ServerSentEvent
from replicate.webhook import Webhooks, WebhookValidationError

from service.webhooks.calls import Caller, SystemResolver
from service.webhooks.main import JobRenderer
from service.webhooks.sender import Bounds, Sender
from service.wiring import build_queue
from tests.clients.recording import Recorder
from tests.service.live_api import LiveApi, Worker
from tests.service.some_pictures import mask, picture
from tests.service.webhooks.receiver import receiving

pytestmark = pytest.mark.slow

MODEL = "glide/tiny"
INPUT = {"prompt": "a red apple", "seed": 5, "num_inference_steps": 3}
PREDICTIONS = "/replicate/v1/predictions"


@pytest.fixture
def client(service: LiveApi, api_key: str) -> Iterator[Client]:
    with connected(service, api_key) as client:
        yield client


@pytest_asyncio.fixture
async def async_client(service: LiveApi, api_key: str) -> AsyncIterator[Client]:
    with connected(service, api_key) as client:
        yield client
        await client._async_client.aclose()


@pytest.fixture
def idle_client(idle_service: LiveApi, api_key: str) -> Iterator[Client]:
    with connected(idle_service, api_key) as client:
        yield client


@contextmanager
def connected(api: LiveApi, api_key: str) -> Iterator[Client]:
    """A client, whose connections are closed in the end: it offers no way of its own to do so."""
    client = Client(api_token=api_key, base_url=f"{api.url}/replicate")
    client.poll_interval = 0.05
    try:
        yield client
    finally:
        client._client.close()


def sizes(urls: Any) -> list[tuple[int, int]]:
    """Of the images at these URLs, fetched without a key."""
    return [Image.open(io.BytesIO(httpx.get(str(url)).content)).size for url in urls]


def while_playing(ask: Callable[[], Any], play: Callable[[], None]) -> Any:
    """What a client is answered while the test plays the worker."""
    with ThreadPoolExecutor() as threads:
        asked = threads.submit(ask)
        play()
        return asked.result()


def test_a_run_gives_the_outputs(client: Client, recorder: Recorder) -> None:
    output = client.run(MODEL, input={**INPUT, "num_outputs": 2})
    assert sizes(output) == [(64, 64)] * 2
    (asked,) = recorder.posts(f"/replicate/v1/models/{MODEL}/predictions")[-1:]
    assert (asked.headers["prefer"], asked.status) == ("wait", 201)


def test_a_run_of_a_version_reads_its_schema(client: Client) -> None:
    version = client.models.get(MODEL).versions.list()[0]
    assert sizes(client.run(f"{MODEL}:{version.id}", input={**INPUT, "width": 16})) == [(16, 16)]


def test_a_run_without_a_wait_polls(client: Client) -> None:
    assert sizes(client.run(MODEL, input=INPUT, wait=False)) == [(64, 64)]


def test_a_run_that_outlasts_its_wait_is_polled_to_its_end(
    idle_client: Client, player: Worker, seen: Recorder
) -> None:
    """The answer that comes too early says `starting`, or the client would return nothing."""

    def play() -> None:
        lease = player.take_next()
        seen.wait_for(202)
        player.finish(lease, picture())

    output = while_playing(lambda: idle_client.run(MODEL, input=INPUT, wait=1), play)
    assert [httpx.get(url).content for url in output] == [picture()]


def test_a_failed_run_raises_why(idle_client: Client, player: Worker) -> None:
    def play() -> None:
        player.fail(player.take_next(), "bad", "the network is broken")

    with pytest.raises(ModelError, match="the network is broken") as caught:
        while_playing(lambda: idle_client.run(MODEL, input=INPUT), play)
    assert caught.value.prediction.status == "failed"


async def test_an_asynchronous_run_gives_the_outputs(async_client: Client) -> None:
    assert sizes(await async_client.async_run(MODEL, input=INPUT)) == [(64, 64)]


def test_a_prediction_is_created_waited_for_and_reloaded(client: Client) -> None:
    version = client.models.get(MODEL).latest_version
    assert version is not None
    create: Any = client.predictions.create
    for named in ({"version": version}, {"model": MODEL}, {"deployment": MODEL}):
        prediction = create(input=INPUT, **named)
        assert prediction.status in ("starting", "processing", "succeeded")
        prediction.wait()
        assert (prediction.status, prediction.model) == ("succeeded", MODEL)
        assert prediction.version == version.id
        assert prediction.input == INPUT
        assert prediction.progress.percentage == 1.0
        assert prediction.metrics["image_count"] == 1
        found = client.predictions.get(prediction.id)
        found.reload()
        assert found.output == prediction.output


def test_progress_is_read_from_the_logs(idle_client: Client, player: Worker) -> None:
    prediction = idle_client.predictions.create(model=MODEL, input=INPUT)
    assert (prediction.status, prediction.progress) == ("starting", None)
    lease = player.take_next()
    total = lease.job.total_steps
    player.leases.renew([(prediction.id, lease.token, total // 2)])
    running = idle_client.predictions.get(prediction.id)
    assert (running.status, running.error) == ("processing", None)
    assert running.progress is not None
    assert (running.progress.current, running.progress.total) == (total // 2, total)


def test_outputs_are_iterated_as_they_come(idle_client: Client, player: Worker) -> None:
    given = {**INPUT, "num_outputs": 2}
    prediction = idle_client.predictions.create(model=MODEL, input=given)
    lease = player.take_next()
    outputs = prediction.output_iterator()
    player.deliver(lease, 0, b"first")
    assert httpx.get(next(outputs)).content == b"first"
    player.deliver(lease, 1, b"second")
    player.leases.finish(prediction.id, lease.token)
    assert [httpx.get(url).content for url in outputs] == [b"second"]


def test_a_prediction_is_canceled_as_often_as_one_likes(
    idle_client: Client, player: Worker
) -> None:
    prediction = idle_client.predictions.create(model=MODEL, input=INPUT)
    for _ in range(2):
        prediction.cancel()
        assert prediction.status == "canceled"
    prediction.wait()
    assert prediction.output is None


async def test_a_prediction_lives_asynchronously(async_client: Client) -> None:
    prediction = await async_client.predictions.async_create(model=MODEL, input=INPUT)
    await prediction.async_wait()
    await prediction.async_cancel()
    await prediction.async_reload()
    assert prediction.status == "succeeded"
    page = await async_client.predictions.async_list()
    assert prediction.id in [each.id for each in page]
    assert (await async_client.predictions.async_get(prediction.id)).output == prediction.output


def test_all_pages_of_predictions_are_walked(idle_client: Client) -> None:
    created = [idle_client.predictions.create(model=MODEL, input=INPUT).id for _ in range(103)]
    pages = list(paginate(idle_client.predictions.list))
    assert [len(page) for page in pages] == [100, 3]
    assert [each.id for page in pages for each in page] == created[::-1]
    assert pages[1].previous is not None
    assert idle_client.predictions.list(pages[1].previous).results == pages[0].results


def told(events: list[ServerSentEvent]) -> dict[str, list[str]]:
    """The data of a stream by the names of its events; all of them have ids."""
    assert all(event.id for event in events)
    names = ("logs", "output", "done")
    return {name: [e.data for e in events if e.event.value == name] for name in names}


def test_a_stream_tells_logs_and_outputs(client: Client) -> None:
    seen = told(list(client.stream(MODEL, input={**INPUT, "num_outputs": 2})))
    assert sizes(seen["output"]) == [(64, 64)] * 2
    assert seen["done"] == ["{}"]
    assert seen["logs"][-1].lstrip().startswith("100%")


async def test_a_stream_is_read_asynchronously(async_client: Client) -> None:
    events = await async_client.async_stream(MODEL, input=INPUT)
    seen = told([event async for event in events])
    assert sizes(seen["output"]) == [(64, 64)]
    prediction = await async_client.predictions.async_create(model=MODEL, input=INPUT)
    again = told([event async for event in prediction.async_stream()])
    assert sizes(again["output"]) == [(64, 64)]


def test_a_failure_ends_a_stream(idle_client: Client, player: Worker) -> None:
    prediction = idle_client.predictions.create(model=MODEL, input=INPUT)
    player.fail(player.take_next(), "bad", "the network is broken")
    with pytest.raises(RuntimeError, match="the network is broken"):
        list(prediction.stream())


def test_a_quiet_stream_stays_open(idle_client: Client, player: Worker) -> None:
    """Comments come in between, which the client must pass over."""
    prediction = idle_client.predictions.create(model=MODEL, input=INPUT)
    url = (prediction.urls or {})["stream"]

    def play() -> None:
        with httpx.stream("GET", url) as response:
            next(line for line in response.iter_lines() if line.startswith(":"))
        player.finish(player.take_next(), b"image")

    seen = told(while_playing(lambda: list(prediction.stream()), play))
    assert [httpx.get(url).content for url in seen["output"]] == [b"image"]


def test_models_and_versions_are_shown(client: Client) -> None:
    model = client.models.get(MODEL)
    assert (model.id, model.visibility) == (MODEL, "public")
    assert model.latest_version is not None
    listed = client.models.list()
    assert [each.id for each in listed] == [MODEL, "acme/tiny"]
    (version,) = model.versions.list()
    assert version == model.versions.get(version.id) == model.latest_version
    schemas = version.openapi_schema["components"]["schemas"]
    assert schemas["Input"]["properties"]["width"]["enum"] == [16, 64]
    assert client.run("acme/tiny", input=INPUT)


def test_a_file_is_uploaded_found_listed_and_deleted(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "fox.png"
    path.write_bytes(picture())
    file = client.files.create(path, metadata={"my": "tag"})
    assert (file.name, file.content_type, file.size) == ("fox.png", "image/png", len(picture()))
    assert file.metadata == {"my": "tag"}
    assert client.files.get(file.id) == file
    assert file in client.files.list()
    assert client.files.delete(file.id)
    assert file not in client.files.list()
    with pytest.raises(ReplicateError) as caught:
        client.files.get(file.id)
    assert caught.value.status == 404


@pytest.mark.parametrize("strategy", ["url", "base64"])
def test_a_picture_is_edited(client: Client, strategy: Any) -> None:
    given = {**INPUT, "image": io.BytesIO(picture()), "mask": io.BytesIO(mask())}
    (url,) = client.run(MODEL, input=given, file_encoding_strategy=strategy)
    assert sizes([url]) == [(64, 64)]
    varied = client.run(MODEL, input={**INPUT, "image": str(url), "prompt_strength": 0.5})
    assert sizes(varied) == [(64, 64)]


async def test_a_picture_is_uploaded_asynchronously(async_client: Client) -> None:
    given = {**INPUT, "image": io.BytesIO(picture())}
    assert sizes(await async_client.async_run(MODEL, input=given)) == [(64, 64)]


def test_a_refusal_names_the_field(client: Client) -> None:
    with pytest.raises(ReplicateError) as caught:
        client.run(MODEL, input={**INPUT, "width": 13})
    error = caught.value
    assert (error.status, error.title) == (422, "Input validation failed")
    assert (error.detail or "").startswith("- input.width: tiny makes 16x16, 64x64")
    assert (error.type or "").startswith("urn:problem-type:")
    assert (error.instance or "").startswith("urn:request:")


def test_a_wrong_token_and_an_unknown_model_are_refused(client: Client, service: LiveApi) -> None:
    with pytest.raises(ReplicateError) as caught:
        client.run("glide/other", input=INPUT)
    assert caught.value.status == 404
    with connected(service, "wrong") as foreign, pytest.raises(ReplicateError) as caught:
        foreign.predictions.list()
    assert (caught.value.status, caught.value.title) == (401, "Unauthenticated")


def test_the_account_and_the_hardware_are_shown(client: Client) -> None:
    assert client.accounts.current().username == "default"
    assert [each.sku for each in client.hardware.list()] == ["cpu"]


@pytest.mark.parametrize("idle_service", [{"webhooks": {"allow_private": True}}], indirect=True)
async def test_a_webhook_is_the_prediction_and_verifies(
    idle_service: LiveApi, idle_client: Client, player: Worker
) -> None:
    settings = idle_service.settings
    queue = build_queue(settings)
    resolver = SystemResolver(1)
    caller = Caller(resolver, timeout_s=20, allow_private=True)
    sender = Sender(queue.outbox, JobRenderer(settings, queue), caller, Bounds(4, 20))
    async with receiving() as receiver:
        sending = asyncio.create_task(sender.run())
        wanted = ["start", "output", "completed"]
        prediction = idle_client.predictions.create(
            model=MODEL, input=INPUT, webhook=receiver.url, webhook_events_filter=wanted
        )
        await asyncio.to_thread(lambda: player.finish(player.take_next(), b"image"))
        got = [await receiver.next() for _ in wanted]
        sender.stop()
        await sending
    resolver.close()
    await queue.aclose()
    assert {each.json["status"] for each in got} <= {"processing", "succeeded"}
    assert all(each.json["id"] == prediction.id for each in got)
    assert any(each.json["output"] for each in got)
    secret = idle_client.webhooks.default.secret()
    for each in got:
        body = each.body.decode()
        Webhooks.validate(headers=each.headers, body=body, secret=secret, tolerance=300)
        with pytest.raises(WebhookValidationError):
            Webhooks.validate(headers=each.headers, body=body + " ", secret=secret)

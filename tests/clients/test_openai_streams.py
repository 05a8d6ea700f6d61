"""OpenAI's Python client on streams: partial images, ends of every kind, and the bare wire."""

import base64
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from service.errors import OutOfMemory
from service.events import Preview
from tests.clients.pictures import mask, opened, photo
from tests.service.live_api import LiveApi, Worker

pytestmark = pytest.mark.slow

ASKED: dict[str, Any] = {"prompt": "a cat", "stream": True}


@pytest.fixture
def client(service: LiveApi, api_key: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{service.url}/v1", api_key=api_key, max_retries=0) as client:
        yield client


@pytest.fixture
def idle_client(idle_service: LiveApi, api_key: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{idle_service.url}/v1", api_key=api_key) as client:
        yield client


def test_partial_images_come_before_the_finished_one(client: OpenAI) -> None:
    with client.images.generate(prompt="a cat", stream=True, partial_images=2) as stream:
        events = list(stream)
    names = [event.type for event in events]
    assert names == ["image_generation.partial_image"] * 2 + ["image_generation.completed"]
    assert [getattr(event, "partial_image_index", None) for event in events] == [0, 1, None]
    assert {opened(event.b64_json).size for event in events} == {(64, 64)}
    assert {(e.size, e.output_format, e.background) for e in events} == {("64x64", "png", "opaque")}
    last = events[-1]
    assert last.type == "image_generation.completed"
    assert last.usage.total_tokens == last.usage.input_tokens + last.usage.output_tokens


def test_partial_images_have_the_format_that_was_asked_for(client: OpenAI) -> None:
    with client.images.generate(
        prompt="a cat", stream=True, partial_images=1, output_format="webp"
    ) as stream:
        assert [opened(event.b64_json).format for event in stream] == ["WEBP"] * 2


def test_each_image_is_completed_by_itself(client: OpenAI) -> None:
    with client.images.generate(prompt="a cat", n=3, stream=True) as stream:
        events = list(stream)
    assert [event.type for event in events] == ["image_generation.completed"] * 3
    assert sorted((event.model_extra or {})["image_index"] for event in events) == [0, 1, 2]


def test_a_stream_without_partial_images_has_none(client: OpenAI) -> None:
    with client.images.generate(prompt="a cat", stream=True, partial_images=0) as stream:
        assert [event.type for event in stream] == ["image_generation.completed"]


def test_an_edit_streams_too(client: OpenAI) -> None:
    with client.images.edit(
        image=("p.png", photo()),
        mask=("m.png", mask()),
        prompt="a cat",
        stream=True,
        partial_images=1,
    ) as stream:
        events = list(stream)
    assert [e.type for e in events] == ["image_edit.partial_image", "image_edit.completed"]


async def test_the_async_client_streams(service: LiveApi, api_key: str) -> None:
    async with AsyncOpenAI(base_url=f"{service.url}/v1", api_key=api_key) as client:
        stream = await client.images.generate(prompt="a cat", stream=True, partial_images=1)
        names = [event.type async for event in stream]
    assert names == ["image_generation.partial_image", "image_generation.completed"]


def test_no_event_has_an_id_and_no_block_a_retry(service: LiveApi) -> None:
    asked = {**ASKED, "partial_images": 3, "n": 2}
    answer = service.http.post("/v1/images/generations", json=asked)
    assert answer.headers["content-type"].startswith("text/event-stream")
    blocks = [block.split("\n") for block in answer.text.split("\n\n") if block]
    fields = {line.split(":")[0] for block in blocks for line in block if not line.startswith(":")}
    assert fields == {"event", "data"}
    told = [json.loads(block[1].removeprefix("data: "))["type"] for block in blocks]
    assert told == [block[0].removeprefix("event: ") for block in blocks]
    assert told.count("image_generation.partial_image") == 6
    assert told[-1] == "image_generation.completed"


def test_comments_keep_a_quiet_stream_open(idle_service: LiveApi, player: Worker) -> None:
    with idle_service.http.stream("POST", "/v1/images/generations", json=ASKED) as answer:
        lines = answer.iter_lines()
        assert next(lines) == ": ping"
        player.finish(player.take_next(), photo(64, 64))
        assert "image_generation.completed" in "".join(lines)


def test_the_client_reads_over_comments(
    idle_service: LiveApi, idle_client: OpenAI, player: Worker
) -> None:
    with idle_client.images.generate(prompt="a cat", stream=True) as stream:
        idle_service.http.get("/healthz")  # some time for comments
        lease = player.take_next()
        player.leases.event(lease.job.id, lease.token, Preview(0, 1, _preview()))
        events = iter(stream)
        assert next(events).type == "image_generation.partial_image"
        player.finish(lease, photo(64, 64))
        assert [event.type for event in events] == ["image_generation.completed"]


def test_a_failure_in_the_stream_is_an_error_and_not_repeated(
    idle_client: OpenAI, player: Worker, idle_service: LiveApi
) -> None:
    with idle_client.images.generate(prompt="a cat", stream=True) as stream:
        lease = player.take_next()
        player.fail(lease, OutOfMemory.code, "no room for it")
        with pytest.raises(openai.APIError, match="no room for it") as caught:
            list(stream)
    assert (caught.value.code, caught.value.type) == ("generation_failed", "server_error")
    assert len(idle_service.http.get("/v1/jobs").json()["data"]) == 1


def test_a_canceled_job_ends_its_stream_with_an_error(
    idle_client: OpenAI, idle_service: LiveApi
) -> None:
    with idle_client.images.generate(prompt="a cat", stream=True) as stream:
        job_id = stream.response.headers["x-job-id"]
        idle_service.http.post(f"/v1/jobs/{job_id}/cancel")
        with pytest.raises(openai.APIError) as caught:
            list(stream)
    assert caught.value.code == "generation_canceled"


def test_a_client_that_goes_takes_its_job_along(idle_client: OpenAI, idle_service: LiveApi) -> None:
    stream = idle_client.images.generate(prompt="a cat", stream=True)
    job_id = stream.response.headers["x-job-id"]
    stream.close()
    assert idle_service.once_final(job_id)["cancel_reason"] == "the client has gone"


def test_a_named_job_outlives_its_client(
    idle_client: OpenAI, idle_service: LiveApi, player: Worker
) -> None:
    headers = {"Idempotency-Key": "mine"}
    stream = idle_client.images.generate(prompt="a cat", stream=True, extra_headers=headers)
    stream.close()
    idle_service.http.get("/healthz")
    with ThreadPoolExecutor() as threads:
        again = threads.submit(
            idle_client.images.generate, prompt="a cat", stream=True, extra_headers=headers
        )
        player.finish(player.take_next(), photo(64, 64))
        events = list(again.result())
    assert [event.type for event in events] == ["image_generation.completed"]


def _preview() -> str:
    return base64.b64encode(photo(16, 16)).decode()

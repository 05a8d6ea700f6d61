"""OpenAI's JavaScript client against the whole service."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from service.errors import WorkerLost
from tests.clients.node_clients import Node
from tests.clients.pictures import mask, opened, photo
from tests.clients.recording import Recorder
from tests.service.live_api import LiveApi, Worker

pytestmark = pytest.mark.slow

Ask = Callable[..., Any]


@pytest.fixture
def ask(node: Node, service: LiveApi, api_key: str) -> Ask:
    return lambda *told: node.run("openai.mjs", f"{service.url}/v1", api_key, *told)


@pytest.fixture
def ask_idle(node: Node, idle_service: LiveApi, api_key: str) -> Ask:
    return lambda *told: node.run("openai.mjs", f"{idle_service.url}/v1", api_key, *told)


def test_a_caption_becomes_images(ask: Ask) -> None:
    answer = ask("generate")
    assert [opened(each["b64_json"]).size for each in answer["data"]] == [(64, 64)] * 2
    assert [each["seed"] for each in answer["data"]] == [5, 6]


def test_a_stream_ends_with_the_finished_image(ask: Ask) -> None:
    events = ask("stream")
    partial, completed = "image_generation.partial_image", "image_generation.completed"
    assert [event["type"] for event in events] == [partial, partial, completed]
    assert opened(events[-1]["b64_json"]).size == (64, 64)


def test_a_picture_is_edited(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes(photo())
    (tmp_path / "mask.png").write_bytes(mask())
    answer = ask("edit", str(tmp_path / "picture.png"), str(tmp_path / "mask.png"))
    assert opened(answer["data"][0]["b64_json"]).size == (64, 64)
    assert answer["data"][0]["seed"] == 5


def test_a_picture_is_varied(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes(photo())
    answer = ask("variation", str(tmp_path / "picture.png"))
    assert opened(answer["data"][0]["b64_json"]).size == (64, 64)


def test_models_are_listed_and_found(ask: Ask) -> None:
    listed, found = ask("models")
    assert [model["id"] for model in listed] == [found["id"]] == ["tiny"]


def test_a_bad_field_is_named(ask: Ask) -> None:
    error = ask("badSize")
    assert (error["name"], error["status"]) == ("BadRequestError", 400)
    assert (error["param"], error["code"]) == ("size", "invalid_value")
    assert error["requestID"]


def test_an_unknown_model_is_not_found(ask: Ask) -> None:
    error = ask("badModel")
    assert (error["name"], error["code"]) == ("NotFoundError", "model_not_found")


def test_a_failed_job_is_not_repeated(ask_idle: Ask, player: Worker, seen: Recorder) -> None:
    error = _while_failing(ask_idle, player, "failedJob")
    assert (error["name"], error["code"]) == ("InternalServerError", "generation_failed")
    assert len(seen.posts("/v1/images/generations")) == 1


def test_a_failure_in_a_stream_is_an_error(ask_idle: Ask, player: Worker) -> None:
    error = _while_failing(ask_idle, player, "failedStream")
    assert (error["name"], error["code"]) == ("APIError", "generation_failed")


def _while_failing(ask: Ask, player: Worker, scenario: str) -> Any:
    with ThreadPoolExecutor() as threads:
        asked = threads.submit(ask, scenario)
        player.fail(player.take_next(), WorkerLost.code, "gone")
        return asked.result()

"""Replicate's JavaScript client against the whole service."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from standardwebhooks import Webhook

from tests.clients.node_clients import Node
from tests.clients.recording import Recorder
from tests.service.live_api import LiveApi, Worker
from tests.service.some_pictures import picture

pytestmark = pytest.mark.slow

Ask = Callable[..., Any]
PREDICTIONS = "/replicate/v1/models/glide/tiny/predictions"


@pytest.fixture
def ask(node: Node, service: LiveApi, api_key: str) -> Ask:
    return lambda *told: node.run("replicate.mjs", f"{service.url}/replicate/v1", api_key, *told)


@pytest.fixture
def ask_idle(node: Node, idle_service: LiveApi, api_key: str) -> Ask:
    base_url = f"{idle_service.url}/replicate/v1"
    return lambda *told: node.run("replicate.mjs", base_url, api_key, *told)


def png(url: str) -> bool:
    """Whether a PNG is there for whoever has the URL."""
    return httpx.get(url).content.startswith(b"\x89PNG")


def while_playing(ask: Ask, scenario: str, play: Callable[[], None]) -> Any:
    with ThreadPoolExecutor() as threads:
        asked = threads.submit(ask, scenario)
        play()
        return asked.result()


def test_a_run_blocks_until_the_outputs_are_there(ask: Ask, recorder: Recorder) -> None:
    answer = ask("block")
    assert all(map(png, answer["output"]))
    assert [each["status"] for each in answer["seen"]] == ["succeeded", "succeeded"]
    assert answer["seen"][-1]["progress"]["percentage"] == 1
    (asked,) = recorder.posts(PREDICTIONS)[-1:]
    assert (asked.headers["prefer"], asked.status) == ("wait", 201)


def test_a_run_that_outlasts_its_wait_is_polled_to_its_end(
    ask_idle: Ask, player: Worker, seen: Recorder
) -> None:
    def play() -> None:
        lease = player.take_next()
        seen.wait_for(202)
        player.finish(lease, picture())

    answer = while_playing(ask_idle, "shortBlock", play)
    assert httpx.get(answer["output"][0]).content == picture()
    assert answer["seen"][0]["status"] == "starting"
    assert len(seen.posts(PREDICTIONS)) == 1


def test_a_polling_run_tells_its_progress(ask: Ask, recorder: Recorder) -> None:
    answer = ask("poll")
    assert all(map(png, answer["output"]))
    statuses = [each["status"] for each in answer["seen"]]
    assert (statuses[0], statuses[-1]) == ("starting", "succeeded")
    (asked,) = recorder.posts(PREDICTIONS)[-1:]
    assert "prefer" not in asked.headers


def test_a_run_of_a_version_gives_the_outputs(ask: Ask) -> None:
    assert all(map(png, ask("version")))


def test_a_failed_run_raises_why(ask_idle: Ask, player: Worker) -> None:
    def play() -> None:
        player.fail(player.take_next(), "bad", "the network is broken")

    error = while_playing(ask_idle, "failed", play)
    assert error["message"] == "Prediction failed: the network is broken"


def test_a_refusal_names_the_field(ask: Ask) -> None:
    error = ask("refused")
    assert (error["name"], error["status"]) == ("ApiError", 422)
    assert "- input.width: tiny makes 16x16, 64x64" in error["message"]


def test_a_prediction_is_created_waited_for_and_listed(ask: Ask) -> None:
    answer = ask("predictions")
    ended = answer["ended"]
    assert (answer["created"]["status"], ended["status"]) == ("starting", "succeeded")
    assert answer["found"] == ended
    assert ended["id"] in [each["id"] for each in answer["listed"]["results"]]
    assert ended["input"] == {"prompt": "a red apple", "seed": 5, "num_inference_steps": 3}
    assert ask("deployment")["deployment"] == "glide/tiny"


def test_a_prediction_is_canceled_as_often_as_one_likes(ask_idle: Ask) -> None:
    assert [each["status"] for each in ask_idle("cancel")] == ["canceled", "canceled"]


def test_all_pages_are_walked(ask_idle: Ask) -> None:
    assert ask_idle("pages") == [100, 1]


def test_a_stream_gives_outputs_as_files(ask: Ask) -> None:
    events = ask("stream")
    (output,) = (each["data"] for each in events if each["event"] == "output")
    assert output["type"] == "image/png"
    assert output["size"] == len(httpx.get(output["url"]).content)
    assert (events[-1]["event"], events[-1]["data"]) == ("done", "{}")
    assert all(each["id"] for each in events)


def test_a_stream_gives_outputs_as_urls(ask: Ask) -> None:
    (output,) = (each["data"] for each in ask("plainStream") if each["event"] == "output")
    assert png(output)


def test_a_failure_ends_a_stream(ask_idle: Ask, player: Worker) -> None:
    def play() -> None:
        player.fail(player.take_next(), "bad", "the network is broken")

    assert while_playing(ask_idle, "failedStream", play)["message"] == "the network is broken"


def test_a_file_is_uploaded_found_listed_and_deleted(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "fox.png").write_bytes(picture())
    answer = ask("files", str(tmp_path / "fox.png"))
    file = answer["file"]
    assert (file["content_type"], file["size"]) == ("image/png", len(picture()))
    assert file["metadata"] == {"my": "tag"}
    assert answer["found"] == file
    assert file in answer["listed"]["results"]
    assert answer["deleted"]


@pytest.mark.parametrize("scenario", ["edit", "inlineEdit"])
def test_a_picture_is_varied(ask: Ask, tmp_path: Path, scenario: str) -> None:
    (tmp_path / "fox.png").write_bytes(picture())
    assert all(map(png, ask(scenario, str(tmp_path / "fox.png"))))


def test_models_are_listed_and_found(ask: Ask) -> None:
    answer = ask("models")
    names = [f"{each['owner']}/{each['name']}" for each in answer["listed"]["results"]]
    assert names == ["glide/tiny", "acme/tiny"]
    assert answer["found"]["latest_version"] == answer["versions"]["results"][0]


def test_the_account_and_the_hardware_are_shown(ask: Ask) -> None:
    account, hardware = ask("place")
    assert (account["username"], hardware) == ("default", [{"sku": "cpu", "name": "cpu"}])


def test_a_webhook_verifies(ask: Ask, service: LiveApi, tmp_path: Path) -> None:
    secret = service.http.get("/replicate/v1/webhooks/default/secret").json()["key"]
    body, moment = '{"id": "job_1", "status": "succeeded"}', datetime.now(UTC)
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": Webhook(secret).sign("msg_1", moment, body),
    }
    delivery = tmp_path / "delivery.json"
    delivery.write_text(json.dumps({"headers": headers, "body": body}))
    assert ask("validate", str(delivery)) == [True, False]

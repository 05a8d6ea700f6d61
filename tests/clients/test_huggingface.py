"""Hugging Face's clients, in Python and JavaScript, against the whole service."""

import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import AsyncInferenceClient, InferenceClient
from huggingface_hub.errors import HfHubHTTPError
from PIL import Image

from service.errors import WorkerLost
from tests.clients.node_clients import Node
from tests.clients.pictures import opened, photo
from tests.clients.recording import Recorder
from tests.service.live_api import LiveApi, Worker

pytestmark = pytest.mark.slow

Ask = Callable[..., Any]
ONE_AT_A_TIME = pytest.mark.parametrize(
    "idle_service", [{"queue": {"max_queued": 1}}], indirect=True
)


@pytest.fixture
def client(service: LiveApi, api_key: str) -> InferenceClient:
    return InferenceClient(base_url=f"{service.url}/hf/models/tiny", api_key=api_key)


@pytest.fixture
def idle_client(idle_service: LiveApi, api_key: str) -> InferenceClient:
    return InferenceClient(base_url=f"{idle_service.url}/hf/models/tiny", api_key=api_key)


def newest(service: LiveApi) -> dict[str, Any]:
    job: dict[str, Any] = service.http.get("/v1/jobs", params={"limit": 1}).json()["data"][0]
    return job


def test_a_caption_becomes_an_image(client: InferenceClient, service: LiveApi) -> None:
    image = client.text_to_image(
        "a cat",
        negative_prompt="a dog",
        width=16,
        height=16,
        num_inference_steps=4,
        guidance_scale=2.5,
        scheduler="DDIMScheduler",
        seed=5,
    )
    assert (image.size, image.format) == ((16, 16), "PNG")
    asked = newest(service)["input"]
    assert (asked["prompt"], asked["negative_prompt"]) == ("a cat", "a dog")
    assert (asked["steps"], asked["guidance_scale"], asked["seed"]) == (4, 2.5, 5)
    assert asked["sampler"] == "ddim"


def test_a_caption_alone_is_enough(client: InferenceClient) -> None:
    assert client.text_to_image("a cat").size == (64, 64)


def test_fields_of_a_job_go_as_extra_body(client: InferenceClient, service: LiveApi) -> None:
    client.text_to_image("a cat", extra_body={"priority": "low", "output_format": "webp"})
    job = newest(service)
    assert (job["priority"], job["input"]["output_format"]) == ("low", "webp")


async def test_the_async_client_gets_an_image(service: LiveApi, api_key: str) -> None:
    url = f"{service.url}/hf/models/acme/tiny"
    async with AsyncInferenceClient(base_url=url, api_key=api_key) as client:
        image = await client.text_to_image("a cat", seed=5)
    assert image.size == (64, 64)


def test_a_picture_and_a_caption_become_an_image(client: InferenceClient, service: LiveApi) -> None:
    image = client.image_to_image(photo(), prompt="a cat", strength=0.5, num_inference_steps=4)
    assert image.size == (64, 64)
    asked = newest(service)["input"]
    assert (asked["task"], asked["prompt"], asked["strength"]) == ("variation", "a cat", 0.5)


def test_a_target_size_is_the_size(client: InferenceClient) -> None:
    size: Any = {"width": 16, "height": 16}
    assert client.image_to_image(photo(), target_size=size).size == (16, 16)


def test_a_picture_alone_comes_as_it_is(client: InferenceClient, tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(photo())
    for picture in (photo(), str(tmp_path / "photo.png")):
        assert client.image_to_image(picture).size == (64, 64)


def test_a_picture_with_other_parameters_than_a_caption_is_still_a_picture(
    client: InferenceClient, service: LiveApi
) -> None:
    client.image_to_image(photo(), num_inference_steps=4)
    assert newest(service)["input"]["task"] == "variation"


@pytest.mark.parametrize(
    ("model", "asked", "status", "told"),
    [
        ("tiny", {"width": 13}, 422, "/parameters/width: tiny makes 16x16, 64x64"),
        ("tiny", {"num_inference_steps": 0}, 422, "/parameters/num_inference_steps"),
        ("tiny", {"scheduler": "Euler"}, 422, "/parameters/scheduler"),
        ("tiny", {"extra_body": {"colour": 1}}, 422, "/parameters/colour: there is no such field"),
        ("tiny", {"extra_body": {"n": 2}}, 422, "/parameters/n: 1, or ask for them in JSON"),
        ("nothing", {}, 404, "there are: acme/tiny, gpt-image-1, tiny"),
    ],
)
def test_a_refusal_is_a_sentence(
    service: LiveApi, api_key: str, model: str, asked: dict[str, Any], status: int, told: str
) -> None:
    client = InferenceClient(base_url=f"{service.url}/hf/models/{model}", api_key=api_key)
    with pytest.raises(HfHubHTTPError) as caught:
        client.text_to_image("a cat", **asked)
    assert caught.value.response.status_code == status
    assert told in caught.value.response.json()["error"]


def test_a_failed_job_is_an_error(idle_client: InferenceClient, player: Worker) -> None:
    with ThreadPoolExecutor() as threads:
        asked = threads.submit(idle_client.text_to_image, "a cat")
        player.fail(player.take_next(), WorkerLost.code, "gone")
        with pytest.raises(HfHubHTTPError, match="gone") as caught:
            asked.result()
    assert caught.value.response.status_code == 500
    assert caught.value.response.headers["x-should-retry"] == "false"


@ONE_AT_A_TIME
def test_a_full_queue_is_never_a_503(idle_service: LiveApi, idle_client: InferenceClient) -> None:
    idle_service.submit()
    with pytest.raises(HfHubHTTPError) as caught:
        idle_client.text_to_image("a cat")
    assert caught.value.response.status_code == 429
    assert int(caught.value.response.headers["retry-after"]) > 0


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("image/jpeg", "image/jpeg"),
        ("image/webp;q=0.5, image/png;q=0.2", "image/webp"),
        ("image/*", "image/png"),
        ("text/html, */*;q=0.1", "image/png"),
        ("image/png;q=0, image/jpeg;q=oops", "image/jpeg"),
    ],
)
def test_the_image_has_the_format_that_is_accepted(
    service: LiveApi, accept: str, kind: str
) -> None:
    asked = {"inputs": "a cat", "parameters": {"width": 16, "seed": 5}}
    answer = service.http.post("/hf/models/tiny", json=asked, headers={"accept": accept})
    assert answer.headers["content-type"] == kind
    assert answer.headers["x-seed"] == "5"
    assert Image.open(io.BytesIO(answer.content)).size == (16, 16)


def test_all_images_come_in_json(service: LiveApi) -> None:
    asked = {"inputs": "a cat", "parameters": {"width": 16, "seed": 5, "n": 2}, "options": {}}
    headers = {"accept": "application/json", "idempotency-key": "two-cats"}
    first, again = (
        service.http.post("/hf/models/tiny", json=asked, headers=headers) for _ in range(2)
    )
    assert [each["seed"] for each in first.json()["data"]] == [5, 6]
    assert [opened(each["b64_json"]).size for each in first.json()["data"]] == [(16, 16)] * 2
    assert again.headers["idempotency-replayed"] == "true"
    assert again.content == first.content


def test_a_model_says_whether_it_is_served(service: LiveApi, idle_service: LiveApi) -> None:
    served = service.http.get("/hf/models/acme%2Ftiny").json()
    assert (served["id"], served["loaded"], served["state"]) == ("tiny", True, "Loaded")
    assert "inpaint" in served["tasks"]
    assert idle_service.http.get("/hf/models/tiny").json()["state"] == "Loadable"
    missing = service.http.get("/hf/models/nothing")
    assert (missing.status_code, set(missing.json())) == (404, {"error", "code"})


@pytest.fixture
def ask(node: Node, service: LiveApi, api_key: str) -> Ask:
    return lambda *told: node.run(
        "huggingface.mjs", f"{service.url}/hf/models/tiny", api_key, *told
    )


@pytest.fixture
def ask_idle(node: Node, idle_service: LiveApi, api_key: str) -> Ask:
    url = f"{idle_service.url}/hf/models/tiny"
    return lambda *told: node.run("huggingface.mjs", url, api_key, *told)


@pytest.mark.parametrize("scenario", ["textToImage", "bare"])
def test_the_javascript_client_gets_an_image(ask: Ask, scenario: str) -> None:
    answer = ask(scenario)
    assert answer["type"] == "image/png"
    assert opened(answer["base64"]).size == (64, 64)


def test_the_javascript_client_sends_a_picture(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(photo())
    assert opened(ask("imageToImage", str(tmp_path / "photo.png"))["base64"]).size == (64, 64)


def test_the_javascript_client_reads_the_refusal(ask: Ask) -> None:
    error = ask("refused")
    assert error["status"] == 422
    assert "tiny makes 16x16, 64x64" in error["message"]


@ONE_AT_A_TIME
def test_the_javascript_client_asks_a_full_queue_once(
    ask_idle: Ask, idle_service: LiveApi, seen: Recorder
) -> None:
    idle_service.submit()
    assert ask_idle("failed")["status"] == 429
    assert len(seen.posts("/hf/models/tiny")) == 1


def test_the_javascript_client_asks_for_a_job_once_though_it_fails(
    ask_idle: Ask, player: Worker, seen: Recorder
) -> None:
    with ThreadPoolExecutor() as threads:
        asked = threads.submit(ask_idle, "failed")
        player.fail(player.take_next(), WorkerLost.code, "gone")
        assert asked.result()["status"] == 500
    assert len(seen.posts("/hf/models/tiny")) == 1

"""What servers get wrong about these clients, one test each, on the client that trips over it."""

import base64
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
import pytest
from openai import OpenAI

from service.events import Preview
from tests.clients.node_clients import Node
from tests.clients.pictures import mask, opened, photo
from tests.clients.recording import Recorder
from tests.service.live_api import LiveApi, Worker

pytestmark = pytest.mark.slow

GENERATIONS = "/v1/images/generations"
FULL = pytest.mark.parametrize("idle_service", [{"queue": {"max_queued": 1}}], indirect=True)


@pytest.fixture
def client(service: LiveApi, api_key: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{service.url}/v1", api_key=api_key) as client:
        yield client


@pytest.fixture
def idle_client(idle_service: LiveApi, api_key: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{idle_service.url}/v1", api_key=api_key) as client:
        yield client


def test_a_validation_error_has_a_param_and_a_code_where_the_sdk_looks(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.images.generate(prompt="a cat", n=0)
    assert (caught.value.param, caught.value.code) == ("n", "invalid_value")


def test_a_slash_in_a_models_name_arrives_encoded(client: OpenAI, recorder: Recorder) -> None:
    assert client.models.retrieve("acme/tiny").id == "tiny"
    assert recorder.requests[-1].raw_path.endswith("/v1/models/acme%2Ftiny")


def test_a_list_of_pictures_has_brackets_in_its_name(client: OpenAI) -> None:
    answer = client.images.edit(image=[("p.png", photo())], prompt="a cat")
    assert answer.data is not None
    assert opened(answer.data[0].b64_json).size == (64, 64)


@pytest.mark.parametrize("kind", ["url", "b64_json"])
def test_the_legacy_response_format_is_taken(client: OpenAI, kind: str) -> None:
    answer = client.images.generate(prompt="a cat", extra_body={"response_format": kind})
    assert answer.data is not None
    assert getattr(answer.data[0], kind)


def test_a_stream_has_neither_ids_nor_retries(service: LiveApi) -> None:
    answer = service.http.post(GENERATIONS, json={"prompt": "a cat", "stream": True})
    assert "\nid:" not in answer.text
    assert "\nretry:" not in answer.text


def test_a_stream_never_just_ends(idle_client: OpenAI, player: Worker) -> None:
    with idle_client.images.generate(prompt="a cat", stream=True) as stream:
        player.fail(player.take_next(), "job_failed", "gone")
        with pytest.raises(openai.APIError, match="gone"):
            list(stream)


def test_a_failure_after_acceptance_is_not_paid_three_times(
    idle_service: LiveApi, player: Worker, seen: Recorder, node: Node, api_key: str
) -> None:
    with ThreadPoolExecutor() as threads:
        url = f"{idle_service.url}/v1"
        asked = threads.submit(node.run, "openai.mjs", url, api_key, "failedJob")
        player.fail(player.take_next(), "job_failed", "gone")
        asked.result()
    assert len(seen.posts(GENERATIONS)) == 1


@FULL
def test_no_pause_is_longer_than_the_sdks_wait(idle_service: LiveApi) -> None:
    idle_service.submit()
    answer = idle_service.http.post(GENERATIONS, json={"prompt": "a cat"})
    assert answer.status_code == 503
    assert 0 < int(answer.headers["retry-after"]) <= 60


def test_an_address_needs_nothing_but_itself(client: OpenAI) -> None:
    answer = client.images.generate(prompt="a cat", response_format="url")
    assert answer.data is not None
    assert httpx.get(str(answer.data[0].url)).status_code == 200


@FULL
def test_the_endpoint_never_says_503_which_is_repeated_for_ever(
    idle_service: LiveApi, seen: Recorder, node: Node, api_key: str
) -> None:
    idle_service.submit()
    url = f"{idle_service.url}/hf/models/tiny"
    assert node.run("huggingface.mjs", url, api_key, "failed")["status"] == 429
    assert len(seen.posts("/hf/models/tiny")) == 1


@pytest.mark.parametrize("path", [GENERATIONS, "/v1/models/tiny", "/hf/models/tiny"])
def test_a_405_says_what_is_allowed(service: LiveApi, path: str) -> None:
    answer = service.http.delete(path)
    assert answer.status_code == 405
    assert answer.headers["allow"]


def test_transparent_is_painted_and_opaque_is_kept(client: OpenAI) -> None:
    answer = client.images.edit(
        image=("p.png", photo(64, 64)), mask=("m.png", mask(64, 64)), prompt="a cat"
    )
    assert answer.data is not None
    left = (0, 0, 32, 64)
    edited = opened(answer.data[0].b64_json).convert("RGB")
    original = opened(base64.b64encode(photo(64, 64)).decode())
    assert edited.crop(left).tobytes() == original.crop(left).tobytes()
    assert edited.tobytes() != original.tobytes()


def test_an_event_goes_out_before_the_next_one_happens(
    idle_service: LiveApi, player: Worker
) -> None:
    asked = {"prompt": "a cat", "stream": True, "partial_images": 1}
    with idle_service.http.stream("POST", GENERATIONS, json=asked) as answer:
        lease = player.take_next()
        preview = base64.b64encode(photo(16, 16)).decode()
        player.leases.event(lease.job.id, lease.token, Preview(0, 1, preview))
        data = (line[6:] for line in answer.iter_lines() if line.startswith("data: "))
        assert json.loads(next(data))["type"] == "image_generation.partial_image"
        player.finish(lease, photo(64, 64))
        assert json.loads(next(data))["type"] == "image_generation.completed"

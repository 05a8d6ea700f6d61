"""OpenAI's Python client and everything that can go wrong: classes, codes, and what it repeats."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest
from openai import OpenAI

from service.errors import ImageRejected, PromptRejected, WorkerLost
from service.jobs import is_job_id
from tests.clients.pictures import mask, opened, photo
from tests.clients.recording import Recorder
from tests.service.live_api import LiveApi, Worker

pytestmark = pytest.mark.slow

PATH = "/v1/images/generations"
ONE_AT_A_TIME = pytest.mark.parametrize(
    "idle_service", [{"queue": {"max_queued": 1}}], indirect=True
)
ONE_EACH = pytest.mark.parametrize(
    "idle_service", [{"queue": {"max_queued_per_tenant": 1}}], indirect=True
)


@pytest.fixture(scope="module")
def client(service: LiveApi, api_key: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{service.url}/v1", api_key=api_key) as client:
        yield client


@pytest.fixture
def idle_client(idle_service: LiveApi, api_key: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{idle_service.url}/v1", api_key=api_key) as client:
        yield client


@pytest.mark.parametrize(
    ("asked", "param", "code"),
    [
        ({"size": "13x7"}, "size", "invalid_value"),
        ({"size": "big"}, "size", "invalid_value"),
        ({"n": 0}, "n", "invalid_value"),
        ({"n": 9}, "n", "invalid_value"),
        ({"n": 11}, "n", "invalid_value"),
        ({"n": "two"}, "n", "invalid_type"),
        ({"prompt": 5}, "prompt", "invalid_type"),
        ({"prompt": "a" * 32_001}, "prompt", "string_above_max_length"),
        ({"partial_images": 4}, "partial_images", "invalid_value"),
        ({"output_format": "gif"}, "output_format", "invalid_value"),
        ({"quality": "best"}, "quality", "invalid_value"),
        ({"extra_body": {"colour": "red"}}, "colour", "unknown_parameter"),
        ({"extra_body": {"width": 64}}, "width", "unknown_parameter"),
        ({"extra_body": {"seed": -1}}, "seed", "invalid_value"),
        ({"extra_body": {"num_inference_steps": 0}}, "num_inference_steps", "invalid_value"),
        ({"extra_body": {"num_inference_steps": []}}, "num_inference_steps", "invalid_type"),
        ({"extra_body": {"scheduler": "Euler"}}, "scheduler", "invalid_value"),
        ({"extra_body": {"guidance": 99}}, "guidance", "invalid_value"),
        (
            {"extra_body": {"steps": 3, "num_inference_steps": 3}},
            "num_inference_steps",
            "invalid_value",
        ),
        ({"extra_body": {"upsample": {"steps": 0}}}, "upsample.steps", "invalid_value"),
    ],
)
def test_a_bad_field_is_a_bad_request_that_names_it(
    client: OpenAI, asked: dict[str, Any], param: str, code: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.images.generate(**{"prompt": "a cat", **asked})
    error = caught.value
    assert (error.param, error.code, error.type) == (param, code, "invalid_request_error")
    assert error.request_id == error.response.headers["x-request-id"]


def test_a_size_that_is_not_made_is_refused_with_those_that_are(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="tiny makes 16x16, 64x64"):
        client.images.generate(prompt="a cat", size="1024x1024")


def test_a_missing_caption_is_named(service: LiveApi) -> None:
    answer = service.http.post(PATH, json={})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["param"], error["code"]) == ("prompt", "missing_required_parameter")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"a cat"', b"[" * 100_000])
def test_a_body_that_is_no_json_object_is_refused_in_openais_words(
    service: LiveApi, body: bytes
) -> None:
    headers = {"content-type": "application/json"}
    answer = service.http.post(PATH, content=body, headers=headers)
    assert answer.status_code == 400
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_an_unknown_model_is_not_found(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="there are: acme/tiny, gpt-image-1, tiny") as e:
        client.images.generate(prompt="a cat", model="dall-e-3")
    assert (e.value.code, e.value.param) == ("model_not_found", "model")


def test_an_unknown_model_is_told_in_both_dialects(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("acme/nothing")
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    problem = caught.value.response.json()
    assert caught.value.response.headers["content-type"] == "application/problem+json"
    assert (problem["status"], problem["code"]) == (404, "model_not_found")


def test_a_model_can_not_be_deleted(client: OpenAI) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        client.models.delete("tiny")
    assert caught.value.status_code == 405
    assert "DELETE" not in caught.value.response.headers["allow"]
    assert caught.value.code == "method_not_allowed"


def test_a_picture_that_is_none_is_an_invalid_image(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.images.edit(image=("p.png", b"not a picture"), prompt="a cat")
    assert (caught.value.code, caught.value.param) == ("invalid_image", "image")


@pytest.mark.parametrize("content", [photo(), photo(10, 10), b"not a picture"])
def test_a_mask_that_marks_nothing_is_refused(client: OpenAI, content: bytes) -> None:
    with pytest.raises(openai.BadRequestError, match="transparent where to paint") as caught:
        client.images.edit(image=("p.png", photo()), mask=("m.png", content), prompt="a cat")
    assert caught.value.param == "mask"


def test_a_mask_of_another_size_is_refused(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="8x8") as caught:
        client.images.edit(image=("p.png", photo()), mask=("m.png", mask(8, 8)), prompt="a cat")
    assert (caught.value.code, caught.value.param) == ("invalid_image", "mask")


def test_more_than_one_picture_is_refused(client: OpenAI) -> None:
    pictures = [("a.png", photo()), ("b.png", photo())]
    with pytest.raises(openai.BadRequestError, match="one picture here, not 2") as caught:
        client.images.edit(image=pictures, prompt="a cat")
    assert caught.value.param == "image"


def test_a_failed_job_is_not_repeated(
    idle_client: OpenAI, idle_service: LiveApi, player: Worker, seen: Recorder
) -> None:
    error = _refused(idle_client, lambda: player.fail(player.take_next(), WorkerLost.code, "gone"))
    assert isinstance(error, openai.InternalServerError)
    assert (error.code, error.type) == ("generation_failed", "server_error")
    assert error.response.headers["x-should-retry"] == "false"
    assert is_job_id(error.response.headers["x-job-id"])
    assert len(seen.posts(PATH)) == 1
    assert len(idle_service.http.get("/v1/jobs").json()["data"]) == 1


@pytest.mark.parametrize("kind", [PromptRejected, ImageRejected])
def test_a_refusal_by_policy_is_a_bad_request(
    idle_client: OpenAI, player: Worker, kind: type[PromptRejected | ImageRejected]
) -> None:
    error = _refused(idle_client, lambda: player.fail(player.take_next(), kind.code, "no"))
    assert isinstance(error, openai.BadRequestError)
    assert error.code == "content_policy_violation"


def test_a_canceled_job_is_a_bad_request(idle_client: OpenAI, idle_service: LiveApi) -> None:
    def cancel() -> None:
        while not (jobs := idle_service.http.get("/v1/jobs").json()["data"]):
            pass
        idle_service.http.post(f"/v1/jobs/{jobs[0]['id']}/cancel")

    error = _refused(idle_client, cancel)
    assert isinstance(error, openai.BadRequestError)
    assert error.code == "generation_canceled"


def test_a_client_that_goes_takes_its_job_along(idle_service: LiveApi, api_key: str) -> None:
    with (
        OpenAI(
            base_url=f"{idle_service.url}/v1",
            api_key=api_key,
            max_retries=0,
            timeout=openai.Timeout(0.3, connect=30),
        ) as client,
        pytest.raises(openai.APITimeoutError),
    ):
        client.images.generate(prompt="a cat")
    (job,) = idle_service.http.get("/v1/jobs").json()["data"]
    assert idle_service.once_final(job["id"])["cancel_reason"] == "the client has gone"


@ONE_AT_A_TIME
def test_a_full_queue_is_asked_again_until_there_is_room(
    idle_client: OpenAI, idle_service: LiveApi, player: Worker, seen: Recorder
) -> None:
    waiting = idle_service.submit()

    def make_room() -> None:
        seen.wait_for(503)
        idle_service.http.post(f"/v1/jobs/{waiting}/cancel")
        player.finish(player.take_next(), photo(64, 64))

    thread = threading.Thread(target=make_room)
    thread.start()
    answer = idle_client.images.generate(prompt="a cat")
    thread.join()
    assert answer.data is not None
    assert opened(answer.data[0].b64_json).size == (64, 64)
    assert [post.status for post in seen.posts(PATH)] == [503, 200]
    assert [p.headers["x-stainless-retry-count"] for p in seen.posts(PATH)] == ["0", "1"]


@ONE_AT_A_TIME
def test_a_full_queue_says_when_to_ask_again(idle_service: LiveApi, api_key: str) -> None:
    idle_service.submit()
    with (
        OpenAI(base_url=f"{idle_service.url}/v1", api_key=api_key, max_retries=0) as client,
        pytest.raises(openai.InternalServerError) as caught,
    ):
        client.images.generate(prompt="a cat")
    headers = caught.value.response.headers
    assert caught.value.status_code == 503
    assert caught.value.code == "queue_full"
    assert 0 < int(headers["retry-after"]) <= 60
    assert int(headers["retry-after-ms"]) == 1000 * int(headers["retry-after"])
    assert "x-should-retry" not in headers


@ONE_EACH
def test_too_many_jobs_of_ones_own_are_a_rate_limit(idle_service: LiveApi, api_key: str) -> None:
    idle_service.submit()
    with (
        OpenAI(base_url=f"{idle_service.url}/v1", api_key=api_key, max_retries=0) as client,
        pytest.raises(openai.RateLimitError) as caught,
    ):
        client.images.generate(prompt="a cat")
    assert (caught.value.code, caught.value.type) == ("rate_limit_exceeded", "rate_limit_error")
    assert float(caught.value.response.headers["retry-after-ms"]) > 0


def _with_key(api: LiveApi, key: str) -> OpenAI:
    return OpenAI(base_url=f"{api.url}/v1", api_key=key, max_retries=0)


@pytest.mark.parametrize("key", ["sk-test", "glide_sk_" + "0" * 49])
def test_a_wrong_key_is_an_authentication_error(service: LiveApi, key: str) -> None:
    with _with_key(service, key) as client:
        for ask in (lambda: client.images.generate(prompt="a cat"), client.models.list):
            with pytest.raises(openai.AuthenticationError) as caught:
                ask()
            assert (caught.value.code, caught.value.status_code) == ("invalid_api_key", 401)
            assert caught.value.response.headers["www-authenticate"] == "Bearer"


def test_a_rate_is_a_rate_limit_error(idle_service: LiveApi) -> None:
    key = idle_service.new_key(rate="1/h")
    with _with_key(idle_service, key) as client:
        client.images.generate(prompt="a cat", stream=True).close()
        with pytest.raises(openai.RateLimitError) as caught:
            client.images.generate(prompt="a cat")
    headers = caught.value.response.headers
    assert caught.value.code == "rate_limit_exceeded"
    assert float(headers["retry-after-ms"]) == 1000 * float(headers["retry-after"])
    assert len(idle_service.http.get("/v1/jobs").json()["data"]) == 1


def test_a_used_up_quota_is_not_asked_for_again(
    idle_service: LiveApi, seen: Recorder, player: Worker
) -> None:
    key = idle_service.new_key(quota="1/d")
    with OpenAI(base_url=f"{idle_service.url}/v1", api_key=key) as client:
        with client.images.generate(prompt="a cat", stream=True):
            player.finish(player.take_next(), photo(64, 64))
        with pytest.raises(openai.RateLimitError) as caught:
            client.images.generate(prompt="a cat")
    assert (caught.value.code, caught.value.type) == ("insufficient_quota", "insufficient_quota")
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert [post.status for post in seen.posts(PATH)] == [200, 429]


def _refused(client: OpenAI, meanwhile: Callable[[], None]) -> openai.APIStatusError:
    """What the client gets of a job that ends otherwise."""
    with ThreadPoolExecutor() as threads:
        asked = threads.submit(client.images.generate, prompt="a cat")
        meanwhile()
        with pytest.raises(openai.APIStatusError) as caught:
            asked.result()
    return caught.value

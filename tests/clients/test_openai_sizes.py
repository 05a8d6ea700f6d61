"""Sizes that no pipeline makes, where the operator lets them be scaled."""

import io
from collections.abc import Iterator

import httpx
import openai
import pytest
from openai import OpenAI
from PIL import Image

from tests.clients.pictures import mask, opened
from tests.service.live_api import LiveApi

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def client(resizing_service: LiveApi, api_key: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{resizing_service.url}/v1", api_key=api_key) as client:
        yield client


@pytest.mark.parametrize(
    ("asked", "made"),
    [("1024x1024", 64), ("40x20", 64), ("16x8", 16), ("1536x1024", 64), ("16x16", 16)],
)
def test_an_image_is_made_large_enough_and_scaled(
    client: OpenAI, resizing_service: LiveApi, asked: str, made: int
) -> None:
    raw = client.images.with_raw_response.generate(prompt="a cat", size=asked)
    answer = raw.parse()
    assert answer.data is not None
    assert "{}x{}".format(*opened(answer.data[0].b64_json).size) == answer.size == asked
    job = resizing_service.http.get(f"/v1/jobs/{raw.headers['x-job-id']}").json()
    assert job["input"]["width"] == made


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_a_url_gives_the_scaled_image_without_a_key(client: OpenAI, kind: str) -> None:
    answer = client.images.generate(
        prompt="a cat",
        size="96x48",
        response_format="url",
        extra_body={"output_format": kind, "seed": 5},
    )
    assert answer.data is not None
    url = str(answer.data[0].url)
    fetched = httpx.get(url)
    image = Image.open(io.BytesIO(fetched.content))
    assert (image.size, image.format) == ((96, 48), kind.upper())
    assert fetched.headers["content-type"] == f"image/{kind}"
    held = httpx.get(url, headers={"if-none-match": fetched.headers["etag"]})
    assert held.status_code == 304
    for other in ("/2x2/", "/3840x3840/", "/xx/"):
        assert httpx.get(url.replace("/96x48/", other)).status_code == 403


def test_the_same_image_comes_by_url_and_in_base64(client: OpenAI) -> None:
    asked = {"seed": 5, "sampler": "ddim"}
    by_url = client.images.generate(
        prompt="a cat", size="96x48", response_format="url", extra_body=asked
    )
    direct = client.images.generate(prompt="a cat", size="96x48", extra_body=asked)
    assert by_url.data is not None
    assert direct.data is not None
    fetched = Image.open(io.BytesIO(httpx.get(str(by_url.data[0].url)).content))
    assert fetched.tobytes() == opened(direct.data[0].b64_json).tobytes()


def test_a_scaled_image_still_says_how_it_was_made(client: OpenAI) -> None:
    answer = client.images.generate(prompt="a cat", size="96x48", extra_body={"seed": 5})
    assert answer.data is not None
    assert '"seed":5' in opened(answer.data[0].b64_json).info["glide"]


def test_streams_and_edits_are_scaled_too(client: OpenAI) -> None:
    with client.images.edit(
        image=("p.png", mask(30, 50)), prompt="a cat", size="96x48", stream=True, partial_images=1
    ) as stream:
        events = list(stream)
    assert [opened(event.b64_json).size for event in events] == [(96, 48)] * 2
    assert {event.size for event in events} == {"96x48"}


@pytest.mark.parametrize("size", ["3841x16", "0x16", "16", "-1x16", "16x", "9999999x1"])
def test_no_size_at_all_is_refused_still(client: OpenAI, size: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.images.generate(prompt="a cat", size=size)
    assert (caught.value.param, caught.value.code) == ("size", "invalid_value")

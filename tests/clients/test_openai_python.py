"""OpenAI's Python client against the whole service: what it asks for, and what it is given."""

import asyncio
import io
from collections.abc import AsyncIterator, Iterator

import httpx
import openai
import pytest
import pytest_asyncio
from openai import AsyncOpenAI, OpenAI
from PIL import Image

from tests.clients.pictures import encoded, mask, opened, photo
from tests.service.live_api import LiveApi

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def client(service: LiveApi, api_key: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{service.url}/v1", api_key=api_key, max_retries=0) as client:
        yield client


@pytest_asyncio.fixture
async def async_client(service: LiveApi, api_key: str) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{service.url}/v1", api_key=api_key, max_retries=0) as client:
        yield client


def test_a_caption_becomes_images_in_base64(client: OpenAI) -> None:
    answer = client.images.generate(prompt="a red apple on the grass", n=2)
    assert answer.data is not None
    assert [opened(each.b64_json).size for each in answer.data] == [(64, 64)] * 2
    assert (answer.size, answer.output_format, answer.background) == ("64x64", "png", "opaque")
    assert answer.quality == "high"
    assert all(each.url is None and each.revised_prompt is None for each in answer.data)
    seeds = [(each.model_extra or {})["seed"] for each in answer.data]
    assert seeds[1] == seeds[0] + 1


def test_usage_counts_the_caption_and_the_work_of_the_job(client: OpenAI, service: LiveApi) -> None:
    raw = client.images.with_raw_response.generate(prompt="a red apple", size="16x16")
    usage = raw.parse().usage
    assert usage is not None
    assert usage.input_tokens == usage.input_tokens_details.text_tokens == 3
    job = service.http.get(f"/v1/jobs/{raw.headers['x-job-id']}").json()
    assert usage.output_tokens == 12 == 2 * job["total_steps"]  # two rows a step: it is guided
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens


def test_null_is_the_default(client: OpenAI) -> None:
    answer = client.images.generate(
        prompt="a cat",
        model=None,
        n=None,
        size=None,
        quality=None,
        style=None,
        background=None,
        output_format=None,
        output_compression=None,
        moderation=None,
        partial_images=None,
        response_format=None,
        stream=None,
        extra_body={"seed": None, "steps": None},
    )
    assert answer.data is not None
    assert len(answer.data) == 1


def test_fields_of_a_job_go_as_extra_body(client: OpenAI, service: LiveApi) -> None:
    raw = client.images.with_raw_response.generate(
        prompt="a cat",
        extra_body={
            "seed": 5,
            "num_inference_steps": 4,
            "guidance_scale": 2.5,
            "negative_prompt": "a dog",
            "scheduler": "DDIMScheduler",
            "priority": "high",
            "metadata": {"album": "cats"},
        },
    )
    job = service.http.get(f"/v1/jobs/{raw.headers['x-job-id']}").json()
    asked = job["input"]
    assert (asked["seed"], asked["steps"], asked["guidance_scale"]) == (5, 4, 2.5)
    assert (asked["negative_prompt"], asked["sampler"]) == ("a dog", "ddim")
    assert (job["priority"], job["metadata"]) == ("high", {"album": "cats"})


def test_the_same_seed_is_the_same_image(client: OpenAI) -> None:
    asked = {"seed": 7, "steps": 3, "sampler": "ddim", "guidance": 2.0}
    one = client.images.generate(prompt="a cat", extra_body=asked)
    two = client.images.generate(prompt="a cat", extra_body=asked)
    assert one.data is not None
    assert two.data is not None
    first, second = (opened(each.data[0].b64_json) for each in (one, two) if each.data)
    assert first.tobytes() == second.tobytes()


def test_fields_without_effect_are_taken(client: OpenAI) -> None:
    answer = client.images.generate(
        prompt="a cat",
        size="16x16",
        quality="low",
        style="vivid",
        background="auto",
        moderation="low",
        output_compression=90,
        output_format="webp",
        user="somebody",
    )
    assert (answer.quality, answer.output_format) == ("low", "webp")
    assert answer.safety_identifier == "somebody"
    assert answer.data is not None
    assert opened(answer.data[0].b64_json).format == "WEBP"


def test_a_safety_identifier_wins_over_the_user(client: OpenAI) -> None:
    answer = client.images.generate(
        prompt="a cat", size="16x16", user="somebody", safety_identifier="nobody"
    )
    assert answer.safety_identifier == "nobody"


def test_a_url_needs_no_key(client: OpenAI) -> None:
    answer = client.images.generate(prompt="a cat", response_format="url", output_format="jpeg")
    assert answer.data is not None
    assert answer.data[0].b64_json is None
    fetched = httpx.get(str(answer.data[0].url))
    assert fetched.headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(fetched.content)).size == (64, 64)


def test_models_go_by_their_aliases(client: OpenAI, service: LiveApi) -> None:
    for name in ("tiny", "gpt-image-1", "acme/tiny"):
        raw = client.images.with_raw_response.generate(prompt="a cat", model=name, size="16x16")
        job = service.http.get(f"/v1/jobs/{raw.headers['x-job-id']}").json()
        assert job["model"] == "tiny"


def test_an_edit_keeps_what_its_mask_has_opaque(client: OpenAI) -> None:
    picture = encoded(Image.new("RGB", (64, 64), (200, 30, 30)))
    answer = client.images.edit(
        image=("picture.png", picture, "image/png"),
        mask=("mask.png", mask(64, 64), "image/png"),
        prompt="a cat",
        extra_body={"seed": 3, "guidance_scale": 2.5},
    )
    assert answer.data is not None
    edited = opened(answer.data[0].b64_json).convert("RGB")
    kept, painted = edited.crop((0, 0, 32, 64)), edited.crop((32, 0, 64, 64))
    assert kept.getcolors() == [(32 * 64, (200, 30, 30))]
    assert len(painted.getcolors(maxcolors=1 << 24) or []) > 100


def test_without_a_mask_the_pictures_own_transparency_is_painted(
    client: OpenAI, service: LiveApi
) -> None:
    raw = client.images.with_raw_response.edit(image=("p.png", mask(64, 64)), prompt="a cat")
    job = service.http.get(f"/v1/jobs/{raw.headers['x-job-id']}").json()
    assert job["input"]["task"] == "inpaint"


def test_an_opaque_picture_is_painted_anew_as_a_whole(client: OpenAI, service: LiveApi) -> None:
    raw = client.images.with_raw_response.edit(
        image=io.BytesIO(photo()), prompt="a cat", n=2, extra_body={"strength": 0.5}
    )
    job = service.http.get(f"/v1/jobs/{raw.headers['x-job-id']}").json()
    assert (job["input"]["task"], job["input"]["strength"], job["input"]["n"]) == (
        "variation",
        0.5,
        2,
    )
    data = raw.parse().data
    assert data is not None
    assert [opened(each.b64_json).size for each in data] == [(64, 64)] * 2


def test_a_variation_needs_no_caption(client: OpenAI) -> None:
    with pytest.warns(DeprecationWarning, match="deprecated"):
        answer = client.images.create_variation(
            image=io.BytesIO(photo()), n=1, response_format="b64_json"
        )
    assert answer.data is not None
    assert opened(answer.data[0].b64_json).size == (64, 64)


def test_a_key_makes_a_request_once(client: OpenAI) -> None:
    headers = {"Idempotency-Key": "one-and-the-same"}
    one, two = (
        client.images.with_raw_response.generate(prompt="a cat", extra_headers=headers)
        for _ in range(2)
    )
    assert "idempotency-replayed" not in one.headers
    assert two.headers["idempotency-replayed"] == "true"
    assert one.headers["x-job-id"] == two.headers["x-job-id"]
    assert one.parse() == two.parse()
    with pytest.raises(openai.BadRequestError) as refused:
        client.images.generate(prompt="a dog", extra_headers=headers)
    assert refused.value.code == "idempotency_key_reused"


async def test_the_async_client_gets_images_together(async_client: AsyncOpenAI) -> None:
    answers = await asyncio.gather(
        *(async_client.images.generate(prompt="a cat", size="16x16") for _ in range(3))
    )
    assert all(opened((answer.data or [])[0].b64_json).size == (16, 16) for answer in answers)


def test_models_are_listed_in_openais_shape(client: OpenAI) -> None:
    (model,) = client.models.list().data
    assert (model.id, model.object, model.owned_by) == ("tiny", "model", "glide-service")
    assert model.created > 1_600_000_000
    assert (model.model_extra or {})["sizes"] == [16, 64]


@pytest.mark.parametrize("name", ["tiny", "acme/tiny"])
def test_a_model_is_found_by_its_name_or_an_alias_with_a_slash(client: OpenAI, name: str) -> None:
    assert client.models.retrieve(name).id == "tiny"

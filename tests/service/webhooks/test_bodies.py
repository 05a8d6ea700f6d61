"""What a delivery says, and that it stays short."""

import json

import pytest

from model.params import SamplingParams
from service.jobs import ImageRecord, Job, JobStatus, new_job_id
from service.views.links import Links, LinkSigner
from service.webhooks.bodies import MAX_BYTES, render

LINKS = Links("https://glide.example", LinkSigner(b"key"))


def job(prompt: str = "a cat", **members: object) -> Job:
    return Job(
        id=new_job_id(),
        status=JobStatus.SUCCEEDED,
        params=SamplingParams(prompt=prompt, negative_prompt=prompt),
        created_at_ms=1_700_000_000_000,
        **members,  # type: ignore[arg-type]
    )


def image(index: int) -> ImageRecord:
    return ImageRecord(
        index=index,
        key="k",
        content_type="image/png",
        image_bytes=1 << 20,
        sha256="0" * 64,
        width=256,
        height=256,
        seed=index,
    )


def test_a_body_has_the_time_of_the_event_and_addresses_of_images() -> None:
    body = json.loads(
        render("native", "job.image", 1_700_000_001_234, job(images=(image(0),)), LINKS)
    )
    assert list(body) == ["type", "timestamp", "data"]
    assert (body["type"], body["timestamp"]) == ("job.image", "2023-11-14T22:13:21.234Z")
    (shown,) = body["data"]["images"]
    assert shown["url"].startswith(f"https://glide.example/v1/files/{body['data']['id']}/0.png?")


@pytest.mark.parametrize("dialect", ["native", "replicate"])
@pytest.mark.parametrize("character", ["a", "ü", "😀", '"', "\\"])
def test_a_body_fits_whatever_the_client_wrote(dialect: str, character: str) -> None:
    text = character * 32_000
    long = job(
        text,
        images=tuple(image(index) for index in range(8)),
        metadata={f"{character * 63}{k:x}": character * 512 for k in range(16)},
        unknown_words=(character * 1000,) * 50,
        warnings=(text,),
        echo={"input": {"prompt": text, "image": "data:image/png;base64," + "A" * 1_000_000}},
        api="replicate" if dialect == "replicate" else "native",
    )
    body = render(dialect, "job.succeeded", 0, long, LINKS)
    assert len(body.encode()) <= MAX_BYTES
    said = json.loads(body)
    data = said if dialect == "replicate" else said["data"]
    assert data["input"]["prompt"].endswith("… (cut, of 32000 characters)")
    urls = data["output"] if dialect == "replicate" else [each["url"] for each in data["images"]]
    assert urls == [LINKS.image(long, each) for each in long.images]


def test_a_short_body_is_left_as_it_is() -> None:
    told = job("a cat " * 1000)
    data = json.loads(render("native", "job.failed", 0, told, LINKS))["data"]
    assert data["input"]["prompt"] == "a cat " * 1000


def test_the_same_moment_gives_the_same_bytes() -> None:
    told = job()
    first, second = (render("native", "job.failed", 5, told, LINKS) for _ in range(2))
    assert first == second

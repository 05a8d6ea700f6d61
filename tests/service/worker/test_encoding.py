import hashlib
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from model.params import SamplerName, SamplingParams, Task
from service.jobs import Job, JobStatus
from service.worker.encoding import encode, image_key, image_record, preview_png, provenance

PARAMS = SamplingParams(
    prompt="ein roter Apfel, 赤い\n🍎", negative_prompt="blur", seed=40, width=16, height=8, n=3
)
DIGITAL_SOURCE = "digitalsourcetype/trainedAlgorithmicMedia"


def _pixels() -> NDArray[np.uint8]:
    return np.arange(16 * 8 * 3, dtype=np.int64).reshape(8, 16, 3).astype(np.uint8)


def test_a_png_keeps_every_pixel_and_says_how_it_was_made() -> None:
    record = provenance("job_1", PARAMS, 2, 42, "0.1.0")
    data = encode(_pixels(), "png", record)
    with Image.open(io.BytesIO(data)) as image:
        assert np.array_equal(np.asarray(image), _pixels())
        assert json.loads(image.info["glide"]) == record
        assert DIGITAL_SOURCE in image.info["XML:com.adobe.xmp"]
    assert record["seed"] == 42
    assert record["sampler"] == SamplerName.DPMPP_2M.value


def test_the_record_is_canonical_json_in_an_itxt_chunk() -> None:
    record = provenance("job_1", PARAMS, 0, 40, "0.1.0")
    data = encode(_pixels(), "png", record)
    text = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert b"iTXtglide\0\0\0\0\0" + text.encode() in data


@pytest.mark.parametrize(("output_format", "pillow_format"), [("jpeg", "JPEG"), ("webp", "WEBP")])
def test_other_formats_carry_the_same_record(output_format: str, pillow_format: str) -> None:
    record = provenance(None, PARAMS, 0, 40, "0.1.0")
    data = encode(_pixels(), output_format, record)
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == pillow_format
        assert image.size == (16, 8)
        comment = image.getexif().get_ifd(0x8769)[0x9286]
    assert json.loads(comment[8:].decode("utf-16-be")) == record
    assert DIGITAL_SOURCE.encode() in data


@pytest.mark.parametrize(
    ("params", "added"),
    [
        (PARAMS, {}),
        (replace(PARAMS, label=3), {"label": 3}),
        (
            replace(PARAMS, task=Task.VARIATION, image="ab"),
            {"task": "variation", "image": "ab", "strength": 0.6},
        ),
        (
            replace(PARAMS, task=Task.INPAINT, image="ab", mask="cd"),
            {"task": "inpaint", "image": "ab", "mask": "cd"},
        ),
        (
            replace(PARAMS, task=Task.INTERPOLATION, seed_to=5),
            {"task": "interpolation", "seed_to": 5, "frame": 1, "frames": 3},
        ),
    ],
)
def test_the_record_says_what_a_picture_was_edited_from(
    params: SamplingParams, added: dict[str, object]
) -> None:
    plain = provenance("job_1", PARAMS, 1, 41, "0.1.0")
    assert provenance("job_1", params, 1, 41, "0.1.0") == plain | added


def test_a_prompt_that_is_not_valid_unicode_still_gives_a_file() -> None:
    record = provenance(None, SamplingParams(prompt="\ud800"), 0, 0, "0.1.0")
    data = encode(_pixels(), "png", record)
    with Image.open(io.BytesIO(data)) as image:
        assert json.loads(image.info["glide"])["prompt"] == "?"


def test_the_image_record_describes_the_bytes() -> None:
    data = encode(_pixels(), "webp", {})
    key = image_key("job_1", 1, "7-ab", "webp")
    job = Job(id="job_1", status=JobStatus.RUNNING, params=PARAMS, output_format="webp")
    record = image_record(data, key, job, 1, 41)
    assert record.key == "job_1/1.7-ab.webp"
    assert record.content_type == "image/webp"
    assert (record.width, record.height, record.seed) == (16, 8, 41)
    assert record.sha256 == hashlib.sha256(data).hexdigest()
    assert record.image_bytes == len(data)


def test_a_preview_is_a_png_of_the_same_pixels() -> None:
    with Image.open(io.BytesIO(preview_png(_pixels()))) as image:
        assert image.format == "PNG"
        assert np.array_equal(np.asarray(image), _pixels())

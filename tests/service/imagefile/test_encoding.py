import hashlib
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from model.params import MAX_PROMPT_CHARACTERS, SamplingParams, Task
from service.imagefile.encoding import image_key, image_record, preview_png
from service.imagefile.provenance import (
    DRAWN_BY_A_MODEL,
    EDITED_BY_A_MODEL,
    canonical_json,
    digital_source_type,
    provenance,
)
from service.imagefile.reading import read_file
from service.jobs import Job, JobStatus, Provenance
from tests.service.imagefile.making import (
    FORMATS,
    MAKER,
    MODEL_SHA256,
    PARAMS,
    drawn,
    file_of,
    pixels,
)


def record(params: SamplingParams = PARAMS, output_format: str = "png") -> dict[str, object]:
    return provenance(drawn(params, output_format), MAKER, MODEL_SHA256)


def test_a_png_keeps_every_pixel_and_its_record_as_canonical_json() -> None:
    data = file_of()
    assert b"iTXtglide\0\0\0\0\0" + canonical_json(record()).encode() in data
    with Image.open(io.BytesIO(data)) as image:
        assert np.array_equal(np.asarray(image), pixels())
        assert json.loads(image.info["glide"]) == record()
        assert image.info["parameters"].startswith(PARAMS.prompt)
        assert DRAWN_BY_A_MODEL in image.info["XML:com.adobe.xmp"]


def test_the_record_holds_every_member_of_the_request_and_what_drew_it() -> None:
    found = record()
    assert set(SamplingParams.__slots__) <= found.keys()
    assert (found["seed"], found["job_seed"], found["index"], found["n"]) == (42, 40, 2, 3)
    assert found["model_sha256"] == MODEL_SHA256
    assert found["pixels_sha256"] == hashlib.sha256(pixels().tobytes()).hexdigest()
    assert (found["dtype"], found["device"], found["torch_version"]) == ("float32", "cpu", "2.13.0")
    assert (found["schema"], found["job_id"]) == ("glide-provenance/2", "job_1")


def test_a_frame_of_an_interpolation_says_which() -> None:
    found = record(replace(PARAMS, task=Task.INTERPOLATION, seed_to=5))
    assert (found["seed_to"], found["frame"], found["frames"]) == (5, 2, 3)


@pytest.mark.parametrize("output_format", FORMATS)
def test_every_format_gives_back_the_same_record_and_text(output_format: str) -> None:
    file = read_file(file_of(output_format=output_format))
    assert file.format == output_format
    assert file.pixels.shape == (8, 16, 3)
    assert file.record == record(output_format=output_format)
    assert file.generation is not None
    assert file.generation.endswith("Version: glide 0.1.0")
    assert file.digital_source_type == DRAWN_BY_A_MODEL
    assert file.problems == ()
    assert file.lossless == (output_format == "png")


@pytest.mark.parametrize("output_format", FORMATS)
def test_a_minimal_file_says_all_but_the_captions(output_format: str) -> None:
    data = file_of(output_format=output_format, level=Provenance.MINIMAL)
    file = read_file(data)
    full = record(output_format=output_format)
    assert file.record == {k: v for k, v in full.items() if k not in ("prompt", "negative_prompt")}
    assert file.generation is not None
    assert file.generation.startswith("Steps: 20, ")
    for word in ("Apfel", "blur"):
        for encoding in ("utf-8", "utf-16-be"):
            assert word.encode(encoding) not in data


@pytest.mark.parametrize("output_format", FORMATS)
def test_a_silent_file_says_only_that_a_machine_made_it(output_format: str) -> None:
    file = read_file(file_of(output_format=output_format, level=Provenance.NONE))
    assert (file.record, file.generation) == (None, None)
    assert file.digital_source_type == DRAWN_BY_A_MODEL


def test_what_was_made_of_a_picture_is_called_a_composite() -> None:
    edits = {Task.INPAINT, Task.VARIATION, Task.UPSCALE}
    assert {task for task in Task if digital_source_type(task) == EDITED_BY_A_MODEL} == edits
    file = read_file(file_of(replace(PARAMS, task=Task.VARIATION, image="ab")))
    assert file.digital_source_type == EDITED_BY_A_MODEL


@pytest.mark.parametrize("output_format", FORMATS)
def test_captions_of_full_length_survive_in_every_format(output_format: str) -> None:
    longest = replace(
        PARAMS,
        prompt="🍎<&\"'>" * (MAX_PROMPT_CHARACTERS // 6),
        negative_prompt="赤" * MAX_PROMPT_CHARACTERS,
    )
    file = read_file(file_of(longest, output_format))
    assert file.problems == ()
    assert file.record is not None
    assert file.record["prompt"] == longest.prompt
    assert file.record["negative_prompt"] == longest.negative_prompt


@pytest.mark.parametrize("output_format", FORMATS)
def test_captions_with_odd_characters_still_give_a_file(output_format: str) -> None:
    odd = "".join(map(chr, range(32))) + "\x7f\ufffe\uffff\u202e\ud800"
    file = read_file(file_of(replace(PARAMS, prompt=odd), output_format))
    assert file.problems == ()
    assert file.record is not None
    assert file.record["prompt"][:-1] == odd[:-1]


def test_the_same_image_gives_the_same_bytes() -> None:
    for output_format in FORMATS:
        assert file_of(output_format=output_format) == file_of(output_format=output_format)


def test_the_image_record_describes_the_bytes() -> None:
    data = file_of(output_format="webp")
    key = image_key("job_1", 1, "7-ab", "webp")
    job = Job(id="job_1", status=JobStatus.RUNNING, params=PARAMS, output_format="webp")
    found = image_record(data, key, job, 1, 41)
    assert found.key == "job_1/1.7-ab.webp"
    assert found.content_type == "image/webp"
    assert (found.width, found.height, found.seed) == (16, 8, 41)
    assert found.sha256 == hashlib.sha256(data).hexdigest()
    assert found.image_bytes == len(data)


def test_a_preview_is_a_png_of_the_same_pixels() -> None:
    with Image.open(io.BytesIO(preview_png(pixels()))) as image:
        assert image.format == "PNG"
        assert np.array_equal(np.asarray(image), pixels())
        assert image.info == {}

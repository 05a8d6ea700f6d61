import asyncio
import io
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from model.catalog import PipelineSpec
from model.checkpoints.fingerprint import pipeline_fingerprint
from model.params import SamplingParams
from service.api.app import create_app
from service.api.receipts import index_again, receipt_of, request_again
from service.engine.runner import ModelRunner
from service.imagefile.encoding import encode
from service.imagefile.provenance import DRAWN_BY_A_MODEL, provenance
from service.imagefile.reading import read_file
from service.jobs import new_job_id
from service.settings import ModelsSettings, RedisSettings, Settings, StoreSettings, WorkerSettings
from service.wiring import build_catalog, build_queue, build_store, build_tokenizers
from service.worker.main import build_worker
from tests.service.imagefile import making
from tests.service.imagefile.making import FORMATS, MAKER, PARAMS, file_of
from tests.service.live_api import serving
from tests.service.some_pictures import mask, picture
from tests.tiny_pipeline import write_tiny_pipeline

REQUEST = {"prompt": "a red apple", "model": "tiny", "width": 16, "height": 16, "seed": 5}


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> PipelineSpec:
    return write_tiny_pipeline(tmp_path_factory.mktemp("models") / "tiny", base=16, upsampled=64)


@pytest.fixture(scope="module")
def settings(
    spec: PipelineSpec, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Settings:
    return Settings(
        redis=RedisSettings(url=redis_url, prefix="test-receipts:{q}:"),
        store=StoreSettings(path=tmp_path_factory.mktemp("images")),
        # Each picture alone in its steps: a re-run is compared bit by bit while others draw.
        worker=WorkerSettings(models=("tiny",), threads=1, drain_s=10, max_batch=1),
        models=ModelsSettings(folders=(spec.folder,)),
    )


@pytest.fixture(scope="module")
def http(settings: Settings, spec: PipelineSpec) -> Iterator[httpx.Client]:
    """The real API with a real worker behind it."""
    catalog = build_catalog(settings)
    parts = build_queue(settings), build_store(settings), catalog, build_tokenizers(catalog)
    worker = build_worker(settings, "receipts", ModelRunner.load([spec], "cpu", "float32"))
    thread = threading.Thread(target=worker.run)
    with (
        serving(create_app(settings, *parts)) as url,
        httpx.Client(base_url=url, timeout=120) as client,
    ):
        thread.start()
        try:
            yield client
        finally:
            worker.stop()
            thread.join()


def drawn(http: httpx.Client, **members: Any) -> dict[str, Any]:
    """A job that has succeeded."""
    response = http.post("/v1/jobs", json=REQUEST | members, headers={"Prefer": "wait=50"})
    job: dict[str, Any] = response.json()
    assert job["status"] == "succeeded", job
    return job


def image_of(http: httpx.Client, job: dict[str, Any], index: int = 0) -> bytes:
    return http.get(f"/v1/jobs/{job['id']}/images/{index}").content


def receipt(http: httpx.Client, data: bytes, query: str = "", **headers: str) -> dict[str, Any]:
    response = http.post(f"/v1/receipts{query}", content=data, headers=headers)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def rerun(http: httpx.Client, data: bytes) -> dict[str, Any]:
    found = receipt(http, data, "?rerun=true", Prefer="wait=50")["rerun"]
    assert found["status"] == "succeeded", found
    assert isinstance(found, dict)
    return found


def with_a_pixel_changed(data: bytes, by: int = 1) -> bytes:
    """The same PNG, with its text, but for one value of one pixel."""
    with Image.open(io.BytesIO(data)) as image:
        pixels, texts = np.array(image), image.text  # type: ignore[attr-defined]
    pixels[3, 4, 1] ^= by
    chunks, buffer = PngInfo(), io.BytesIO()
    for keyword, text in texts.items():
        chunks.add_itxt(keyword, text)
    Image.fromarray(pixels).save(buffer, "PNG", pnginfo=chunks)
    return buffer.getvalue()


def test_an_image_tells_which_model_and_request_made_it(
    http: httpx.Client, spec: PipelineSpec
) -> None:
    job = drawn(http, n=2)
    data = image_of(http, job, 1)
    found = receipt(http, data)
    assert (found["found"], found["source"], found["format"]) == (True, "glide", "png")
    assert (found["job_id"], found["index"], found["seed"]) == (job["id"], 1, 6)
    assert (found["model"], found["model_sha256"]) == ("tiny", pipeline_fingerprint(spec))
    assert found["model_available"] is True
    assert (found["pixels_match"], found["pixels_note"]) == (True, None)
    assert found["digital_source_type"] == DRAWN_BY_A_MODEL
    assert found["drawn_by"]["device"] == "cpu"
    assert (found["problems"], found["rerun"]) == ([], None)
    asked = found["parameters"]
    assert {name: asked[name] for name in REQUEST} == REQUEST
    again = drawn(http, **asked)
    assert read_file(image_of(http, again, 1)).pixels.tobytes() == read_file(data).pixels.tobytes()


def test_a_receipt_is_read_from_a_form_too(http: httpx.Client) -> None:
    data = image_of(http, drawn(http))
    response = http.post("/v1/receipts", files={"image": ("a.png", data)})
    assert response.json() == receipt(http, data)


@pytest.mark.parametrize("output_format", FORMATS)
def test_a_rerun_gives_the_same_pixels_in_every_format(
    http: httpx.Client, output_format: str
) -> None:
    job = drawn(http, output_format=output_format, n=2, sampler="ddpm")
    found = rerun(http, image_of(http, job, 1))
    assert (found["same_pixels"], found["max_difference"], found["different_pixels"]) == (
        True, 0, 0,
    )  # fmt: skip
    assert found["job_id"] != job["id"]
    assert found["drawn_by"]["dtype"] == "float32"


def test_one_changed_value_of_one_pixel_is_noticed(http: httpx.Client) -> None:
    data = with_a_pixel_changed(image_of(http, drawn(http)), by=64)
    assert receipt(http, data)["pixels_match"] is False
    found = rerun(http, data)
    assert (found["same_pixels"], found["max_difference"], found["different_pixels"]) == (
        False, 64, 1,
    )  # fmt: skip
    assert "was changed" in found["note"]


def test_a_recompressed_jpeg_is_told_by_its_rerun(http: httpx.Client) -> None:
    data = image_of(http, drawn(http, output_format="jpeg"))
    with Image.open(io.BytesIO(data)) as image:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=30, xmp=image.info["xmp"])
    found = receipt(http, buffer.getvalue())
    assert found["pixels_match"] is None
    assert "jpeg doesn't keep every pixel" in found["pixels_note"]
    assert rerun(http, buffer.getvalue())["same_pixels"] is False


def test_a_receipt_on_another_picture_is_no_proof(http: httpx.Client) -> None:
    with Image.open(io.BytesIO(image_of(http, drawn(http)))) as image:
        chunks, buffer = PngInfo(), io.BytesIO()
        chunks.add_itxt("glide", image.info["glide"])
        image.resize((32, 32)).save(buffer, "PNG", pnginfo=chunks)
    found = rerun(http, buffer.getvalue())
    assert (found["same_pixels"], found["max_difference"]) == (False, None)
    assert "another size" in found["note"]


def test_without_waiting_the_verdict_comes_with_the_rerun_s_id(http: httpx.Client) -> None:
    data = image_of(http, drawn(http))
    started = http.post("/v1/receipts?rerun=true", content=data)
    assert started.status_code == 202
    begun = started.json()["rerun"]
    assert begun["same_pixels"] is None
    assert begun["link"].endswith(f"/v1/jobs/{begun['job_id']}")
    found = receipt(http, data, f"?rerun_job={begun['job_id']}", Prefer="wait=50")["rerun"]
    assert (found["same_pixels"], found["job_id"]) == (True, begun["job_id"])


def test_a_repeated_request_for_a_rerun_starts_one_job(http: httpx.Client) -> None:
    data = image_of(http, drawn(http))
    headers = {"idempotency-key": "rerun-1"}
    answers = [
        http.post("/v1/receipts?rerun=true", content=data, headers=headers).json() for _ in "ab"
    ]
    assert len({answer["rerun"]["job_id"] for answer in answers}) == 1


def test_a_job_of_another_request_is_no_rerun(http: httpx.Client) -> None:
    job, other = drawn(http), drawn(http, seed=6)
    data = image_of(http, job)
    response = http.post(f"/v1/receipts?rerun_job={other['id']}", content=data)
    assert response.status_code == 422
    assert response.json()["errors"][0]["pointer"] == "/query/rerun_job"
    for unknown in ("job_00000000000000000000000000", "x", "../jobs"):
        response = http.post("/v1/receipts", params={"rerun_job": unknown}, content=data)
        assert response.status_code == 404
    both = http.post(f"/v1/receipts?rerun=true&rerun_job={job['id']}", content=data)
    assert both.status_code == 422


async def copy_for(tenant: str, job_id: str, settings: Settings) -> str:
    """The same job again, of another tenant, drawn to its end: it shares no step with what follows.

    Returns:
        Its id.
    """
    queue = build_queue(settings)
    job = await queue.get(job_id)
    assert job is not None
    copy = await queue.submit(replace(job, id=new_job_id(), tenant=tenant))
    assert (await queue.wait(copy.id, 600)).status.is_final
    await queue.aclose()
    return copy.id


def test_a_job_of_another_tenant_is_as_good_as_none(http: httpx.Client, settings: Settings) -> None:
    mine = drawn(http)
    theirs = asyncio.run(copy_for("other", mine["id"], settings))
    for job_id, status in ((mine["id"], 200), (theirs, 404)):
        query = f"?rerun_job={job_id}"
        response = http.post(f"/v1/receipts{query}", content=image_of(http, mine))
        assert response.status_code == status


@pytest.mark.parametrize("masked", [True, False])
def test_an_edit_is_drawn_again_from_the_picture_in_the_store(
    http: httpx.Client, settings: Settings, masked: bool
) -> None:
    files = {"image": picture()} | ({"mask": mask()} if masked else {})
    ids = {name: http.post("/v1/images", content=data).json()["id"] for name, data in files.items()}
    data = image_of(http, drawn(http, **ids))
    found = receipt(http, data)
    assert found["digital_source_type"].endswith("compositeWithTrainedAlgorithmicMedia")
    assert {name: found["parameters"][name] for name in ids} == ids
    assert rerun(http, data)["same_pixels"] is True
    (settings.store.path / "inputs" / ids["image"]).unlink()
    lost = http.post("/v1/receipts?rerun=true", content=data)
    assert lost.status_code == 422
    assert lost.json()["errors"][0]["pointer"] == "/parameters/image"
    assert "upload it again" in lost.json()["detail"]


def test_a_frame_of_an_interpolation_is_drawn_again_as_that_frame(http: httpx.Client) -> None:
    job = drawn(http, task="interpolation", seed_to=90, n=3)
    found = receipt(http, image_of(http, job, 1))
    assert (found["index"], found["parameters"]["n"]) == (1, 3)
    assert rerun(http, image_of(http, job, 1))["same_pixels"] is True


def test_a_minimal_file_tells_all_but_the_captions_and_cannot_be_drawn_again(
    http: httpx.Client,
) -> None:
    data = image_of(http, drawn(http, provenance="minimal"))
    found = receipt(http, data)
    assert (found["found"], found["seed"], found["pixels_match"]) == (True, 5, True)
    assert "prompt" not in found["parameters"]
    assert found["problems"] == ["the captions are left out: prompt, negative_prompt"]
    again = http.post("/v1/receipts?rerun=true", content=data)
    assert again.status_code == 422
    assert "captions" in again.json()["detail"]


def test_a_silent_file_tells_only_that_a_machine_made_it(http: httpx.Client) -> None:
    found = receipt(http, image_of(http, drawn(http, provenance="none")))
    assert (found["found"], found["source"], found["parameters"]) == (False, None, None)
    assert found["digital_source_type"] == DRAWN_BY_A_MODEL


def test_an_image_of_a_model_that_is_not_here_says_so(http: httpx.Client) -> None:
    data = file_of(replace(PARAMS, model="tiny"))
    found = receipt(http, data)
    assert (found["model"], found["model_available"]) == ("tiny", False)
    again = http.post("/v1/receipts?rerun=true", content=data)
    assert again.status_code == 422
    assert "doesn't have the model" in again.json()["detail"]


def test_the_text_of_another_program_is_told_as_such(http: httpx.Client) -> None:
    chunks = PngInfo()
    chunks.add_text(
        "parameters",
        "a fox\nNegative prompt: blur\n"
        "Steps: 30, Sampler: Euler a, CFG scale: 7, Seed: 9, Size: 512x768, Model: other",
    )
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG", pnginfo=chunks)
    found = receipt(http, buffer.getvalue())
    assert (found["found"], found["source"], found["model"]) == (True, "a1111", "other")
    assert found["seed"] == 9
    assert found["parameters"] == {
        "prompt": "a fox", "negative_prompt": "blur", "seed": 9, "steps": 30,
        "guidance_scale": 7.0, "width": 512, "height": 768,
    }  # fmt: skip
    assert found["pixels_match"] is None
    again = http.post("/v1/receipts?rerun=true", content=buffer.getvalue())
    assert again.status_code == 422


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "TIFF"])
def test_a_picture_without_a_receipt_is_no_error(http: httpx.Client, kind: str) -> None:
    found = receipt(http, picture(kind=kind))
    assert (found["found"], found["parameters"], found["problems"]) == (False, None, [])


@pytest.mark.parametrize(
    "members",
    [
        {"steps": [[[]]]},
        {"steps": True, "seed": "x", "index": {}, "model": 3, "model_sha256": [], "job_id": 1},
        {"seed": 10**400, "job_seed": 10**400, "index": -(10**400)},
        {"guidance_scale": 1e999},
        {"image": "a" * 100_000},
        {"image": 5, "mask": ["x"]},
        {"sampler": "none", "upsample": {"steps": {}}},
        {"pixels_sha256": 7, "torch_version": {"a": 1}, "best_of": 2, "n": -3},
        {"prompt": None, "negative_prompt": 7},
    ],
)
def test_a_record_of_lies_is_read_without_error(
    http: httpx.Client, members: dict[str, Any]
) -> None:
    chunks = PngInfo()
    record = {"schema": "glide-provenance/2", "prompt": "a", "negative_prompt": ""} | members
    chunks.add_itxt("glide", json.dumps(record).replace("Infinity", "1e999"))
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG", pnginfo=chunks)
    found = receipt(http, buffer.getvalue())
    assert found["found"] is True
    again = http.post("/v1/receipts?rerun=true", content=buffer.getvalue())
    assert again.status_code == 422


def test_a_record_with_the_right_model_and_a_bad_request_is_refused(
    http: httpx.Client, spec: PipelineSpec
) -> None:
    record = {
        "schema": "glide-provenance/2", "prompt": "a", "negative_prompt": "", "model": "tiny",
        "model_sha256": pipeline_fingerprint(spec), "steps": 0, "sampler": "ddim", "seed": 1,
        "guidance_scale": 1, "width": 17, "height": 16, "task": "generate", "eta": 0,
        "service_version": "",
    }  # fmt: skip
    data = encode(np.zeros((8, 8, 3), np.uint8), "png", record, DRAWN_BY_A_MODEL)
    again = http.post("/v1/receipts?rerun=true", content=data)
    assert again.status_code == 422
    assert {error["pointer"] for error in again.json()["errors"]} == {
        "/parameters/width", "/parameters/height", "/parameters/steps",
    }  # fmt: skip


def test_an_image_that_best_of_chose_is_drawn_again_alone(spec: PipelineSpec) -> None:
    params = replace(PARAMS, model="tiny", n=2, best_of=4, seed=40)
    record = provenance(making.drawn(params, seed=43, index=1), MAKER, pipeline_fingerprint(spec))
    file = read_file(encode(making.pixels(), "png", record, DRAWN_BY_A_MODEL))
    body = request_again(file, {"other": spec})
    assert (body.model, body.seed, body.n, body.best_of) == ("other", 43, 1, None)
    assert index_again(record) == 0
    assert receipt_of(file, {}).parameters == {
        **body.model_dump(mode="json", exclude_none=True),
        **{"model": "tiny", "seed": 40, "n": 2, "best_of": 4},
    }


def test_what_is_no_picture_is_refused_by_its_place(http: httpx.Client) -> None:
    raw = http.post("/v1/receipts", content=b"text")
    form = http.post("/v1/receipts", files={"image": b"text"})
    none = http.post("/v1/receipts", files={"other": b"text"})
    for response, pointer in ((raw, ""), (form, "/image"), (none, "/image")):
        assert response.status_code == 422
        assert response.json()["errors"][0]["pointer"] == pointer


def test_every_member_of_a_request_that_decides_pixels_is_in_the_receipt(
    http: httpx.Client,
) -> None:
    found = receipt(http, image_of(http, drawn(http)))
    optional = {"image", "mask", "seed_to", "label", "best_of", "previews"}
    assert set(SamplingParams.__slots__) - optional <= found["parameters"].keys()


def test_a_picture_above_the_bound_is_refused(http: httpx.Client, tmp_path: Path) -> None:
    response = http.post("/v1/receipts", content=b"0" * ((16 << 20) + 1))
    assert response.status_code == 422
    assert "has more than" in response.json()["detail"]

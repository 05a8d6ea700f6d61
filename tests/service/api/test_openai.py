"""OpenAI's routes on the wire: what its clients send in ways of their own, and what refuses it."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.queue.embedded import EmbeddedRedis
from service.settings import ModelsSettings, RedisSettings, Settings
from tests.service.live_api import LiveApi, Worker, live_api, serving, tiny_app
from tests.service.some_pictures import picture

GENERATIONS, EDITS, VARIATIONS = (
    f"/v1/images/{kind}" for kind in ("generations", "edits", "variations")
)
PICTURE = {"image": picture()}

Served = Callable[..., tuple[httpx.Response, dict[str, Any]]]


@pytest.fixture
def served(api: LiveApi, worker: Worker) -> Served:
    """Posts a request, finishes its job, and gives the answer with the job as it was submitted."""

    def serve(path: str, **request: Any) -> tuple[httpx.Response, dict[str, Any]]:
        with ThreadPoolExecutor() as threads:
            asked = threads.submit(api.http.post, path, **request)
            lease = worker.take_next()
            worker.finish(lease, *[picture(64, 64)] * lease.job.params.n)
            answer = asked.result()
        job = api.http.get(f"/v1/jobs/{answer.headers['x-job-id']}").json()
        assert answer.status_code == 200, answer.text
        return answer, job

    return serve


@pytest.mark.parametrize("name", ["image", "image[]", "image[0]"])
def test_a_picture_has_the_name_of_a_field_or_of_a_list(served: Served, name: str) -> None:
    _, job = served(EDITS, files={name: picture(40, 30)}, data={"prompt": "a red apple"})
    assert job["input"]["task"] == "variation"


@pytest.mark.parametrize(
    "fields",
    [
        {"guidance_interval": ["0", "1"]},
        {"guidance_interval": "[0, 1]"},
        {"guidance_interval[]": ["0", "1"]},
        {"guidance_interval[0]": "0", "guidance_interval[1]": "1"},
    ],
)
def test_a_list_has_several_spellings(served: Served, fields: dict[str, Any]) -> None:
    _, job = served(EDITS, files=PICTURE, data={"prompt": "a red apple", **fields})
    assert job["input"]["guidance_interval"] == [0, 1]


def test_the_fields_of_a_form_have_their_types_back(served: Served) -> None:
    fields = {
        "prompt": "7",
        "n": "2",
        "guidance_scale": "7.5",
        "user": "12",
        "stream": "false",
        "output_compression": "90",
        "svg[model]": "ignored",
        "svg[reasoning][effort]": "ignored",
        "metadata[album]": "apples",
        "guidance_interval[]": ["0", "1"],
        "upsample[steps]": "20",
    }
    answer, job = served(EDITS, files={"image": picture(40, 30)}, data=fields)
    asked = job["input"]
    assert (asked["prompt"], asked["n"], asked["guidance_scale"]) == ("7", 2, 7.5)
    assert (asked["guidance_interval"], asked["upsample"]["steps"]) == ([0, 1], 20)
    assert job["metadata"] == {"album": "apples"}
    assert answer.json()["safety_identifier"] == "12"


@pytest.mark.parametrize(
    ("files", "fields", "param", "code"),
    [
        ({"other": b"x"}, {}, "other", "invalid_value"),
        ({"mask": picture()}, {}, "image", "missing_required_parameter"),
        ({"mask": picture()}, {"image": "text"}, "image", "invalid_image"),
        (PICTURE, {"prompt": []}, "prompt", "missing_required_parameter"),
        (PICTURE, {"prompt": ["a", "b"]}, "prompt", "invalid_value"),
        (PICTURE, {"n": "x"}, "n", "invalid_type"),
        (PICTURE, {"n": "1", "n[a]": "1"}, "n", "invalid_value"),
        (PICTURE, {"n": "1", "n[]": "1"}, "n", "invalid_value"),
        (PICTURE, {"n[a]": "1", "n[]": "1"}, "n", "invalid_value"),
        (PICTURE, {"colour": "red"}, "colour", "unknown_parameter"),
        (PICTURE, {"colour[": "red"}, "colour[", "unknown_parameter"),
    ],
)
def test_a_bad_form_is_refused_by_field(
    api: LiveApi, files: dict[str, bytes], fields: dict[str, Any], param: str, code: str
) -> None:
    answer = api.http.post(EDITS, files=files, data={"prompt": "a red apple", **fields})
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert (error["param"], error["code"]) == (param, code)
    assert api.http.get("/v1/jobs").json()["data"] == []


def test_pictures_come_in_forms_and_captions_in_json(api: LiveApi) -> None:
    for path in (EDITS, VARIATIONS):
        assert api.http.post(path, json={"prompt": "a"}).status_code == 415
    answer = api.http.post(GENERATIONS, data={"prompt": "a"})
    assert (answer.status_code, set(answer.json())) == (415, {"error"})


def test_a_picture_above_the_bound_is_refused(small_api: LiveApi) -> None:
    data = {"prompt": "a red apple"}
    large = small_api.http.post(EDITS, files={"image": b"x" * 3001}, data=data)
    assert (large.status_code, large.json()["error"]["param"]) == (400, "image")
    larger = small_api.http.post(EDITS, files={"image": b"x" * 9000}, data=data)
    assert (larger.status_code, larger.json()["error"]["code"]) == (413, "body_too_large")
    larger = small_api.http.post("/hf/models/tiny", content=b"x" * 20_000)
    assert (larger.status_code, larger.json()["code"]) == (413, "body_too_large")


@pytest.mark.parametrize("path", [GENERATIONS, EDITS, VARIATIONS, "/v1/models", "/hf/models/tiny"])
def test_a_wrong_method_is_told_the_right_ones(api: LiveApi, path: str) -> None:
    answer = api.http.put(path)
    assert answer.status_code == 405
    assert answer.headers["allow"]
    assert "error" in answer.json()


def test_uploads_of_the_native_api_keep_their_own_errors(api: LiveApi) -> None:
    answer = api.http.post("/v1/images", content=b"no picture")
    assert answer.headers["content-type"] == "application/problem+json"
    assert "error" not in answer.json()


def test_an_alias_names_its_model_in_the_native_api_too(
    redis_url: str, redis_prefix: str, tmp_path: Path
) -> None:
    redis = RedisSettings(url=redis_url, prefix=redis_prefix)
    aliases = {"gpt-image-1": "tiny", "gone": "nowhere", "tiny": "nowhere"}
    settings = Settings(redis=redis, models=ModelsSettings(aliases=aliases))
    with serving(tiny_app(settings, tmp_path)) as url, httpx.Client(base_url=url) as http:
        for name in ("gpt-image-1", "tiny", None):
            job = http.post("/v1/jobs", json={"prompt": "", "model": name}).json()
            assert job["model"] == "tiny"
        assert http.post("/v1/jobs", json={"prompt": "", "model": "gone"}).status_code == 422
        assert http.get("/v1/models").json()["data"][0]["aliases"] == ["gpt-image-1"]
        assert http.get("/v1/models/gone").status_code == 404


@pytest.fixture
def fragile_redis(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis(tmp_path / "redis", maxmemory_mb=64) as server:
        yield server


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_outlives_an_outage_of_redis(
    fragile_redis: EmbeddedRedis, tmp_path: Path, stream: bool
) -> None:
    with (
        live_api(RedisSettings(url=fragile_redis.url), tmp_path) as api,
        ThreadPoolExecutor() as threads,
    ):
        body = {"prompt": "a red apple", "stream": stream}
        asked = threads.submit(api.http.post, GENERATIONS, json=body)
        worker = Worker(api)
        lease = worker.take_next()
        os.kill(fragile_redis.pid, signal.SIGKILL)
        while fragile_redis.is_alive:
            time.sleep(0.01)
        fragile_redis.start()
        worker.finish(lease, picture(64, 64))
        answer = asked.result()
    assert answer.status_code == 200, answer.text
    last = answer.text.split("data: ")[-1] if stream else answer.text
    found = json.loads(last)
    assert found["b64_json"] if stream else found["data"][0]["b64_json"]


def test_without_redis_nothing_is_accepted_and_clients_may_ask_again(
    fragile_redis: EmbeddedRedis, tmp_path: Path
) -> None:
    with live_api(RedisSettings(url=fragile_redis.url), tmp_path) as api:
        api.http.get("/v1/models")
        os.kill(fragile_redis.pid, signal.SIGKILL)
        while fragile_redis.is_alive:
            time.sleep(0.01)
        answer = api.http.post(GENERATIONS, json={"prompt": "a red apple"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
        assert int(answer.headers["retry-after-ms"]) == 1000 * int(answer.headers["retry-after"])
        assert "x-should-retry" not in answer.headers
        models = api.http.get("/v1/models")
        assert (models.status_code, models.json()["code"]) == (503, "unavailable")
        assert models.json()["error"]["code"] == "unavailable"
        endpoint = api.http.post("/hf/models/tiny", json={"inputs": "a red apple"})
        assert (endpoint.status_code, endpoint.json()["code"]) == (500, "unavailable")

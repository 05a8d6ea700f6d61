"""The front door of Replicate's API as it is on the wire."""

import base64
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.events import Progress
from service.jobs import JobFailure
from service.settings import ModelsSettings, RedisSettings, Settings
from tests.service.live_api import LiveApi, Worker, serving, tiny_app
from tests.service.some_pictures import mask, picture

P = "/replicate/v1"
PROMPT = {"prompt": "a red apple"}
WAIT = {"Prefer": "wait"}
Block = dict[str, str]


def create(api: LiveApi, given: dict[str, Any] | None = None, **body: Any) -> httpx.Response:
    headers = body.pop("headers", {})
    asked = {"version": "glide/tiny", "input": PROMPT if given is None else given, **body}
    return api.http.post(f"{P}/predictions", json=asked, headers=headers)


def created(api: LiveApi, given: dict[str, Any] | None = None, **body: Any) -> dict[str, Any]:
    response = create(api, given, **body)
    assert response.status_code == 201, response.text
    found: dict[str, Any] = response.json()
    return found


def data_url(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def refused(response: httpx.Response, status: int = 422) -> list[str]:
    """The lines of a refusal."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert set(problem) == {"title", "detail", "status", "type", "instance"}
    assert problem["status"] == status
    lines: list[str] = problem["detail"].splitlines()
    return lines


def upload(api: LiveApi, data: bytes, **fields: str) -> dict[str, Any]:
    files = {"content": ("fox.png", data, "image/png")}
    response = api.http.post(f"{P}/files", files=files, data=fields)
    assert response.status_code == 201, response.text
    found: dict[str, Any] = response.json()
    return found


def blocks(lines: Iterator[str]) -> Iterator[Block]:
    block: Block = {}
    for line in lines:
        if line:
            name, _, value = line.partition(": ")
            block[name] = value
        elif block:
            yield block
            block = {}


@contextmanager
def stream(url: str, **headers: str) -> Iterator[tuple[httpx.Response, Iterator[Block]]]:
    """Follows a prediction as a client that has nothing but the URL."""
    with httpx.stream("GET", url, headers=headers, timeout=30) as response:
        yield response, (each for each in blocks(response.iter_lines()) if "event" in each)


def test_a_new_prediction_has_every_member(api: LiveApi) -> None:
    response = create(api, {**PROMPT, "width": 64, "seed": 5})
    assert response.status_code == 201
    seen = response.json()
    assert (seen["status"], seen["output"], seen["error"]) == ("starting", None, None)
    assert seen["model"] == "glide/tiny"
    assert re.fullmatch(r"[0-9a-f]{64}", seen["version"])
    assert seen["input"] == {**PROMPT, "width": 64, "seed": 5}
    assert (seen["source"], seen["data_removed"], seen["deployment"]) == ("api", False, None)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", seen["created_at"])
    assert seen["urls"]["get"] == f"{api.url}{P}/predictions/{seen['id']}"
    assert api.http.get(seen["urls"]["get"]).json() == seen


@pytest.mark.parametrize("form", ["{id}", "{model}", "{model}:{id}", "{name}", "{name}:{id}"])
def test_a_version_may_be_named_in_every_way(api: LiveApi, form: str) -> None:
    version = api.http.get(f"{P}/models/glide/tiny").json()["latest_version"]["id"]
    named = form.format(id=version, model="glide/tiny", name="tiny")
    assert created(api, version=named)["version"] == version


@pytest.mark.parametrize(
    "version", ["nobody/tiny", "glide/other", "f" * 64, "glide/tiny:" + "f" * 64, "", "tiny:"]
)
def test_an_unknown_version_is_refused(api: LiveApi, version: str) -> None:
    (line,) = refused(create(api, version=version))
    assert line.startswith("- version: there is no model or version")


def test_models_and_deployments_name_their_model_in_the_path(api: LiveApi) -> None:
    body = {"input": PROMPT}
    of_model = api.http.post(f"{P}/models/glide/tiny/predictions", json=body)
    of_deployment = api.http.post(f"{P}/deployments/glide/tiny/predictions", json=body)
    assert (of_model.status_code, of_deployment.status_code) == (201, 201)
    assert of_model.json()["deployment"] is None
    assert of_deployment.json()["deployment"] == "glide/tiny"
    for kind in ("models", "deployments"):
        unknown = api.http.post(f"{P}/{kind}/glide/other/predictions", json=body)
        assert "glide/tiny" in refused(unknown, 404)[0]


def test_a_prediction_is_followed_from_start_to_end(api: LiveApi, worker: Worker) -> None:
    seen = created(api, {**PROMPT, "num_outputs": 2, "seed": 3})
    lease = worker.take()
    worker.leases.renew([(seen["id"], lease.token, 13)])
    running = api.http.get(seen["urls"]["get"]).json()
    assert running["status"] == "processing"
    assert re.match(r"\s*\d+%\|.+?\| 13/78", running["logs"])
    worker.deliver(lease, 0, b"first")
    assert len(api.http.get(seen["urls"]["get"]).json()["output"]) == 1
    worker.deliver(lease, 1, b"second")
    worker.leases.finish(seen["id"], lease.token)
    ended = api.http.get(seen["urls"]["get"]).json()
    assert ended["status"] == "succeeded"
    assert [httpx.get(url).content for url in ended["output"]] == [b"first", b"second"]
    assert ended["metrics"]["image_count"] == 2
    assert ended["metrics"]["total_time"] >= ended["metrics"]["predict_time"] >= 0


def test_every_field_reaches_the_job(api: LiveApi) -> None:
    given = {
        "prompt": "a red apple",
        "negative_prompt": "grass",
        "width": 64,
        "height": 64,
        "num_outputs": 2,
        "num_inference_steps": 7,
        "guidance_scale": 4,
        "scheduler": "DPMSolverMultistep",
        "seed": 9,
        "output_format": "jpg",
        "image": data_url(picture()),
        "prompt_strength": 0.5,
    }
    job = api.http.get(f"/v1/jobs/{created(api, given)['id']}").json()["input"]
    expected = {
        "negative_prompt": "grass",
        "width": 64,
        "n": 2,
        "steps": 7,
        "guidance_scale": 4.0,
        "sampler": "dpmpp_2m",
        "seed": 9,
        "output_format": "jpeg",
        "strength": 0.5,
        "task": "variation",
    }
    assert {name: job[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({}, "- input: prompt is required"),
        ({**PROMPT, "colour": 1}, "- input.colour: there is no such field"),
        ({**PROMPT, "width": 96}, "- input.width: tiny makes 64x64, 256x256"),
        ({**PROMPT, "width": "64"}, "- input.width: must be a valid integer"),
        ({**PROMPT, "num_outputs": 99}, "- input.num_outputs: must be between 1 and 8"),
        ({**PROMPT, "num_inference_steps": 0}, "- input.num_inference_steps: must be between"),
        ({**PROMPT, "scheduler": "euler"}, "- input.scheduler: must be 'ddpm', 'ddim'"),
        ({**PROMPT, "sampler": 3}, "- input.sampler: must be"),
        ({**PROMPT, "seed": -1}, "- input.seed: must be between 0 and"),
        ({**PROMPT, "scheduler": "ddim", "sampler": "ddim"}, "- input.sampler: must be left out"),
        ({**PROMPT, "image": "x", "strength": 7.0}, "- input.image: is neither"),
        ({**PROMPT, "image": "ftp://x"}, "- input.image: is neither"),
        ({**PROMPT, "mask": "https://x.example/m.png"}, "- input.mask: must be a data URL or"),
        ({"prompt": "\ud800"}, "- input.prompt: text in Unicode"),
    ],
)
def test_a_bad_field_is_named_as_the_client_calls_it(
    shared_api: LiveApi, given: dict[str, Any], line: str
) -> None:
    body = json.dumps({"version": "glide/tiny", "input": given})
    headers = {"content-type": "application/json"}
    response = shared_api.http.post(f"{P}/predictions", content=body, headers=headers)
    assert any(each.startswith(line) for each in refused(response)), response.json()["detail"]
    assert response.json()["title"] == "Input validation failed"


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ({"input": PROMPT}, "- body: version is required"),
        ({"version": "tiny"}, "- body: input is required"),
        ({"version": "tiny", "input": PROMPT, "webook": "x"}, "- webook: there is no such field"),
        ({"version": "tiny", "input": PROMPT, "webhook": "x"}, "- webhook: must be an http"),
        ({"version": "tiny", "input": 3}, "- input: must be"),
        ([], "- body: must be"),
    ],
)
def test_a_bad_body_is_refused_by_its_members(shared_api: LiveApi, body: Any, line: str) -> None:
    response = shared_api.http.post(f"{P}/predictions", json=body)
    assert any(each.startswith(line) for each in refused(response)), response.json()["detail"]


def test_what_is_no_json_is_refused(shared_api: LiveApi) -> None:
    broken = {"content": b"{", "headers": {"content-type": "application/json"}}
    refused(shared_api.http.post(f"{P}/predictions", **broken), 400)
    refused(shared_api.http.post(f"{P}/predictions", content=b"a=b"), 415)
    refused(shared_api.http.get(f"{P}/nothing"), 404)
    wrong_method = shared_api.http.put(f"{P}/predictions")
    refused(wrong_method, 405)
    assert "POST" in wrong_method.headers["allow"]


def test_a_full_queue_is_told_as_that_api_tells_it(
    redis_url: str, redis_prefix: str, tmp_path: Path
) -> None:
    settings = Settings(redis=RedisSettings(url=redis_url, prefix=redis_prefix))
    settings = settings.model_copy(
        update={"queue": settings.queue.model_copy(update={"max_queued_per_tenant": 1})}
    )
    with queue_of(settings, tmp_path) as http:
        body = {"version": "tiny", "input": PROMPT}
        assert http.post(f"{P}/predictions", json=body).status_code == 201
        response = http.post(f"{P}/predictions", json=body)
        (line,) = refused(response, 429)
        seconds = response.headers["retry-after"]
        throttled = f"Request was throttled. Your rate limit resets in ~{seconds}s."
        assert line.startswith(throttled)


@contextmanager
def queue_of(settings: Settings, folder: Path) -> Iterator[httpx.Client]:
    with (
        serving(tiny_app(settings, folder)) as url,
        httpx.Client(base_url=url, timeout=30) as http,
    ):
        yield http

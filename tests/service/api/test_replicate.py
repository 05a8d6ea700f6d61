"""Predictions as Replicate's API has them, as they are on the wire."""

import contextlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.api.app import create_app
from service.queue.redis import RedisJobQueue
from service.settings import ModelsSettings, QueueSettings, RedisSettings, Settings
from service.store.filesystem import FilesystemStore
from tests.service.api.replicate_talk import PROMPT, WAIT, P, create, created, data_url, refused
from tests.service.live_api import LiveApi, Worker, serving
from tests.service.some_pictures import picture
from tests.service.tiny_spec import tiny_spec, tiny_tokenizer


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
        ({"prompt": "\x00"}, "- input.prompt: no control characters"),
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
        ({"version": "tiny", "input": 5}, "- input: must be a JSON object"),
        (
            {"version": "tiny", "input": PROMPT, "webhook": "http://x.example"},
            "- webhook: must be a URL that starts with https://",
        ),
        ({"version": "tiny", "input": PROMPT, "webook": "x"}, "- webook: there is no such field"),
        ({"version": "tiny", "input": PROMPT, "webhook": "x"}, "- webhook: must be an http"),
        ([], "- body: must be"),
    ],
)
def test_a_bad_body_is_refused_by_its_members(shared_api: LiveApi, body: Any, line: str) -> None:
    response = shared_api.http.post(f"{P}/predictions", json=body)
    assert any(each.startswith(line) for each in refused(response)), response.json()["detail"]


def test_what_is_no_json_is_refused(shared_api: LiveApi) -> None:
    headers = {"content-type": "application/json"}
    refused(shared_api.http.post(f"{P}/predictions", content=b"{", headers=headers), 400)
    twice = b'{"version": "tiny", "version": "tiny", "input": {"prompt": "x"}}'
    refused(shared_api.http.post(f"{P}/predictions", content=twice, headers=headers))
    refused(shared_api.http.post(f"{P}/predictions", content=b"a=b"), 415)
    refused(shared_api.http.get(f"{P}/nothing"), 404)
    wrong_method = shared_api.http.put(f"{P}/predictions")
    refused(wrong_method, 405)
    assert "POST" in wrong_method.headers["allow"]


def test_a_full_queue_is_told_as_that_api_tells_it(
    redis_url: str, redis_prefix: str, tmp_path: Path
) -> None:
    queue = QueueSettings(max_queued_per_tenant=1)
    settings = Settings(redis=RedisSettings(url=redis_url, prefix=redis_prefix), queue=queue)
    with served(settings, tmp_path) as http:
        body = {"version": "tiny", "input": PROMPT}
        assert http.post(f"{P}/predictions", json=body).status_code == 201
        response = http.post(f"{P}/predictions", json=body)
        (line,) = refused(response, 429)
        seconds = response.headers["retry-after"]
        assert line.startswith(
            f"Request was throttled. Your rate limit resets in ~{seconds}s. Too many of your jobs"
        )


def test_an_alias_with_a_slash_is_a_model_of_its_own(
    redis_url: str, redis_prefix: str, tmp_path: Path
) -> None:
    models = ModelsSettings(aliases={"acme/fox": "tiny", "fox": "tiny", "acme/gone": "other"})
    settings = Settings(redis=RedisSettings(url=redis_url, prefix=redis_prefix), models=models)
    with served(settings, tmp_path) as http:
        listed = [
            (each["owner"], each["name"]) for each in http.get(f"{P}/models").json()["results"]
        ]
        assert listed == [("glide", "tiny"), ("acme", "fox")]
        named = http.post(f"{P}/models/acme/fox/predictions", json={"input": PROMPT}).json()
        assert named["model"] == "acme/fox"
        bare = http.post(f"{P}/predictions", json={"version": "fox", "input": PROMPT}).json()
        assert (bare["model"], bare["version"]) == ("glide/tiny", named["version"])


@contextmanager
def served(settings: Settings, folder: Path) -> Iterator[httpx.Client]:
    """An API of these settings, with the one model `tiny`."""
    spec = tiny_spec(folder)
    redis = settings.redis
    queue = RedisJobQueue(redis.url or "", prefix=redis.prefix, settings=settings.queue)
    store = FilesystemStore(folder / "images")
    app = create_app(settings, queue, store, {spec.name: spec}, {spec.name: tiny_tokenizer(spec)})
    with serving(app) as url, httpx.Client(base_url=url, timeout=30) as http:
        yield http


def test_a_wait_ends_with_the_prediction(api: LiveApi, worker: Worker) -> None:
    answers: list[httpx.Response] = []
    waiting = threading.Thread(target=lambda: answers.append(create(api, headers=WAIT)))
    waiting.start()
    worker.finish(worker.take_next(), b"image")
    waiting.join()
    (response,) = answers
    assert (response.status_code, response.json()["status"]) == (201, "succeeded")
    assert response.headers["preference-applied"] == "wait"


def test_a_wait_that_is_over_says_starting_whatever_the_job_does(
    api: LiveApi, worker: Worker
) -> None:
    """Clients take any other status for the end of the prediction."""
    answers: list[httpx.Response] = []
    headers = {"Prefer": "wait=1"}
    waiting = threading.Thread(target=lambda: answers.append(create(api, headers=headers)))
    waiting.start()
    lease = worker.take_next()
    waiting.join()
    (response,) = answers
    assert (response.status_code, response.json()["status"]) == (202, "starting")
    assert response.headers["preference-applied"] == "wait=1"
    shown = api.http.get(f"{P}/predictions/{lease.job.id}").json()
    assert shown["status"] == "processing"


@pytest.mark.parametrize("prefer", ["wait=0", "wait=61", "wait=x", "wait=1.5", "respond-async", ""])
def test_a_preference_that_is_none_is_passed_over(api: LiveApi, prefer: str) -> None:
    response = create(api, headers={"Prefer": prefer})
    assert (response.status_code, response.json()["status"]) == (201, "starting")
    assert "preference-applied" not in response.headers


def test_a_failure_within_the_wait_is_an_answer(api: LiveApi, worker: Worker) -> None:
    answers: list[httpx.Response] = []
    waiting = threading.Thread(target=lambda: answers.append(create(api, headers=WAIT)))
    waiting.start()
    worker.fail(worker.take_next(), "bad", "the network is broken")
    waiting.join()
    seen = answers[0].json()
    assert (answers[0].status_code, seen["status"]) == (201, "failed")
    assert seen["error"] == "the network is broken"


@pytest.mark.parametrize(
    ("duration", "timeout_s"), [("90s", 90), ("1m", 60), ("1h30m", 5400), ("1m30s", 90)]
)
async def test_a_deadline_comes_from_cancel_after(
    api: LiveApi, duration: str, timeout_s: float
) -> None:
    seen = created(api, headers={"Cancel-After": duration})
    queue = RedisJobQueue(api.settings.redis.url or "", prefix=api.settings.redis.prefix)
    async with contextlib.aclosing(queue):
        job = await queue.get(seen["id"])
    assert job is not None
    assert job.timeout_s == timeout_s


@pytest.mark.parametrize("duration", ["soon", "-1s", "1x", "0s", ""])
def test_a_deadline_that_is_none_is_refused(shared_api: LiveApi, duration: str) -> None:
    (line,) = refused(create(shared_api, headers={"Cancel-After": duration}))
    assert line.startswith("- header.cancel-after: must be")


def test_the_same_key_gives_the_same_prediction(api: LiveApi) -> None:
    headers = {"Idempotency-Key": "once"}
    first, second = create(api, headers=headers), create(api, headers=headers)
    assert first.json()["id"] == second.json()["id"]
    assert second.headers["idempotency-replayed"] == "true"
    refused(create(api, {"prompt": "another"}, headers=headers))


def test_cancel_may_be_repeated(api: LiveApi) -> None:
    seen = created(api)
    first = api.http.post(seen["urls"]["cancel"])
    assert (first.status_code, first.json()["status"]) == (200, "canceled")
    assert api.http.post(seen["urls"]["cancel"]).json() == first.json()
    refused(api.http.post(f"{P}/predictions/job_{'0' * 26}/cancel"), 404)
    refused(api.http.get(f"{P}/predictions/none"), 404)


def test_a_webhook_is_kept_with_its_events(api: LiveApi, worker: Worker) -> None:
    url = "https://hooks.example/x"
    wanted = ["start", "logs", "completed"]
    created(api, webhook=url, webhook_events_filter=wanted)
    created(api, webhook=url)
    created(api, webhook_completed=url)
    targets = [lease.job.webhook for lease in worker.leases.lease(("tiny",), 3)]
    final = ("job.succeeded", "job.failed", "job.canceled")
    assert all(target and (target.url, target.dialect) == (url, "replicate") for target in targets)
    assert [target.events for target in targets if target] == [
        ("job.started", "job.progress", *final),
        ("job.image", *final),
        final,
    ]


def test_a_private_address_gets_no_webhook(shared_api: LiveApi) -> None:
    response = create(shared_api, webhook="http://169.254.169.254/latest")
    assert refused(response)[0].startswith("- webhook: ")

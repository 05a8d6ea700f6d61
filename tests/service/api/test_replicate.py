"""The front door of Replicate's API as it is on the wire."""

import base64
import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.api.app import create_app
from service.api.replicate.models import version_of
from service.events import Progress
from service.queue.redis import RedisJobQueue
from service.settings import ModelsSettings, QueueSettings, RedisSettings, Settings
from service.store.filesystem import FilesystemStore
from tests.service.live_api import LiveApi, Worker, serving
from tests.service.some_pictures import mask, picture
from tests.service.tiny_spec import tiny_spec, tiny_tokenizer

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


def test_predictions_are_listed_newest_first_and_linked(api: LiveApi) -> None:
    ids = [api.submit() for _ in range(2)] + [created(api)["id"] for _ in range(203)]
    ids.reverse()
    url: str | None = f"{P}/predictions"
    pages = []
    while url:
        pages.append(api.http.get(url).json())
        url = pages[-1]["next"]
        assert url is None or url.startswith(f"{api.url}{P}/predictions?cursor=")
    assert [len(page["results"]) for page in pages] == [100, 100, 5]
    assert [each["id"] for page in pages for each in page["results"]] == ids
    assert pages[0]["previous"] is None
    back = api.http.get(pages[2]["previous"]).json()
    assert back["results"] == pages[1]["results"]
    assert api.http.get(back["previous"]).json()["results"] == pages[0]["results"]
    oldest = pages[-1]["results"][-1]
    assert (oldest["model"], oldest["input"]["num_outputs"]) == ("glide/tiny", 1)
    assert re.fullmatch("[0-9a-f]{64}", oldest["version"])


def test_a_list_may_be_bounded_by_time(api: LiveApi) -> None:
    first, second = created(api), created(api)
    between = second["created_at"]

    def listed(**bounds: str) -> list[str]:
        found = api.http.get(f"{P}/predictions", params=bounds).json()["results"]
        return [each["id"] for each in found]

    assert first["created_at"] < between
    assert listed(created_after=between) == [second["id"]]
    assert listed(created_before=between) == [first["id"]]
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    assert listed(created_after=tomorrow) == []
    assert listed(created_before=tomorrow) == [second["id"], first["id"]]
    refused(api.http.get(f"{P}/predictions", params={"created_after": "x"}))
    assert refused(api.http.get(f"{P}/predictions?cursor=x")) == [
        "- cursor: is not one of another page"
    ]


def test_a_model_shows_what_it_takes(shared_api: LiveApi) -> None:
    (listed,) = shared_api.http.get(f"{P}/models").json()["results"]
    model = shared_api.http.get(f"{P}/models/glide/tiny").json()
    assert listed == model
    assert (model["owner"], model["name"], model["visibility"]) == ("glide", "tiny", "public")
    version = model["latest_version"]
    schemas = version["openapi_schema"]["components"]["schemas"]
    assert schemas["Output"]["items"] == {"type": "string", "format": "uri"}
    assert "x-cog-array-type" not in schemas["Output"]
    properties = schemas["Input"]["properties"]
    assert [each["x-order"] for each in properties.values()] == list(range(len(properties)))
    assert schemas["Input"]["required"] == ["prompt"]
    assert properties["width"]["enum"] == [64, 256]
    assert properties["scheduler"]["default"] == "dpmpp_2m"
    assert all("type" in each for each in properties.values())
    versions = shared_api.http.get(f"{P}/models/glide/tiny/versions").json()
    assert versions["results"] == [version]
    one = f"{P}/models/glide/tiny/versions/{version['id']}"
    assert shared_api.http.get(one).json() == version
    refused(shared_api.http.get(f"{P}/models/glide/tiny/versions/{'0' * 64}"), 404)
    refused(shared_api.http.get(f"{P}/models/acme/tiny"), 404)


def test_a_version_changes_with_the_weights(tmp_path: Path) -> None:
    def version(folder: str, weights: bytes) -> str:
        (tmp_path / folder).mkdir()
        spec = tiny_spec(tmp_path / folder)
        stages = (replace(spec.stages[0], weights=("base.safetensors",)), spec.stages[1])
        (spec.folder / "base.safetensors").write_bytes(weights)
        return version_of(replace(spec, stages=stages))

    assert version("one", b"weights") == version("same", b"weights")
    assert version("other", b"changed") != version("more", b"weights")


def test_an_upload_is_kept_shown_listed_and_forgotten(api: LiveApi) -> None:
    data = picture()
    seen = upload(api, data, metadata='{"my": "tag"}')
    assert (seen["name"], seen["content_type"], seen["size"]) == ("fox.png", "image/png", len(data))
    assert seen["checksums"] == {"sha256": hashlib.sha256(data).hexdigest()}
    assert seen["metadata"] == {"my": "tag"}
    assert seen["expires_at"] > seen["created_at"]
    assert seen["urls"]["get"] == f"{api.url}{P}/files/{seen['id']}"
    assert api.http.get(seen["urls"]["get"]).json() == seen
    other = upload(api, data, filename="other", type="image/x")
    assert (other["name"], other["content_type"], other["etag"]) == (
        "other",
        "image/x",
        seen["etag"],
    )
    listed = api.http.get(f"{P}/files").json()
    assert (listed["results"], listed["next"]) == ([other, seen], None)
    gone = api.http.delete(seen["urls"]["get"])
    assert (gone.status_code, gone.content) == (204, b"")
    for again in (api.http.get, api.http.delete):
        refused(again(seen["urls"]["get"]), 404)
    assert api.http.get(f"{P}/files").json()["results"] == [other]


def test_files_come_in_pages(api: LiveApi) -> None:
    ids = [upload(api, b"x")["id"] for _ in range(101)]
    page = api.http.get(f"{P}/files").json()
    assert [each["id"] for each in page["results"]] == ids[:0:-1]
    (last,) = api.http.get(page["next"]).json()["results"]
    assert last["id"] == ids[0]
    refused(api.http.get(f"{P}/files?cursor=x"))


@pytest.mark.parametrize(
    ("files", "data", "line"),
    [
        ({}, {"content": "text"}, "- content: is required, as a file"),
        ({"other": b"x"}, {}, "- content: is required, as a file"),
        ({"content": b"x"}, {"metadata": "[]"}, "- metadata: must be a JSON object"),
        ({"content": b"x"}, {"metadata": "{"}, "- metadata: must be a JSON object"),
        ({"content": b"x"}, {"filename": "x" * 256}, "- filename: must have at most 255"),
        ({"content": b"x"}, {"type": "x" * 256}, "- type: must have at most 255"),
        ({"content": b"x", "metadata": b"\xff"}, {}, "- metadata: must be text in UTF-8"),
    ],
)
def test_an_upload_that_is_none_is_refused(
    shared_api: LiveApi, files: dict[str, bytes], data: dict[str, str], line: str
) -> None:
    parts: dict[str, Any] = {**files, **{name: (None, text) for name, text in data.items()}}
    response = shared_api.http.post(f"{P}/files", files=parts)
    assert refused(response)[0].startswith(line)


def test_an_upload_is_a_form_within_its_bound(small_api: LiveApi) -> None:
    refused(small_api.http.post(f"{P}/files", json={}), 415)
    large = small_api.http.post(f"{P}/files", files={"content": b"x" * 3001})
    assert refused(large) == ["- content: has more than 3000 bytes"]
    refused(small_api.http.post(f"{P}/files", files={"content": b"x" * 5000}), 413)


def test_pictures_come_as_data_as_uploads_and_as_earlier_outputs(
    api: LiveApi, worker: Worker
) -> None:
    data, painted = picture(), mask()
    given = {**PROMPT, "image": data_url(data), "mask": upload(api, painted)["urls"]["get"]}
    seen = created(api, given)
    lease = worker.take()
    assert lease.job.params.task == "inpaint"
    assert lease.job.params.image == hashlib.sha256(data).hexdigest()
    assert lease.job.params.mask == hashlib.sha256(painted).hexdigest()
    assert seen["input"]["mask"] == given["mask"]
    assert seen["input"]["image"] == lease.job.params.image  # and not megabytes of base64
    worker.finish(lease, data)
    (output,) = api.http.get(seen["urls"]["get"]).json()["output"]
    created(api, {**PROMPT, "image": output})
    created(api, {**PROMPT, "image": lease.job.params.image})
    again = worker.leases.lease(("tiny",), 2)
    assert {each.job.params.image for each in again} == {hashlib.sha256(data).hexdigest()}


def test_a_picture_above_the_bound_of_other_bodies_fits_into_data(small_api: LiveApi) -> None:
    data = picture(kind="BMP", width=24, height=24)
    assert 1000 < len(data) <= 3000
    path = f"{P}/models/glide/tiny/predictions"
    response = small_api.http.post(path, json={"input": {**PROMPT, "image": data_url(data)}})
    assert response.status_code == 201


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("/replicate/v1/files/file_none", "- input.image: there is no file 'file_none'"),
        ("/v1/files/job_x/0.png?expires=9&signature=x", "- input.image: The link's signature"),
        ("/v1/files/job_x/0.png?expires=x", "- input.image: The link's signature"),
        ("//[x", "- input.image: is no file of this service"),
        ("/v1/models", "- input.image: is no file of this service"),
    ],
)
def test_an_address_here_that_is_no_picture_is_refused(
    shared_api: LiveApi, path: str, line: str
) -> None:
    response = create(shared_api, {**PROMPT, "image": shared_api.url + path})
    assert refused(response)[0].startswith(line)


@pytest.mark.parametrize("host", ["http://169.254.169.254/latest", "https://example.com/fox.png"])
def test_no_other_host_is_ever_asked(shared_api: LiveApi, host: str) -> None:
    (line,) = refused(create(shared_api, {**PROMPT, "image": host}))
    assert "does not fetch from other hosts" in line
    beside = shared_api.url + ".example/fox.png"
    assert "other hosts" in refused(create(shared_api, {**PROMPT, "image": beside}))[0]


def test_a_stream_tells_outputs_and_logs_and_needs_no_key(api: LiveApi, worker: Worker) -> None:
    seen = created(api, {**PROMPT, "num_outputs": 2})
    with stream(seen["urls"]["stream"]) as (response, events):
        assert response.headers["content-type"].startswith("text/event-stream")
        lease = worker.take()
        worker.leases.event(seen["id"], lease.token, Progress(step=39, total_steps=78))
        logs = next(events)
        assert (logs["event"], logs["data"].partition("%")[0].strip()) == ("logs", "50")
        worker.finish(lease, b"first", b"second")
        rest = list(events)
    outputs = [each["data"] for each in rest if each["event"] == "output"]
    assert [httpx.get(url).content for url in outputs] == [b"first", b"second"]
    assert (rest[-1]["event"], rest[-1]["data"]) == ("done", "{}")
    assert all(each["id"] for each in rest)


def test_a_stream_resumes_after_the_last_event_seen(api: LiveApi, worker: Worker) -> None:
    seen = created(api, {**PROMPT, "num_outputs": 2})
    worker.finish(worker.take(), b"first", b"second")
    url = seen["urls"]["stream"]
    with stream(url) as (_, events):
        whole = list(events)
    assert [each["event"] for each in whole[-1:]] == ["done"]
    for index, each in enumerate(whole[:-1]):
        with stream(url, **{"Last-Event-ID": each["id"]}) as (_, events):
            assert list(events) == whole[index + 1 :]
    assert httpx.get(url, headers={"Last-Event-ID": "done"}).status_code == 204
    assert httpx.get(url, headers={"Last-Event-ID": "x"}).status_code == 422


def test_a_stream_ends_with_why(api: LiveApi, worker: Worker) -> None:
    failed, canceled = created(api), created(api)
    worker.fail(worker.take(), "bad", "the network is broken")
    api.http.post(canceled["urls"]["cancel"])
    with stream(failed["urls"]["stream"]) as (_, events):
        error, done = events
    assert (error["event"], error["data"]) == ("error", "the network is broken")
    assert (done["event"], json.loads(done["data"])) == ("done", {"reason": "error"})
    with stream(canceled["urls"]["stream"]) as (_, events):
        (done,) = events
    assert json.loads(done["data"]) == {"reason": "canceled"}


def test_a_stream_is_given_only_for_its_own_signature(api: LiveApi) -> None:
    url, other = (created(api)["urls"]["stream"] for _ in range(2))
    query = url.partition("?")[2]
    assert httpx.get(url.partition("?")[0]).status_code == 422
    assert httpx.get(f"{other.partition('?')[0]}?{query}").status_code == 403
    assert httpx.get(url[:-1] + ("0" if url[-1] != "0" else "1")).status_code == 403


def test_the_account_its_devices_and_its_secret_are_shown(api: LiveApi, worker: Worker) -> None:
    assert api.http.get(f"{P}/account").json()["username"] == "default"
    assert api.http.get(f"{P}/hardware").json() == []
    worker.announce()
    assert api.http.get(f"{P}/hardware").json() == [{"sku": "cpu", "name": "cpu"}]
    secret = api.http.get(f"{P}/webhooks/default/secret").json()["key"]
    assert secret == api.http.get(f"{P}/webhooks/default/secret").json()["key"]
    prefix, key = secret.split("_")
    assert (prefix, len(base64.b64decode(key, validate=True))) == ("whsec", 32)


def test_nothing_of_another_tenant_is_seen(api: LiveApi) -> None:
    acme, other = (httpx.Client(base_url=api.url, headers=bearer(api, name)) for name in "ao")
    with acme, other:
        body = {"version": "tiny", "input": PROMPT}
        seen = acme.post(f"{P}/predictions", json=body).json()
        file = acme.post(f"{P}/files", files={"content": picture()}).json()
        for url in (seen["urls"]["get"], file["urls"]["get"]):
            assert acme.get(url).status_code == 200
            refused(other.get(url), 404)
        refused(other.post(seen["urls"]["cancel"]), 404)
        refused(other.delete(file["urls"]["get"]), 404)
        assert other.get(f"{P}/predictions").json()["results"] == []
        assert other.get(f"{P}/files").json()["results"] == []
        body["input"] = {**PROMPT, "image": file["urls"]["get"]}
        (line,) = refused(other.post(f"{P}/predictions", json=body))
        assert "there is no file" in line
        secrets = {each.get(f"{P}/webhooks/default/secret").text for each in (acme, other)}
        assert len(secrets) == 2
        assert acme.get(f"{P}/account").json()["username"] == "a"


def bearer(api: LiveApi, tenant: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {api.new_key(tenant)}"}


def test_a_missing_key_is_refused_but_signed_links_need_none(api: LiveApi, worker: Worker) -> None:
    headers = bearer(api, "default")
    with httpx.Client(base_url=api.url, headers=headers) as http:
        seen = http.post(f"{P}/predictions", json={"version": "tiny", "input": PROMPT}).json()
        worker.finish(worker.take(), b"image")
        (output,) = http.get(seen["urls"]["get"]).json()["output"]
    response = api.http.get(seen["urls"]["get"])
    refused(response, 401)
    assert response.json()["title"] == "Unauthenticated"
    assert httpx.get(output).content == b"image"
    with stream(seen["urls"]["stream"]) as (_, events):
        assert [each["event"] for each in events][-1] == "done"


def test_a_private_address_gets_no_webhook(shared_api: LiveApi) -> None:
    response = create(shared_api, webhook="http://169.254.169.254/latest")
    assert refused(response)[0].startswith("- webhook: ")

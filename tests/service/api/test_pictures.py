import base64
import hashlib
import json
from typing import Any

import httpx
import pytest

from tests.service.api.test_bad_requests import assert_problem, pointers
from tests.service.live_api import LiveApi, Worker
from tests.service.some_pictures import mask, picture

PICTURE, MASK = picture(), mask()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def in_base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def submit(api: LiveApi, **members: Any) -> httpx.Response:
    return api.http.post("/v1/jobs", json={"prompt": "a red apple", **members})


def refusal(response: httpx.Response) -> dict[str, str]:
    problem = assert_problem(response, 422, "invalid_request")
    return {error["pointer"]: error["detail"] for error in problem["errors"]}


@pytest.mark.parametrize("way", ["raw", "typed", "form"])
def test_an_upload_is_kept_by_its_sha256(api: LiveApi, way: str) -> None:
    sent: dict[str, dict[str, Any]] = {
        "raw": {"content": PICTURE},
        "typed": {"content": PICTURE, "headers": {"content-type": "image/png"}},
        "form": {"files": {"image": ("a.png", PICTURE)}},
    }
    response = api.http.post("/v1/images", **sent[way])
    assert response.status_code == 201, response.text
    assert response.json() == {
        "id": sha256(PICTURE),
        "object": "upload",
        "width": 48,
        "height": 32,
        "bytes": len(PICTURE),
    }
    assert api.store.get(f"inputs/{sha256(PICTURE)}") == PICTURE


@pytest.mark.parametrize(
    ("sent", "pointer"),
    [
        ({"content": b""}, ""),
        ({"content": b"no picture"}, ""),
        ({"content": PICTURE[:60]}, ""),
        ({"files": {"image": ("a.png", b"no picture")}}, "/image"),
        ({"files": {"picture": ("a.png", PICTURE)}}, "/image"),
        ({"data": {"image": "text"}, "files": {"x": b"x"}}, "/image"),
        ({"content": b"x", "headers": {"content-type": "multipart/form-data"}}, ""),
        ({"content": b"x", "headers": {"content-type": "multipart/form-data; boundary=b"}}, ""),
    ],
)
def test_what_is_no_picture_is_not_kept(
    shared_api: LiveApi, sent: dict[str, Any], pointer: str
) -> None:
    assert list(refusal(shared_api.http.post("/v1/images", **sent))) == [pointer]


def test_a_job_names_its_pictures_in_every_way(api: LiveApi) -> None:
    digests = {"image": sha256(PICTURE), "mask": sha256(MASK)}
    for data in (PICTURE, MASK):
        assert api.http.post("/v1/images", content=data).status_code == 201
    ways = [
        digests,
        {name: f"sha256:{digest.upper()}" for name, digest in digests.items()},
        {"image": in_base64(PICTURE), "mask": in_base64(MASK)},
        {"image": base64.encodebytes(PICTURE).decode(), "mask": digests["mask"]},
        {
            "image": f"data:image/png;base64,{in_base64(PICTURE)}",
            "mask": f"data:;base64,{in_base64(MASK)}",
        },
    ]
    jobs = [submit(api, **way) for way in ways]
    form = {"prompt": "a red apple"}
    files = {"image": ("a.png", PICTURE), "mask": ("b.png", MASK)}
    jobs.append(api.http.post("/v1/jobs", data=form, files=files))
    jobs.append(api.http.post("/v1/jobs", data={**form, **digests}, files={"image": PICTURE}))
    assert pointers(assert_problem(jobs.pop(), 422, "invalid_request")) == ["/image"]  # twice
    for job in jobs:
        assert job.status_code == 202, job.text
        shown = job.json()["input"]
        assert {name: shown[name] for name in digests} == digests
        assert shown["task"] == "inpaint"


def test_a_worker_finds_the_pictures_of_the_job_it_leases(api: LiveApi, worker: Worker) -> None:
    submit(api, image=in_base64(PICTURE), mask=in_base64(MASK))
    params = worker.take().job.params
    assert api.store.get(f"inputs/{params.image}") == PICTURE
    assert api.store.get(f"inputs/{params.mask}") == MASK


def test_a_form_says_what_json_says(api: LiveApi) -> None:
    members = {
        "prompt": "7",
        "n": 2,
        "seed": 9,
        "steps": "25,25",
        "guidance_interval": [0.2, 0.8],
        "upsample": {"steps": 4},
        "metadata": {"row": "1"},
        "strength": 0.3,
        "label": None,
    }
    fields = {name: json.dumps(value) for name, value in members.items()}
    fields |= {"prompt": "7", "steps": "25,25"}
    form = api.http.post("/v1/jobs", data=fields, files={"image": ("a.png", PICTURE)})
    plain = submit(api, **members, image=in_base64(PICTURE))
    assert form.status_code == plain.status_code == 202, form.text
    assert form.json()["input"] == plain.json()["input"]
    assert form.json()["metadata"] == plain.json()["metadata"]


@pytest.mark.parametrize(
    ("data", "files", "pointer"),
    [
        ({}, {"image": PICTURE}, "/prompt"),
        ({"prompt": "", "n": "two"}, {"image": PICTURE}, "/n"),
        ({"prompt": "", "colour": "red"}, {"image": PICTURE}, "/colour"),
        ({"prompt": ["", "twice"]}, {"image": PICTURE}, "/prompt"),
        ({}, {"prompt": b"a cat"}, "/prompt"),
        ({"prompt": ""}, {"image": b""}, "/image"),
        ({"prompt": "", "n": "[" * 5000}, {"image": PICTURE}, "/n"),
    ],
)
def test_a_bad_form_is_refused_by_field(
    shared_api: LiveApi, data: dict[str, Any], files: dict[str, bytes], pointer: str
) -> None:
    response = shared_api.http.post("/v1/jobs", data=data, files=files)
    assert list(refusal(response)) == [pointer]


@pytest.mark.parametrize(
    ("members", "pointer", "said"),
    [
        ({"image": "no base64!"}, "/image", "neither the id"),
        ({"image": ""}, "/image", "at least 1"),
        ({"image": "data:image/png,abc"}, "/image", "data:image/png;base64,"),
        ({"image": in_base64(b"text")}, "/image", "can't be read"),
        ({"image": "0" * 64}, "/image", "upload it again"),
        ({"image": f"sha256:{'0' * 64}"}, "/image", "upload it again"),
        ({"mask": in_base64(MASK)}, "/image", "give one"),
        ({"image": in_base64(PICTURE), "mask": "0" * 64}, "/mask", "upload it again"),
        ({"image": in_base64(PICTURE), "mask": in_base64(b"text")}, "/mask", "can't be read"),
        ({"image": in_base64(PICTURE), "mask": in_base64(mask(32, 32))}, "/mask", "48x32"),
        ({"image": in_base64(PICTURE), "mask": in_base64(mask(painted=0))}, "/mask", "keeps every"),
        ({"image": in_base64(PICTURE), "mask": in_base64(mask(painted=1))}, "/mask", "nothing"),
        ({"image": in_base64(PICTURE), "task": "inpaint"}, "/mask", "needs a mask"),
        ({"image": in_base64(PICTURE), "task": "generate"}, "/image", "takes no picture"),
        ({"image": in_base64(PICTURE), "task": "paint"}, "/task", "inpaint"),
        ({"image": in_base64(PICTURE), "strength": 0}, "/strength", "(0, 1]"),
        ({"task": "variation"}, "/image", "give one"),
        ({"task": "upscale", "width": 64, "image": in_base64(PICTURE)}, "/width", "256"),
        ({"label": 3}, "/label", "no classes"),
        ({"clip_guidance_scale": 1}, "/clip_guidance_scale", "no noised CLIP"),
        ({"classifier_guidance_scale": 1}, "/classifier_guidance_scale", "classifier"),
        ({"best_of": 4}, "/best_of", "no CLIP"),
        ({"seed_to": 5}, "/n", "at least 2"),
        ({"seed_to": -1, "n": 2}, "/seed_to", "between 0"),
    ],
)
def test_bad_editing_is_answered_with_a_pointer_and_a_way_out(
    shared_api: LiveApi, members: dict[str, Any], pointer: str, said: str
) -> None:
    found = refusal(submit(shared_api, **members))
    assert pointer in found
    assert said in found[pointer]


def test_a_refused_job_leaves_nothing_in_the_store(api: LiveApi) -> None:
    response = submit(api, image=in_base64(PICTURE), mask=in_base64(MASK), n=0)
    assert list(refusal(response)) == ["/n"]
    assert not api.store.refresh(f"inputs/{sha256(PICTURE)}")


def test_seeds_alone_make_an_interpolation(api: LiveApi) -> None:
    shown = submit(api, seed=1, seed_to=5, n=3).json()["input"]
    assert (shown["task"], shown["seed_to"]) == ("interpolation", 5)


def test_only_bodies_with_pictures_may_be_large(small_api: LiveApi) -> None:
    large = picture(34, 34, kind="BMP")
    assert 3000 < len(large) < 5000
    tools = small_api.http
    assert list(refusal(tools.post("/v1/images", content=large))) == [""]
    assert list(refusal(tools.post("/v1/images", files={"image": large}))) == ["/image"]
    assert list(refusal(submit(small_api, image=in_base64(large)))) == ["/image"]
    form = tools.post("/v1/jobs", data={"prompt": ""}, files={"mask": large, "image": PICTURE})
    assert list(refusal(form)) == ["/mask"]
    for path in ("/v1/images", "/v1/jobs"):
        response = tools.post(
            path, content=b" " * 20_000, headers={"content-type": "application/json"}
        )
        assert_problem(response, 413, "body_too_large")
    cancel = tools.post("/v1/jobs/job_1/cancel", content=b" " * 1001)
    assert cancel.status_code == 404  # a route that reads no body doesn't mind it

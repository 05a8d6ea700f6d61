"""Files and pictures of predictions, as they are on the wire."""

import hashlib
from typing import Any

import pytest

from tests.service.api.replicate_talk import PROMPT, P, create, created, data_url, refused, upload
from tests.service.live_api import LiveApi, Worker
from tests.service.some_pictures import mask, picture


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

import hashlib

import pytest

from tests.service.api.test_bad_requests import assert_problem
from tests.service.live_api import LiveApi, Worker


def test_an_image_is_served_while_its_job_still_runs(api: LiveApi, worker: Worker) -> None:
    job_id = api.submit(n=2)
    worker.deliver(worker.take(), 0, b"\x89PNG first")
    response = api.http.get(f"/v1/jobs/{job_id}/images/0")
    assert (response.status_code, response.content) == (200, b"\x89PNG first")
    assert response.headers["content-type"] == "image/png"
    assert response.headers["etag"] == f'"{hashlib.sha256(response.content).hexdigest()}"'
    assert "immutable" in response.headers["cache-control"]
    assert f"{job_id}-0.png" in response.headers["content-disposition"]


def test_an_image_the_client_holds_is_not_sent_again(api: LiveApi, worker: Worker) -> None:
    path = f"/v1/jobs/{api.submit()}/images/0"
    worker.finish(worker.take(), b"image")
    tag = api.http.get(path).headers["etag"]
    response = api.http.get(path, headers={"If-None-Match": tag})
    assert (response.status_code, response.content) == (304, b"")


def test_a_missing_image_is_not_found_and_says_why(api: LiveApi, worker: Worker) -> None:
    path = f"/v1/jobs/{api.submit()}/images"
    assert "not finished" in api.http.get(f"{path}/0").json()["detail"]
    assert "asked for 1" in api.http.get(f"{path}/1").json()["detail"]
    assert api.http.get(f"{path}/{10**30}").status_code == 404
    assert api.http.get(f"{path}/-1").status_code == 422
    assert api.http.get(f"{path}/first").status_code == 422


def test_an_image_that_the_store_lost_is_not_found(api: LiveApi, worker: Worker) -> None:
    path = f"/v1/jobs/{api.submit()}/images/0"
    lease = worker.take()
    record = worker.deliver(lease, 0, b"image")
    api.store.delete(record.key)
    response = api.http.get(path)
    assert response.status_code == 404
    assert response.json()["code"] == "not_found"


@pytest.mark.parametrize(
    ("asked", "content", "said"),
    [
        ("bytes=0-3", b"0123", "bytes 0-3/10"),
        ("bytes=4-", b"456789", "bytes 4-9/10"),
        ("bytes=-3", b"789", "bytes 7-9/10"),
        ("bytes=8-99", b"89", "bytes 8-9/10"),
        ("bytes=-99", b"0123456789", "bytes 0-9/10"),
    ],
)
def test_a_part_of_an_image_is_sent(
    api: LiveApi, worker: Worker, asked: str, content: bytes, said: str
) -> None:
    path = f"/v1/jobs/{api.submit()}/images/0"
    worker.finish(worker.take(), b"0123456789")
    response = api.http.get(path, headers={"Range": asked})
    assert (response.status_code, response.content) == (206, content)
    assert response.headers["content-range"] == said
    assert response.headers["content-length"] == str(len(content))
    assert response.headers["content-type"] == "image/png"


@pytest.mark.parametrize("asked", ["bytes=0-1,3-4", "bytes=5-2", "bytes=-", "pages=1-2", "x"])
def test_a_range_that_is_not_understood_gives_the_whole_image(
    api: LiveApi, worker: Worker, asked: str
) -> None:
    path = f"/v1/jobs/{api.submit()}/images/0"
    worker.finish(worker.take(), b"0123456789")
    response = api.http.get(path, headers={"Range": asked})
    assert (response.status_code, response.content) == (200, b"0123456789")


def test_a_part_that_is_not_there_is_refused(api: LiveApi, worker: Worker) -> None:
    path = f"/v1/jobs/{api.submit()}/images/0"
    worker.finish(worker.take(), b"0123456789")
    for asked in ("bytes=10-", "bytes=-0"):
        response = api.http.get(path, headers={"Range": asked})
        assert_problem(response, 416, "range_not_satisfiable")
        assert response.headers["content-range"] == "bytes */10"


def test_a_part_of_another_image_is_not_sent(api: LiveApi, worker: Worker) -> None:
    path = f"/v1/jobs/{api.submit()}/images/0"
    worker.finish(worker.take(), b"0123456789")
    tag = api.http.get(path).headers["etag"]
    for held, status in ((tag, 206), ('"other"', 200)):
        headers = {"Range": "bytes=0-3", "If-Range": held}
        assert api.http.get(path, headers=headers).status_code == status

import hashlib

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

import pytest

from service.errors import NotFound
from tests.service.api.test_bad_requests import assert_problem
from tests.service.live_api import LiveApi, Worker


def test_a_deleted_job_is_gone_with_its_images_and_its_key(api: LiveApi, worker: Worker) -> None:
    headers = {"Idempotency-Key": "k1"}
    job_id = api.http.post("/v1/jobs", json={"prompt": ""}, headers=headers).json()["id"]
    path = f"/v1/jobs/{job_id}"
    lease = worker.take()
    record = worker.deliver(lease, 0, b"image")
    worker.leases.finish(job_id, lease.token)
    image = api.http.get(path).json()["images"][0]["url"]

    deleted = api.http.delete(path)
    assert (deleted.status_code, deleted.content) == (204, b"")
    for gone in (path, f"{path}/images/0", f"{path}/events", image):
        assert_problem(api.http.get(gone), 404, "not_found")
    assert_problem(api.http.delete(path), 404, "not_found")
    assert api.http.get("/v1/jobs").json()["data"] == []
    with pytest.raises(NotFound):
        api.store.get(record.key)
    again = api.http.post("/v1/jobs", json={"prompt": ""}, headers=headers)
    assert "idempotency-replayed" not in again.headers


def test_a_job_that_is_not_final_is_not_deleted(api: LiveApi, worker: Worker) -> None:
    path = f"/v1/jobs/{api.submit()}"
    assert_problem(api.http.delete(path), 409, "conflict")
    lease = worker.take()
    problem = assert_problem(api.http.delete(path), 409, "conflict")
    assert "running" in problem["detail"]
    worker.finish(lease, b"image")
    assert api.http.get(f"{path}/images/0").content == b"image"
    assert api.http.delete(path).status_code == 204


def test_a_job_without_images_is_deleted(api: LiveApi) -> None:
    path = f"/v1/jobs/{api.submit()}"
    api.http.post(f"{path}/cancel")
    assert api.http.delete(path).status_code == 204
    assert_problem(api.http.get(path), 404, "not_found")

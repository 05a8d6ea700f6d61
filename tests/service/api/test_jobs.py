import threading

import pytest

from service.events import Progress
from service.jobs import JobFailure, is_job_id
from tests.service.live_api import LiveApi, Worker


def test_a_submission_is_answered_with_the_queued_job(api: LiveApi) -> None:
    response = api.http.post(
        "/v1/jobs", json={"prompt": "a red zebra", "seed": 7, "n": 2, "metadata": {"row": "1"}}
    )
    job = response.json()
    assert response.status_code == 202
    assert is_job_id(job["id"])
    assert response.headers["location"] == f"/v1/jobs/{job['id']}"
    assert job["links"]["self"] == f"{api.url}/v1/jobs/{job['id']}"
    assert int(response.headers["retry-after"]) >= 1
    assert job["object"] == "job"
    assert (job["status"], job["progress"], job["step"]) == ("queued", 0, 0)
    assert job["total_steps"] == 2 * (12 + 27)
    assert job["seed"] == job["input"]["seed"] == 7
    assert job["input"]["upsample"] == {"steps": "fast27", "sampler": "ddim", "temperature": 0.9}
    assert job["unknown_words"] == ["zebra"]
    assert job["metadata"] == {"row": "1"}
    assert job["created_at"].endswith("Z")
    assert job["started_at"] is job["finished_at"] is job["expires_at"] is None
    assert api.http.get(job["links"]["self"]).json() == job


def test_a_seed_that_was_not_given_is_drawn_and_reported(api: LiveApi) -> None:
    seeds = [api.http.get(f"/v1/jobs/{api.submit()}").json()["seed"] for _ in range(3)]
    assert len(set(seeds)) == 3


def test_an_empty_caption_is_accepted(api: LiveApi) -> None:
    assert api.http.get(f"/v1/jobs/{api.submit(prompt='')}").json()["input"]["prompt"] == ""


def test_a_job_that_no_live_worker_serves_says_so(api: LiveApi, worker: Worker) -> None:
    job_id = api.submit()
    path = f"/v1/jobs/{job_id}"
    assert api.http.get(path).json()["warnings"] == ["no live worker serves the model 'tiny'"]
    worker.announce()
    while api.http.get(path).json()["warnings"]:  # an API process asks once a second
        pass


def test_a_queued_job_knows_its_place(api: LiveApi) -> None:
    jobs = [api.submit() for _ in range(3)]
    places = [api.http.get(f"/v1/jobs/{job}").json()["queue_position"] for job in jobs]
    assert places == [0, 1, 2]


def test_a_job_is_followed_from_its_lease_to_its_images(api: LiveApi, worker: Worker) -> None:
    path = f"/v1/jobs/{api.submit(seed=5, n=2)}"
    lease = worker.take()
    worker.leases.renew([(lease.job.id, lease.token, 39)])
    running = api.http.get(path).json()
    assert (running["status"], running["step"], running["progress"]) == ("running", 39, 0.5)
    assert running["queue_position"] is None
    worker.deliver(lease, 0, b"first")
    (image,) = api.http.get(path).json()["images"]
    assert (image["index"], image["bytes"], image["seed"]) == (0, 5, 5)
    worker.deliver(lease, 1, b"second")
    worker.leases.finish(lease.job.id, lease.token)
    job = api.http.get(path).json()
    assert (job["status"], job["progress"]) == ("succeeded", 1)
    assert [image["seed"] for image in job["images"]] == [5, 6]
    assert job["created_at"] <= job["started_at"] <= job["finished_at"] < job["expires_at"]
    assert job["metrics"]["queue_seconds"] >= 0
    assert job["metrics"]["run_seconds"] >= 0


def test_a_failed_job_says_why(api: LiveApi, worker: Worker) -> None:
    path = f"/v1/jobs/{api.submit()}"
    lease = worker.take()
    failure = JobFailure(code="out_of_memory", detail="no room", retryable=False)
    worker.leases.fail(lease.job.id, lease.token, failure, None)
    job = api.http.get(path).json()
    assert job["status"] == "failed"
    assert job["error"] == {"code": "out_of_memory", "detail": "no room", "retryable": False}


def test_cancelling_a_queued_job_ends_it_and_again_changes_nothing(api: LiveApi) -> None:
    path = f"/v1/jobs/{api.submit()}"
    first = api.http.post(f"{path}/cancel")
    assert first.status_code == 200
    assert first.json()["status"] == "canceled"
    assert first.json()["cancel_reason"]
    assert api.http.post(f"{path}/cancel").json() == first.json()


def test_cancelling_a_running_job_asks_its_worker(api: LiveApi, worker: Worker) -> None:
    path = f"/v1/jobs/{api.submit()}"
    lease = worker.take()
    job = api.http.post(f"{path}/cancel").json()
    assert (job["status"], job["cancel_requested"]) == ("running", True)
    assert worker.leases.renew([(lease.job.id, lease.token, 3)]) == {lease.job.id: "cancel"}
    worker.leases.release(lease.job.id, lease.token)
    assert api.http.get(path).json()["status"] == "canceled"


def test_cancelling_a_succeeded_job_leaves_it(api: LiveApi, worker: Worker) -> None:
    path = f"/v1/jobs/{api.submit()}"
    worker.finish(worker.take(), b"image")
    assert api.http.post(f"{path}/cancel").json()["status"] == "succeeded"


def test_a_preference_to_wait_is_honoured(api: LiveApi, worker: Worker) -> None:
    body = {"prompt": "a red apple"}
    unfinished = api.http.post("/v1/jobs", json=body, headers={"Prefer": "wait=0"})
    assert unfinished.status_code == 202
    assert unfinished.headers["preference-applied"] == "wait=0"
    worker.finish(worker.take(), b"image")

    answers = []
    prefer = {"Prefer": "respond-async, wait=5"}
    post = threading.Thread(
        target=lambda: answers.append(api.http.post("/v1/jobs", json=body, headers=prefer))
    )
    post.start()
    while not (leased := worker.leases.lease(("tiny",), 1)):
        pass
    worker.finish(leased[0], b"image")
    post.join()
    assert answers[0].status_code == 200
    assert answers[0].json()["status"] == "succeeded"
    assert "retry-after" not in answers[0].headers


@pytest.mark.parametrize("prefer", ["wait=soon", "wait=-1", "return=minimal", ";;="])
def test_a_preference_that_is_not_understood_is_ignored(api: LiveApi, prefer: str) -> None:
    response = api.http.post("/v1/jobs", json={"prompt": ""}, headers={"Prefer": prefer})
    assert response.status_code == 202
    assert "preference-applied" not in response.headers


def test_progress_never_goes_back(api: LiveApi, worker: Worker) -> None:
    path = f"/v1/jobs/{api.submit()}"
    lease = worker.take()
    worker.leases.event(lease.job.id, lease.token, Progress(step=20, total_steps=39))
    worker.leases.event(lease.job.id, lease.token, Progress(step=10, total_steps=39))
    assert api.http.get(path).json()["step"] == 20

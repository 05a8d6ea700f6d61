from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from model.params import SamplingParams
from service.api.forecast import Deadline, Pace, eta_seconds, paces_of
from service.errors import DeadlineTooShort, Unmeetable
from service.jobs import Job, JobStatus
from service.queue.presence import WorkerPresence
from tests.service.api.test_bad_requests import assert_problem, pointers
from tests.service.live_api import LiveApi, Worker

PACE = Pace(total=20, fastest=10)
QUEUED = Job(id="job_1", status=JobStatus.QUEUED, params=SamplingParams(), total_steps=40, work=100)
RUNNING = replace(QUEUED, status=JobStatus.RUNNING, attempt=1, started_at_ms=1_000)


def worker(name: str, rate: float | None, *models: str) -> WorkerPresence:
    return WorkerPresence(id=name, models=models, work_rate=rate)


def test_a_models_pace_is_that_of_its_workers() -> None:
    paces = paces_of(
        [worker("1", 4.0, "a"), worker("2", 6.0, "a", "b"), worker("3", None, "b", "c")]
    )
    assert paces == {"a": Pace(10, 6), "b": Pace(6, 6), "c": None}


@pytest.mark.parametrize(
    ("job", "pace", "work_before", "expected"),
    [
        (QUEUED, PACE, 0, 10),
        (QUEUED, PACE, 60, 13),
        (QUEUED, None, 60, None),
        (QUEUED, PACE, None, None),
        (RUNNING, PACE, None, 10),
        (RUNNING, None, None, None),
        (replace(RUNNING, step=10), None, None, 6),  # ten steps in 2 s, thirty to go
        (replace(RUNNING, step=10, attempt=2), PACE, None, 7.5),
        (replace(RUNNING, step=40), PACE, None, 0),
        (replace(RUNNING, status=JobStatus.SUCCEEDED), PACE, None, None),
    ],
)
def test_the_end_of_a_job_is_estimated_from_what_is_known(
    job: Job, pace: Pace | None, work_before: int | None, expected: float | None
) -> None:
    assert eta_seconds(job, pace, work_before=work_before, now_ms=3_000) == expected


def test_what_may_be_before_a_job_is_what_leaves_it_time() -> None:
    deadline = Deadline(timeout_s=15, work=100, pace=PACE)
    assert deadline.most_work_before == 100
    refusal = deadline.refusal(200, now_s=0)
    assert isinstance(refusal, Unmeetable)
    assert refusal.members == {
        "predicted_seconds": 20.0,
        "predicted_finish": "1970-01-01T00:00:20.000Z",
    }
    assert refusal.retry_after_s == 5


def test_a_deadline_that_an_idle_service_misses_is_too_short() -> None:
    deadline = Deadline(timeout_s=5, work=100, pace=PACE)
    assert deadline.most_work_before < 0
    refusal = deadline.refusal(0, now_s=0)
    assert isinstance(refusal, DeadlineTooShort)
    assert refusal.members["predicted_seconds"] == 10.0


def post(api: LiveApi, timeout: float | str, **headers: str) -> Any:
    """Submits a job of work 456 with a deadline in the body, or in the header."""
    body: dict[str, Any] = {"prompt": "a red apple"}
    if isinstance(timeout, str):
        headers["Cancel-After"] = timeout
    else:
        body["timeout_seconds"] = timeout
    return api.http.post("/v1/jobs", json=body, headers=headers)


def test_a_deadline_that_the_queue_can_not_meet_is_refused_with_the_predicted_finish(
    api: LiveApi, worker: Worker
) -> None:
    worker.announce(work_rate=456.0)  # a job takes a second
    for _ in range(5):
        api.submit()
    response = post(api, 3)
    problem = response.json()
    assert (response.status_code, problem["code"]) == (503, "deadline_unmeetable")
    assert response.headers["retry-after"] == "3"
    assert problem["predicted_seconds"] == pytest.approx(6.0, abs=0.1)
    assert problem["predicted_finish"].endswith("Z")
    assert datetime.fromisoformat(problem["predicted_finish"])
    assert len(api.http.get("/v1/jobs").json()["data"]) == 5
    assert post(api, 7).status_code == 202


def test_a_deadline_that_no_queue_explains_is_a_bad_request(api: LiveApi, worker: Worker) -> None:
    worker.announce(work_rate=45.6)  # a job takes ten seconds
    response = post(api, "3s")
    problem = response.json()
    assert (response.status_code, problem["code"]) == (422, "deadline_too_short")
    assert pointers(problem) == ["/header/cancel-after"]
    assert problem["predicted_seconds"] == 10.0
    assert pointers(post(api, 3).json()) == ["/timeout_seconds"]


def test_every_dialect_says_in_a_sentence_that_a_deadline_is_too_short(
    api: LiveApi, worker: Worker
) -> None:
    worker.announce(work_rate=45.6)
    post(api, 600)
    hurry = {"Cancel-After": "3s"}
    takes = "is too short: an idle service takes about 10.0 s for this job"
    prediction = {"version": "tiny", "input": {"prompt": "a red apple"}}
    answer = api.http.post("/replicate/v1/predictions", json=prediction, headers=hurry).json()
    assert answer["detail"] == f"- header.cancel-after: {takes}"
    assert answer["type"].endswith(":deadline_too_short")
    answer = api.http.post("/hf/models/tiny", json={"inputs": "a red apple"}, headers=hurry).json()
    assert answer["code"] == "deadline_too_short"


def test_another_tenants_queue_does_not_count_whole(api: LiveApi, worker: Worker) -> None:
    worker.announce(work_rate=456.0)
    crowd = {"Authorization": f"Bearer {api.new_key('crowd')}"}
    other = {"Authorization": f"Bearer {api.new_key('other')}"}
    while api.http.get("/v1/jobs").status_code != 401:
        pass  # the key is known to the server in a moment
    for _ in range(10):
        api.http.post("/v1/jobs", json={"prompt": ""}, headers=crowd)
    assert post(api, 4, **crowd).status_code == 503
    assert post(api, 4, **other).status_code == 202


def test_a_deadline_is_not_judged_while_the_workers_pace_is_unknown(
    api: LiveApi, worker: Worker
) -> None:
    assert post(api, 1e-3).status_code == 202
    worker.announce()
    assert post(api, 1e-3).status_code == 202


def test_a_replay_is_not_refused_for_its_deadline(api: LiveApi, worker: Worker) -> None:
    key = {"Idempotency-Key": "k1"}
    first = post(api, 600, **key)
    worker.announce(work_rate=1e-3)
    while post(api, 600).status_code == 202:
        pass  # an API process asks once a second
    again = post(api, 600, **key)
    assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])


def test_a_queued_job_says_when_it_will_end(api: LiveApi, worker: Worker) -> None:
    worker.announce(work_rate=456.0)
    jobs = [api.http.post("/v1/jobs", json={"prompt": ""}).json() for _ in range(3)]
    assert [job["eta_seconds"] for job in jobs] == [1.0, 2.0, 3.0]
    polled = [api.http.get(job["links"]["self"]).json() for job in jobs]
    assert [job["eta_seconds"] for job in polled] == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("header", "seconds"), [("60s", 60), ("1m30s", 90), ("1h", 3600), ("90", 90), ("1.5m", 90)]
)
def test_a_deadline_may_stand_in_a_header(api: LiveApi, header: str, seconds: int) -> None:
    job = post(api, header).json()
    created, deadline = (
        datetime.fromisoformat(job[name]) for name in ("created_at", "deadline_at")
    )
    assert (deadline - created).total_seconds() == seconds


@pytest.mark.parametrize("header", ["", "soon", "1x", "-1s", "0s", "30s1m", "200h", "1e3s", "٣s"])
def test_a_header_that_is_no_deadline_is_refused(shared_api: LiveApi, header: str) -> None:
    headers = {b"Cancel-After": header.encode()}
    response = shared_api.http.post("/v1/jobs", json={"prompt": ""}, headers=headers)
    problem = assert_problem(response, 422, "invalid_request")
    assert pointers(problem) == ["/header/cancel-after"]


def test_the_body_goes_before_the_header(api: LiveApi) -> None:
    body = {"prompt": "", "timeout_seconds": 10}
    job = api.http.post("/v1/jobs", json=body, headers={"Cancel-After": "60s"}).json()
    created, deadline = (
        datetime.fromisoformat(job[name]) for name in ("created_at", "deadline_at")
    )
    assert (deadline - created).total_seconds() == 10

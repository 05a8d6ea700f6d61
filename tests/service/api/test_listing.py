from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.service.api.test_bad_requests import assert_problem, pointers
from tests.service.live_api import LiveApi, Worker


def ids(response: httpx.Response) -> list[str]:
    assert response.status_code == 200, response.text
    return [job["id"] for job in response.json()["data"]]


def test_jobs_are_listed_newest_first_page_by_page(api: LiveApi) -> None:
    jobs = [api.submit() for _ in range(5)]
    api.http.post(f"/v1/jobs/{jobs[2]}/cancel")
    seen: list[str] = []
    query: dict[str, Any] = {"limit": 2}
    while True:
        page = api.http.get("/v1/jobs", params=query).json()
        seen += [job["id"] for job in page["data"]]
        if not page["has_more"]:
            break
        query["cursor"] = page["next_cursor"]
        api.submit()  # must not shift the pages
    assert seen == sorted(jobs, reverse=True)  # ids of one millisecond have no order
    assert ids(api.http.get("/v1/jobs", params={"status": "canceled"})) == [jobs[2]]


def test_links_lead_through_all_pages_with_the_same_filter(api: LiveApi) -> None:
    jobs = sorted((api.submit() for _ in range(5)), reverse=True)
    api.http.post(f"/v1/jobs/{jobs[1]}/cancel")
    seen: list[str] = []
    url = f"{api.url}/v1/jobs?limit=2&status=queued"
    while True:
        page = api.http.get(url)
        seen += ids(page)
        if "next" not in page.links:
            break
        url = page.links["next"]["url"]
    assert url.startswith(f"{api.url}/v1/jobs?limit=2&status=queued&cursor=job_")
    assert seen == [job for job in jobs if job != jobs[1]]
    assert not page.json()["has_more"]


def test_jobs_are_found_by_model_and_by_time(api: LiveApi) -> None:
    jobs = [api.submit() for _ in range(3)]
    created = [api.http.get(f"/v1/jobs/{job}").json()["created_at"] for job in jobs]
    assert len(ids(api.http.get("/v1/jobs", params={"model": "tiny"}))) == 3
    assert ids(api.http.get("/v1/jobs", params={"model": "other"})) == []
    since = api.http.get("/v1/jobs", params={"created_after": created[0]})
    assert set(ids(since)) == set(jobs)
    before = api.http.get("/v1/jobs", params={"created_before": created[0]})
    assert ids(before) == []
    later = datetime.fromisoformat(created[2]) + timedelta(seconds=1)
    none = api.http.get("/v1/jobs", params={"created_after": later.isoformat()})
    assert ids(none) == []


def test_a_list_tells_each_jobs_place(api: LiveApi, worker: Worker) -> None:
    jobs = [api.submit() for _ in range(3)]
    worker.take()
    listed = {job["id"]: job for job in api.http.get("/v1/jobs").json()["data"]}
    assert [listed[job]["queue_position"] for job in jobs] == [None, 0, 1]


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ({"created_after": "yesterday"}, "/query/created_after"),
        ({"created_before": "2026-11-25T12:00:00"}, "/query/created_before"),
        ({"model": "x" * 300}, "/query/model"),
    ],
)
def test_a_bad_filter_is_named(shared_api: LiveApi, query: dict[str, str], pointer: str) -> None:
    response = shared_api.http.get("/v1/jobs", params=query)
    assert pointers(assert_problem(response, 422, "invalid_request")) == [pointer]

import hashlib
import json
import logging
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from service.queue.embedded import EmbeddedRedis
from service.settings import RedisSettings
from tests.service.api.test_bad_requests import assert_problem
from tests.service.live_api import LiveApi, Worker, live_api
from tests.service.some_pictures import picture

STRANGER = {"x-forwarded-for": "203.0.113.7"}
UNKNOWN_JOB = "job_01m83t1gp9njq9884t5h7g211x"


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


@pytest.fixture
def opened(redis_url: str, redis_prefix: str, tmp_path: Path) -> Iterator[LiveApi]:
    """A server that is open to everybody until there is a key."""
    redis = RedisSettings(url=redis_url, prefix=redis_prefix)
    with live_api(redis, tmp_path, open=True) as api:
        yield api


def test_without_keys_the_server_is_open_to_its_own_machine(api: LiveApi) -> None:
    assert api.http.get("/v1/jobs").status_code == 200
    local = {"x-forwarded-for": "127.0.0.1"}
    assert api.http.get("/v1/jobs", headers=local).status_code == 200
    for headers in (
        STRANGER,
        {"x-forwarded-for": "127.0.0.1, 203.0.113.7"},
        {"x-forwarded-for": "x"},
    ):
        problem = assert_problem(api.http.get("/v1/jobs", headers=headers), 401, "unauthenticated")
        assert "glide keys create" in problem["detail"]
        assert "GLIDE_API__OPEN" in problem["detail"]


@pytest.mark.parametrize("host", ["localhost", "app.localhost:8000", "127.0.0.1:1", "[::1]:8000"])
def test_without_keys_its_own_machine_may_call_it_by_any_name_of_its_own(
    shared_api: LiveApi, host: str
) -> None:
    assert shared_api.http.get("/v1/jobs", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "192.0.2.1:8000", ""])
def test_without_keys_a_name_that_merely_leads_here_is_refused(
    shared_api: LiveApi, host: str
) -> None:
    response = shared_api.http.get("/v1/jobs", headers={"host": host})
    problem = assert_problem(response, 401, "unauthenticated")
    assert "as localhost" in problem["detail"]


def test_a_forwarded_name_does_not_hide_the_one_that_was_asked_for(shared_api: LiveApi) -> None:
    forwarded = {"x-forwarded-host": "api.example", "x-forwarded-proto": "https"}
    listed = shared_api.http.get("/v1/jobs", headers=forwarded)
    assert listed.status_code == 200
    hidden = {"host": "evil.example", "x-forwarded-host": "localhost"}
    assert shared_api.http.get("/v1/jobs", headers=hidden).status_code == 401


def test_without_keys_an_opened_server_is_open_to_all(opened: LiveApi) -> None:
    assert opened.http.get("/v1/jobs", headers=STRANGER).status_code == 200
    opened.new_key()
    assert opened.http.get("/v1/jobs", headers=STRANGER).status_code == 401


def test_where_all_proxies_are_trusted_a_forwarded_address_proves_nothing(
    redis_url: str, redis_prefix: str, tmp_path: Path
) -> None:
    redis = RedisSettings(url=redis_url, prefix=redis_prefix)
    with live_api(redis, tmp_path, trusted_proxies=["*"]) as api:
        assert api.http.get("/v1/jobs").status_code == 200
        forged = api.http.get("/v1/jobs", headers={"x-forwarded-for": "127.0.0.1"})
        assert forged.status_code == 401


def test_once_there_is_a_key_a_missing_one_is_refused_at_once(api: LiveApi) -> None:
    assert api.http.get("/v1/jobs").status_code == 200
    key = api.new_key()
    response = api.http.get("/v1/jobs")
    assert_problem(response, 401, "unauthenticated")
    assert response.headers["www-authenticate"] == "Bearer"
    assert api.http.get("/v1/jobs", headers=bearer(key)).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer {}"},
        {"authorization": "bearer   {}"},
        {"authorization": "Token {}"},
        {"x-api-key": "{}"},
        {"authorization": "Basic dXNlcjpwYXNz", "x-api-key": "{}"},
        {"authorization": "Bearer", "x-api-key": "{}"},
    ],
)
def test_a_key_is_taken_in_every_usual_header(api: LiveApi, headers: dict[str, str]) -> None:
    key = api.new_key("acme")
    sent = {name: value.format(key) for name, value in headers.items()}
    assert api.http.get("/v1/jobs", headers=sent).status_code == 200
    wrong = {name: value.format(key[:-1]) for name, value in headers.items()}
    assert api.http.get("/v1/jobs", headers=wrong).status_code == 401


@pytest.mark.parametrize("there_are_keys", [True, False])
@pytest.mark.parametrize(
    "value",
    [
        "Bearer sk-test",
        "Bearer glide_sk_" + "0" * 49,
        "Bearer glide_sk_43K7F07wS9SDOq1db20EBv6kzzgbZkAxXudZGuGAMag0aAZFH",
        "Bearer one two",
        "Basic dXNlcjpwYXNz",
        "Bearer é",
        "glide",
        "Bearer " + "x" * 5000,
    ],
)
def test_a_wrong_key_is_refused_even_while_the_server_is_open(
    opened: LiveApi, value: str, there_are_keys: bool
) -> None:
    if there_are_keys:
        opened.new_key()
    headers = {b"authorization": value.encode()}
    response = opened.http.get("/v1/jobs", headers=httpx.Headers(headers))
    assert_problem(response, 401, "unauthenticated")
    assert response.headers["www-authenticate"] == "Bearer"


def test_two_keys_at_once_are_refused(api: LiveApi) -> None:
    keys = [("authorization", f"Bearer {api.new_key()}") for _ in range(2)]
    assert api.http.get("/v1/jobs", headers=keys).status_code == 401


@pytest.mark.parametrize("path", ["/healthz", "/openapi.json", "/docs"])
def test_some_routes_ask_for_no_key(api: LiveApi, path: str) -> None:
    api.new_key()
    assert api.http.get(path).status_code == 200
    assert api.http.get(path, headers={**STRANGER, **bearer("wrong")}).status_code == 200
    assert api.http.get("/readyz").status_code == 503  # for want of a worker


def test_every_other_route_asks_for_a_key(api: LiveApi) -> None:
    paths = api.http.get("/openapi.json").json()["paths"]
    api.new_key()
    asked = 0
    for path, operations in paths.items():
        for method, operation in operations.items():
            if operation.get("security") == []:
                continue
            address = path.replace("{job_id}", UNKNOWN_JOB).replace("{index}", "0")
            response = api.http.request(method, address)
            assert response.status_code == 401, (method, path)
            assert "401" in operation["responses"]
            asked += 1
    assert asked >= 8


def test_a_route_that_must_have_a_signature_asks_for_no_key(api: LiveApi) -> None:
    paths = api.http.get("/openapi.json").json()["paths"]
    signed = {
        path: operation.get("security")
        for path, operations in paths.items()
        for operation in operations.values()
        for parameter in operation.get("parameters", [])
        if parameter["name"] == "signature"
    }
    assert "/v1/files/{job_id}/{name}" in signed
    assert all(security == [] for security in signed.values()), signed


def test_a_signed_link_needs_no_key_and_no_other_link_works(api: LiveApi, worker: Worker) -> None:
    job_id = api.submit()
    lease = worker.take()
    worker.finish(lease, b"picture")
    key = api.new_key("default")
    url = api.http.get(f"/v1/jobs/{job_id}", headers=bearer(key)).json()["images"][0]["url"]
    assert httpx.get(url).content == b"picture"
    assert httpx.get(url.replace("signature=", "signature=0")).status_code == 403
    assert httpx.get(url.partition("&")[0]).status_code == 403
    assert httpx.get(url.partition("?")[0]).status_code == 403
    assert api.http.get(f"/v1/jobs/{job_id}/images/0").status_code == 401


def test_another_tenants_jobs_are_as_unknown_as_none(api: LiveApi, worker: Worker) -> None:
    mine, other = bearer(api.new_key("acme")), bearer(api.new_key("rival"))
    response = api.http.post("/v1/jobs", json={"prompt": "a red apple"}, headers=mine)
    job_id = response.json()["id"]
    worker.finish(worker.take(), b"picture")
    assert api.http.get("/v1/jobs", headers=other).json()["data"] == []
    for method, path in (
        ("GET", "/v1/jobs/{}"),
        ("GET", "/v1/jobs/{}?wait=1"),
        ("GET", "/v1/jobs/{}/events"),
        ("GET", "/v1/jobs/{}/images/0"),
        ("GET", "/v1/jobs/{}/images/9"),
        ("POST", "/v1/jobs/{}/cancel"),
    ):
        answers = []
        for each in (job_id, UNKNOWN_JOB):
            fixed = {**other, "x-request-id": "fixed"}
            response = api.http.request(method, path.format(each), headers=fixed)
            assert response.status_code == 404
            headers = {
                k: v for k, v in response.headers.items() if k not in ("date", "server-timing")
            }
            answers.append((response.text.replace(each, "ID"), headers))
        assert answers[0] == answers[1]
    assert api.http.get(f"/v1/jobs/{job_id}", headers=mine).json()["status"] == "succeeded"


def test_a_tenants_keys_share_its_jobs(api: LiveApi) -> None:
    first, second = bearer(api.new_key("acme")), bearer(api.new_key("acme"))
    response = api.http.post("/v1/jobs", json={"prompt": "a red apple"}, headers=first)
    job_id = response.json()["id"]
    assert api.http.get(f"/v1/jobs/{job_id}", headers=second).status_code == 200


def test_an_upload_is_its_senders_alone(api: LiveApi) -> None:
    mine, other = bearer(api.new_key("acme")), bearer(api.new_key("rival"))
    data = picture(64, 64)
    upload = api.http.post("/v1/images", content=data, headers=mine).json()["id"]
    assert upload == hashlib.sha256(data).hexdigest()

    def vary(image: str, key: dict[str, str]) -> httpx.Response:
        body = {"prompt": "a red apple", "image": image, "strength": 0.5}
        return api.http.post("/v1/jobs", json=body, headers={**key, "x-request-id": "fixed"})

    assert vary(upload, mine).status_code == 202
    stolen, unknown = vary(upload, other), vary("0" * 64, other)
    assert_problem(stolen, 422, "invalid_request")
    assert stolen.text.replace(upload, "ID") == unknown.text.replace("0" * 64, "ID")
    api.http.post("/v1/images", content=data, headers=other)
    assert vary(upload, other).status_code == 202


def test_a_picture_that_came_with_a_job_is_its_senders(api: LiveApi) -> None:
    mine, other = bearer(api.new_key("acme")), bearer(api.new_key("rival"))
    data = picture(64, 64)
    form = {"prompt": "a red apple", "strength": "0.5"}
    sent = api.http.post("/v1/jobs", data=form, files={"image": data}, headers=mine)
    assert sent.status_code == 202
    again = {"prompt": "a red apple", "image": hashlib.sha256(data).hexdigest(), "strength": 0.5}
    assert api.http.post("/v1/jobs", json=again, headers=mine).status_code == 202
    assert api.http.post("/v1/jobs", json=again, headers=other).status_code == 422


def test_the_log_names_the_key_and_never_shows_it(
    api: LiveApi, caplog: pytest.LogCaptureFixture
) -> None:
    key = api.new_key("acme")
    with caplog.at_level(logging.DEBUG):
        api.http.get("/v1/jobs", headers=bearer(key))
        api.http.get("/v1/jobs", headers=bearer(key[:-1] + "!"))
        api.http.get("/healthz")  # a request is logged after its answer, before the next
    lines = [record.__dict__ for record in caplog.records if record.message == "request"]
    assert [line["status"] for line in lines][:2] == [200, 401]
    assert str(lines[0]["key_id"]).startswith("key_")
    assert "key_id" not in lines[1]
    assert key[:-1] not in json.dumps([str(line) for line in lines])


def test_nothing_is_served_before_the_keys_were_read_once(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path / "redis") as server:
        redis = RedisSettings(url=server.url)
        with live_api(redis, tmp_path) as api:
            key = bearer(api.new_key())
        os.kill(server.pid, signal.SIGKILL)
        while server.is_alive:
            time.sleep(0.01)
        with live_api(redis, tmp_path) as late:
            for headers in ({}, key, bearer("wrong")):
                assert_problem(late.http.get("/v1/jobs", headers=headers), 503, "unavailable")
            assert late.http.get("/healthz").status_code == 200
            server.start()
            assert late.http.get("/v1/jobs").status_code == 401
            assert late.http.get("/v1/jobs", headers=key).status_code == 200


def test_the_document_says_how_keys_are_sent(api: LiveApi) -> None:
    document = api.http.get("/openapi.json").json()
    assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    assert document["security"] == [{"bearer": []}, {"header": []}]
    assert document["paths"]["/healthz"]["get"]["security"] == []
    assert "401" in document["paths"]["/v1/jobs"]["post"]["responses"]
    assert "401" not in document["paths"]["/healthz"]["get"]["responses"]


ORIGIN = {"origin": "https://pages.example"}


def test_pages_of_a_named_origin_may_ask_and_read(
    redis_url: str, redis_prefix: str, tmp_path: Path
) -> None:
    redis = RedisSettings(url=redis_url, prefix=redis_prefix)
    with live_api(redis, tmp_path, cors_origins=["https://pages.example"]) as api:
        api.new_key()
        asks = {
            "access-control-request-method": "POST",
            "access-control-request-headers": "authorization, content-type, idempotency-key",
        }
        preflight = api.http.options("/v1/jobs", headers=ORIGIN | asks)
        assert preflight.status_code == 200
        assert "POST" in preflight.headers["access-control-allow-methods"]
        assert "authorization" in preflight.headers["access-control-allow-headers"]
        refused = api.http.post("/v1/jobs", json={"prompt": ""}, headers=ORIGIN)
        assert refused.status_code == 401
        assert refused.headers["access-control-allow-origin"] == ORIGIN["origin"]
        exposed = refused.headers["access-control-expose-headers"].lower()
        for name in ("link", "location", "retry-after", "ratelimit", "x-request-id", "etag"):
            assert name in exposed.split(", ")
        foreign = api.http.get("/healthz", headers={"origin": "https://evil.example"})
        assert "access-control-allow-origin" not in foreign.headers
        assert "access-control-allow-credentials" not in refused.headers


def test_without_the_setting_no_page_may_ask(api: LiveApi) -> None:
    response = api.http.get("/healthz", headers=ORIGIN)
    assert "access-control-allow-origin" not in response.headers


def links(api: LiveApi, headers: dict[str, str]) -> str:
    response = api.http.post("/v1/jobs", json={"prompt": "a red apple"}, headers=headers)
    assert response.status_code == 202, response.text
    link: str = response.json()["links"]["self"]
    return link


FORWARDED = {
    "x-forwarded-proto": "https",
    "x-forwarded-host": "pictures.example",
    "x-forwarded-prefix": "/draw/",
}


def test_links_are_those_of_the_proxys_client(api: LiveApi) -> None:
    assert links(api, FORWARDED).startswith("https://pictures.example/draw/v1/jobs/job_")
    assert links(api, {}).startswith(f"{api.url}/v1/jobs/job_")


@pytest.mark.parametrize(
    "forged",
    [
        {"x-forwarded-host": "evil.example/path?"},
        {"x-forwarded-host": "a b"},
        {"x-forwarded-prefix": "//evil.example"},
        {"x-forwarded-prefix": "/../.."},
        {"x-forwarded-proto": "javascript"},
    ],
)
def test_a_forwarded_header_that_makes_no_address_is_ignored(
    api: LiveApi, forged: dict[str, str]
) -> None:
    assert links(api, forged).startswith(f"{api.url}/v1/jobs/job_")


def test_forwarded_headers_of_strangers_do_not_count(
    redis_url: str, redis_prefix: str, tmp_path: Path
) -> None:
    redis = RedisSettings(url=redis_url, prefix=redis_prefix)
    with live_api(redis, tmp_path, trusted_proxies=["10.0.0.0/8"]) as api:
        assert links(api, FORWARDED | STRANGER).startswith(f"{api.url}/v1/jobs/")

from tests.service.live_api import LiveApi, Worker


def test_models_say_what_they_can_and_whether_a_worker_serves_them(
    api: LiveApi, worker: Worker
) -> None:
    (model,) = api.http.get("/v1/models").json()["data"]
    assert (model["id"], model["default"]) == ("tiny", True)
    assert (model["live"], model["workers"]) == (False, 0)
    assert model["sizes"] == [64, 256]
    assert "dpmpp_2m" in model["samplers"]
    assert [stage["steps"] for stage in model["stages"]] == [12, "fast27"]
    assert model["limits"]["prompt_tokens"] == 6
    assert {"generate", "inpaint", "upscale"} <= set(model["tasks"])
    assert (model["guides"], model["captions"], model["classes"]) == ([], True, 0)
    worker.announce()
    (model,) = api.http.get("/v1/models").json()["data"]
    assert (model["live"], model["workers"]) == (True, 1)


def test_the_listed_defaults_are_those_a_job_gets(api: LiveApi) -> None:
    (model,) = api.http.get("/v1/models").json()["data"]
    accepted = api.http.get(f"/v1/jobs/{api.submit()}").json()["input"]
    assert {name: accepted[name] for name in model["defaults"]} == model["defaults"]


def test_the_process_is_healthy_without_any_worker(api: LiveApi) -> None:
    response = api.http.get("/healthz")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})


def test_the_service_is_ready_once_a_worker_serves_a_model(api: LiveApi, worker: Worker) -> None:
    response = api.http.get("/readyz")
    assert response.status_code == 503
    assert response.headers["content-type"] == "application/problem+json"
    assert "retry-after" in response.headers
    checks = response.json()["checks"]
    assert (checks["redis"]["ok"], checks["worker"]["ok"]) == (True, False)
    worker.announce()
    response = api.http.get("/readyz")
    assert response.status_code == 200
    assert response.json()["checks"]["worker"] == {"ok": True, "detail": "live: tiny"}

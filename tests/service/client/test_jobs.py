import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from model.params import SamplerName
from service.api.schemas import JobCreate, UpsampleCreate, WebhookCreate
from service.client import ApiError, AsyncGlideClient, GlideClient, JobFailed
from service.client.fields import JobFields, UpsampleFields, WebhookFields
from service.errors import InvalidRequest
from service.jobs import JobStatus
from service.views.event import JobEvent, ProgressView
from tests.service.client.conftest import MakeClient
from tests.service.live_api import LiveApi, Worker
from tests.service.some_pictures import mask, picture


def test_a_job_goes_from_submission_to_its_image(worker: Worker, client: Any) -> None:
    job = client.submit("a red apple", seed=4, sampler="ddim", metadata={"shelf": "a"})
    assert (job.status, job.input.sampler) == (JobStatus.QUEUED, SamplerName.DDIM)
    worker.finish(worker.take(), b"image")
    done = client.wait(job)
    assert (done.status, done.seed, done.metadata) == (JobStatus.SUCCEEDED, 4, {"shelf": "a"})
    assert client.image(done) == client.image(job.id, 0) == b"image"
    assert client.images(job.id) == [b"image"]
    assert client.get(job) == client.get(job, wait_s=2) == done
    client.delete(job)
    with pytest.raises(ApiError) as raised:
        client.delete(job)
    assert (raised.value.status, raised.value.code) == (404, "not_found")


def test_a_submission_may_wait_for_its_end(worker: Worker, client: Any) -> None:
    working = threading.Thread(target=lambda: worker.finish(worker.take_next(), b"image"))
    working.start()
    job = client.submit("a red apple", wait_s=5)
    working.join()
    assert job.status is JobStatus.SUCCEEDED


def test_files_are_uploaded_before_the_job(client: Any, api: LiveApi, tmp_path: Path) -> None:
    (tmp_path / "mask.png").write_bytes(mask())
    job = client.submit("", image=picture(), mask=tmp_path / "mask.png")
    assert api.store.get(f"inputs/{job.input.image}") == picture()
    assert api.store.get(f"inputs/{job.input.mask}") == mask()
    upload = client.upload(picture())
    assert client.submit("", image=upload.id).input.image == upload.id == job.input.image
    with pytest.raises(ApiError, match="can't be read"):
        client.upload(b"text")


def test_run_draws_and_shows_its_progress(worker: Worker, client: Any) -> None:
    seen: list[JobEvent] = []

    def work() -> None:
        lease = worker.take_next()
        worker.leases.renew([(lease.job.id, lease.token, 3)])
        worker.finish(lease, b"one", b"two")

    working = threading.Thread(target=work)
    working.start()
    finished = client.run("a red apple", n=2, on_progress=seen.append)
    working.join()
    assert finished.images == (b"one", b"two")
    assert [image.index for image in finished.job.images] == [0, 1]
    assert [event.type for event in seen if event.type != "progress"] == [
        *("queued", "started", "image", "image", "succeeded", "end"),
    ]
    assert next(event.step for event in seen if isinstance(event, ProgressView)) == 3


def test_run_says_why_there_are_no_images(worker: Worker, client: Any) -> None:
    def work() -> None:
        worker.fail(worker.take_next(), "out_of_memory", "There is no room.")

    working = threading.Thread(target=work)
    working.start()
    with pytest.raises(JobFailed, match=r"The job is failed: There is no room\.") as raised:
        client.run("a red apple")
    working.join()
    assert raised.value.code == "out_of_memory"
    assert raised.value.job.status is JobStatus.FAILED


def test_all_jobs_are_listed_over_many_pages(client: Any) -> None:
    jobs = [client.submit("").id for _ in range(5)]
    assert [job.id for job in client.jobs(page_size=2)] == sorted(jobs, reverse=True)
    assert list(client.jobs(status="failed")) == []
    assert len(list(client.jobs(status=JobStatus.QUEUED, model="tiny"))) == 5
    soon = datetime.now(UTC) + timedelta(hours=1)
    assert list(client.jobs(created_after=soon)) == []
    assert len(list(client.jobs(created_before=soon))) == 5


def test_models_and_samplers_are_shown(client: Any) -> None:
    (model,) = client.models()
    assert client.model("tiny") == model
    assert (model.id, model.default) == ("tiny", True)
    assert {sampler.id for sampler in client.samplers()} == set(SamplerName)
    with pytest.raises(ApiError) as raised:
        client.model("no/such")
    assert raised.value.code == "model_not_found"


def test_a_receipt_is_read(client: Any, tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(picture())
    for photo in (picture(), tmp_path / "photo.png"):
        assert client.receipt(photo).found is False


def test_deliveries_are_shown_and_sent_again(client: Any) -> None:
    job = client.submit("", webhook={"url": "https://hooks.example/glide"})
    assert client.deliveries(job) == []
    client.cancel(job)
    (delivery,) = client.deliveries(job.id)
    assert (delivery.event, delivery.state) == ("job.canceled", "pending")
    assert (
        client.redeliver(job, delivery).id == client.redeliver(job, delivery.id).id == delivery.id
    )
    secret = client.webhook_secret()
    rotated = client.rotate_webhook_secret()
    assert rotated.secret != secret.secret
    assert rotated.previous_signs_until is not None


def test_a_refusal_says_all_that_the_server_said(client: Any) -> None:
    with pytest.raises(ApiError, match="/n: between 1 and 8") as raised:
        client.submit("", n=100)
    error = raised.value
    assert (error.status, error.code, error.retry_after) == (422, "invalid_request", None)
    assert [(each.pointer, each.detail) for each in error.errors] == [("/n", "between 1 and 8")]
    assert error.request_id == error.problem["request_id"]
    asks: list[Callable[[str], object]] = [
        client.get,
        client.wait,
        client.cancel,
        client.image,
        client.deliveries,
        lambda job: list(client.events(job)),
    ]
    for ask in asks:
        for job_id in ("job_unknown", "../models", "a/b?c#d"):
            with pytest.raises(ApiError) as raised:
                ask(job_id)
            assert (raised.value.status, raised.value.code) == (404, "not_found")


def test_a_key_is_sent_and_a_wrong_one_refused(api: LiveApi, make_client: MakeClient) -> None:
    own, others = api.new_key("acme"), api.new_key("other")
    job = make_client(api.url, api_key=own).submit("")
    assert make_client(f"{api.url}/", api_key=f" {own}\n").get(job) == job
    for key, status in ((None, 401), ("glide_sk_wrong", 401), (others, 404)):
        with pytest.raises(ApiError) as raised:
            make_client(api.url, api_key=key).get(job)
        assert raised.value.status == status


def test_clients_are_made_from_the_environment(
    api: LiveApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = api.new_key("acme")
    monkeypatch.setenv("GLIDE_URL", api.url)
    monkeypatch.setenv("GLIDE_API_KEY", key)
    with GlideClient.from_env() as client:
        assert list(client.jobs()) == []
    assert isinstance(AsyncGlideClient.from_env(), AsyncGlideClient)


@pytest.mark.parametrize("url", ["", "127.0.0.1:8000", "ftp://host", "http://", "http:///v1"])
def test_what_is_no_address_is_refused_at_once(url: str, make_client: MakeClient) -> None:
    with pytest.raises(InvalidRequest, match="no address such as"):
        make_client(url)
    with pytest.raises(InvalidRequest, match="characters that no key has"):
        make_client("http://host", api_key="two\nlines")


def test_the_fields_are_those_of_the_server() -> None:
    assert {"prompt", *JobFields.__annotations__} == set(JobCreate.model_fields)
    assert set(UpsampleFields.__annotations__) == set(UpsampleCreate.model_fields)
    assert set(WebhookFields.__annotations__) == set(WebhookCreate.model_fields)

import contextlib
import json
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from service.client import ApiError
from service.errors import Unavailable
from service.settings import RedisSettings, Settings
from tests.service.client.conftest import MakeClient
from tests.service.client.flaky_proxy import FlakyProxy
from tests.service.client.script_server import Script
from tests.service.live_api import Worker, serving, tiny_app
from tests.service.some_pictures import picture

UPLOAD = b'{"id": "a", "width": 1, "height": 1, "bytes": 1}'
FULL = json.dumps({"status": 503, "code": "queue_full", "detail": "The queue is full."}).encode()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_a_lost_answer_to_a_submission_makes_no_second_job(proxied: Any, proxy: FlakyProxy) -> None:
    proxy.lose = 3
    job = proxied.submit("a red apple")
    assert proxy.lose == 0
    assert [each.id for each in proxied.jobs()] == [job.id]
    assert proxied.submit("a red apple").id != job.id


def test_a_name_of_ones_own_gets_the_same_job(proxied: Any, proxy: FlakyProxy) -> None:
    proxy.lose = 1
    jobs = {proxied.submit("", seed=1, idempotency_key="order-7").id for _ in range(2)}
    assert len(jobs) == 1
    with pytest.raises(ApiError) as raised:
        proxied.submit("", seed=2, idempotency_key="order-7")
    assert (raised.value.status, raised.value.code) == (422, "idempotency_key_reused")


def test_a_lost_answer_is_asked_for_again(proxied: Any, proxy: FlakyProxy, worker: Worker) -> None:
    job = proxied.submit("", image=picture())
    worker.finish(worker.take(), b"image")
    asks: list[Callable[[], object]] = [
        lambda: proxied.upload(picture()),
        lambda: proxied.get(job, wait_s=1),
        lambda: proxied.image(job),
        lambda: proxied.cancel(job),
        proxied.models,
        lambda: proxied.delete(job),
    ]
    for ask in asks:
        proxy.lose = 2
        ask()
        assert proxy.lose == 0
    assert list(proxied.jobs()) == []


def test_what_must_not_happen_twice_is_asked_once(proxied: Any, proxy: FlakyProxy) -> None:
    before = proxied.webhook_secret()
    proxy.lose = 1
    with pytest.raises(Unavailable):
        proxied.rotate_webhook_secret()
    after = proxied.webhook_secret()
    assert after.secret != before.secret
    assert proxied.webhook_secret() == after


def test_a_server_that_starts_late_is_waited_for(
    redis: RedisSettings, tmp_path: Path, make_client: MakeClient
) -> None:
    port = free_port()
    with contextlib.ExitStack() as stack:

        def start(_: float) -> None:
            stack.enter_context(serving(tiny_app(Settings(redis=redis), tmp_path), port))

        client = make_client(f"http://127.0.0.1:{port}", sleep=start)
        assert client.submit("").status == "queued"


def test_a_server_that_never_comes_is_unavailable(patient: MakeClient, pauses: list[float]) -> None:
    client = patient(f"http://127.0.0.1:{free_port()}")
    asks: list[Callable[[], object]] = [
        lambda: client.submit(""),
        client.rotate_webhook_secret,
        lambda: client.get("job_1"),
        lambda: list(client.events("job_1")),
    ]
    for ask in asks:
        pauses.clear()
        with pytest.raises(Unavailable, match="can't be reached"):
            ask()
        assert len(pauses) == 2
        assert 0 < pauses[0] < pauses[1]


def test_a_busy_server_is_asked_again_when_it_says(
    patient: MakeClient, pauses: list[float]
) -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=50), usegmt=True)
    busy = (503, {"retry-after": "3"}, b"<html>")
    limited = (429, {"retry-after": soon}, b"{}")
    script = Script([busy, limited, (201, {}, UPLOAD)])
    with script.serve() as url:
        assert patient(url).upload(b"bytes").id == "a"
    assert pauses[0] == 3
    assert 40 < pauses[1] <= 50
    assert [asked.body for asked in script.asked] == [b"bytes"] * 3


def test_every_attempt_at_a_submission_has_the_same_name(patient: MakeClient) -> None:
    script = Script([(503, {}, FULL)] * 6)
    with script.serve() as url:
        client = patient(url)
        for _ in range(2):
            with pytest.raises(ApiError, match="The queue is full") as raised:
                client.submit("")
    assert raised.value.code == "queue_full"
    keys = [asked.headers["idempotency-key"] for asked in script.asked]
    assert len(keys) == 6
    assert len(set(keys[:3])) == len(set(keys[3:])) == 1
    assert keys[0] != keys[3]


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (503, {"x-should-retry": "false"}),
        (503, {"retry-after": "61"}),
        (429, {"retry-after": "86400"}),
        (500, {}),
        (409, {}),
        (301, {"location": "/elsewhere"}),
    ],
)
def test_where_asking_again_does_not_help_it_is_not_done(
    status: int, headers: dict[str, str], patient: MakeClient, pauses: list[float]
) -> None:
    script = Script([(status, headers, FULL)])
    with script.serve() as url:
        client = patient(url)
        with pytest.raises(ApiError) as raised:
            client.submit("")
    assert (raised.value.status, pauses, len(script.asked)) == (status, [], 1)


def test_an_answer_that_is_no_problem_is_an_error_all_the_same(patient: MakeClient) -> None:
    with Script([(418, {}, b"[1]")]).serve() as url, pytest.raises(ApiError) as raised:
        patient(url).get("job_1")
    assert (raised.value.status, raised.value.code) == (418, "api_error")
    assert str(raised.value) == "418 I'm a Teapot"

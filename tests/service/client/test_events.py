import json
import threading
from typing import Any

import pytest
from redis import Redis

from service.client import ApiError, UnreadableAnswer
from service.events import Preview, Progress
from service.jobs import JobStatus
from service.settings import RedisSettings
from service.views.event import EndView, PreviewView, SnapshotView
from tests.service.client.conftest import MakeClient
from tests.service.client.flaky_proxy import FlakyProxy
from tests.service.client.script_server import Script
from tests.service.live_api import LiveApi, Worker

STREAM = {"content-type": "text/event-stream"}


def draw(worker: Worker) -> None:
    lease = worker.take_next()
    job_id, total = lease.job.id, lease.job.total_steps
    worker.leases.event(job_id, lease.token, Progress(step=3, total_steps=total))
    worker.leases.event(job_id, lease.token, Preview(index=0, step=3, png_base64="cG5n"))
    worker.finish(lease, b"image")


def test_events_come_to_the_end(client: Any) -> None:
    job = client.submit("")
    assert client.cancel(job).status is JobStatus.CANCELED
    events = list(client.events(job))
    assert [event.type for event in events] == ["queued", "canceled", "end"]
    assert events[-1].status is JobStatus.CANCELED
    assert list(client.events(job.id, after=events[0].id)) == events[1:]
    assert list(client.events(job, after=events[-1].id)) == []


def test_events_say_all_that_the_server_says(api: LiveApi, worker: Worker, client: Any) -> None:
    job = client.submit("")
    draw(worker)
    text = api.http.get(f"/v1/jobs/{job.id}/events").text
    sent = [
        json.loads(line.removeprefix("data: "))
        for line in text.splitlines()
        if line.startswith("data: ")
    ]
    events = list(client.events(job))
    assert [event.model_dump(mode="json", exclude={"id"}) for event in events] == sent
    assert {event.type for event in events} >= {"progress", "preview", "image", "succeeded"}
    previews = [event.png for event in events if isinstance(event, PreviewView)]
    assert previews == [b"png"] * len(previews)
    quiet = list(client.events(job, previews=False))
    assert quiet == [event for event in events if not isinstance(event, PreviewView)]


def test_a_stream_that_breaks_again_and_again_loses_nothing(
    worker: Worker, client: Any, proxied: Any, proxy: FlakyProxy
) -> None:
    job = client.submit("")
    draw(worker)
    whole = [(event.id, event.type) for event in client.events(job)]
    proxy.cut_after = [700, 350, 900, 1000, 450, 1200]
    assert [(event.id, event.type) for event in proxied.events(job)] == whole
    assert proxy.connections > 3


def test_a_live_stream_resumes_where_it_broke(
    worker: Worker, proxied: Any, proxy: FlakyProxy
) -> None:
    proxy.cut_after = [100_000, 700, 700]
    job = proxied.submit("")
    working = threading.Thread(target=draw, args=(worker,))
    working.start()
    events = list(proxied.events(job))
    working.join()
    ids = [event.id for event in events]
    assert len(ids) == len(set(ids))
    assert [event.type for event in events if event.type not in ("progress", "preview")] == [
        *("queued", "started", "image", "succeeded", "end"),
    ]


def test_a_broken_stream_names_the_last_event(patient: MakeClient, pauses: list[float]) -> None:
    first = b'retry: 2000\n\nevent: queued\ndata: {"type": "queued", "job_id": "job_1", '
    first += b'"reason": null}\nid: 1\n\nevent: progr'
    second = b': ping\n\nevent: end\ndata: {"type": "end", "job_id": "job_1",\n'
    second += b'data: "status": "failed"}\nid: end\n\n'
    unfinished = {**STREAM, "content-length": str(len(first) + 1)}
    script = Script([(200, unfinished, first), (503, {}, b""), (200, STREAM, second)])
    with script.serve() as url:
        events = list(patient(url).events("job_1"))
    assert [(event.type, event.id) for event in events] == [("queued", "1"), ("end", "end")]
    assert [asked.headers["last-event-id"] for asked in script.asked] == [None, "1", "1"]
    assert len(pauses) == 2


def test_a_stream_without_events_is_given_up(patient: MakeClient, pauses: list[float]) -> None:
    script = Script([(200, STREAM, b": ping\n\n")] * 3)
    with script.serve() as url:
        client = patient(url)
        with pytest.raises(Exception, match="the stream broke off"):
            list(client.events("job_1"))
    assert len(pauses) == 2


def test_what_newer_servers_say_is_passed_over(patient: MakeClient) -> None:
    body = b'data: {"type": "paused", "job_id": "job_1"}\nid: 1\n\n'
    broken = b'data: {"type": "queued", "job_id": "job_1", "reason": null, "mood": 1}\nid: 2\n\n'
    end = b'data: {"type": "end", "job_id": "job_1", "status": "failed"}\nid: end\n\n'
    script = Script([(200, STREAM, body), (200, STREAM, broken + end)])
    with script.serve() as url:
        events = list(patient(url).events("job_1"))
    assert [event.type for event in events] == ["queued", "end"]
    assert isinstance(events[-1], EndView)
    assert [asked.headers["last-event-id"] for asked in script.asked] == [None, "1"]


@pytest.mark.parametrize("data", [b"[]", b"{", b'{"type": "end"}', b'"text"'])
def test_what_is_no_event_is_an_error(data: bytes, patient: MakeClient) -> None:
    with (
        Script([(200, STREAM, b"data: " + data + b"\n\n")]).serve() as url,
        pytest.raises(UnreadableAnswer),
    ):
        list(patient(url).events("job_1"))


def test_a_job_that_is_deleted_meanwhile_ends_its_stream(patient: MakeClient) -> None:
    gone = b'{"code": "not_found", "detail": "There is no such job."}'
    script = Script([(200, STREAM, b": ping\n\n"), (404, {}, gone)])
    with script.serve() as url:
        client = patient(url)
        with pytest.raises(ApiError, match="no such job"):
            list(client.events("job_1"))


def test_a_snapshot_stands_for_events_that_are_gone(
    redis: RedisSettings, worker: Worker, client: Any
) -> None:
    job = client.submit("")
    draw(worker)
    assert redis.url is not None
    with Redis.from_url(redis.url) as server:
        server.delete(f"{redis.prefix}updates:{job.id}")
    events = list(client.events(job))
    assert [event.type for event in events] == [
        *("queued", "started", "snapshot", "image", "succeeded", "end"),
    ]
    snapshot = events[2]
    assert isinstance(snapshot, SnapshotView)
    assert (snapshot.id, snapshot.job) == (None, client.get(job))

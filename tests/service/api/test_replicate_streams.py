"""Streams of predictions, as they are on the wire."""

import json

import httpx

from service.events import Progress
from tests.service.api.replicate_talk import PROMPT, created, stream
from tests.service.live_api import LiveApi, Worker


def test_a_stream_tells_outputs_and_logs_and_needs_no_key(api: LiveApi, worker: Worker) -> None:
    seen = created(api, {**PROMPT, "num_outputs": 2})
    with stream(seen["urls"]["stream"]) as (response, events):
        assert response.headers["content-type"].startswith("text/event-stream")
        lease = worker.take()
        worker.leases.event(seen["id"], lease.token, Progress(step=39, total_steps=78))
        logs = next(events)
        assert (logs["event"], logs["data"].partition("%")[0].strip()) == ("logs", "50")
        worker.finish(lease, b"first", b"second")
        rest = list(events)
    outputs = [each["data"] for each in rest if each["event"] == "output"]
    assert [httpx.get(url).content for url in outputs] == [b"first", b"second"]
    assert (rest[-1]["event"], rest[-1]["data"]) == ("done", "{}")
    assert all(each["id"] for each in rest)


def test_a_stream_resumes_after_the_last_event_seen(api: LiveApi, worker: Worker) -> None:
    seen = created(api, {**PROMPT, "num_outputs": 2})
    worker.finish(worker.take(), b"first", b"second")
    url = seen["urls"]["stream"]
    with stream(url) as (_, events):
        whole = list(events)
    assert [each["event"] for each in whole[-1:]] == ["done"]
    for index, each in enumerate(whole[:-1]):
        with stream(url, **{"Last-Event-ID": each["id"]}) as (_, events):
            assert list(events) == whole[index + 1 :]
    assert httpx.get(url, headers={"Last-Event-ID": "done"}).status_code == 204
    assert httpx.get(url, headers={"Last-Event-ID": "x"}).status_code == 422


def test_a_stream_ends_with_why(api: LiveApi, worker: Worker) -> None:
    failed, canceled = created(api), created(api)
    worker.fail(worker.take(), "bad", "the network is broken")
    api.http.post(canceled["urls"]["cancel"])
    with stream(failed["urls"]["stream"]) as (_, events):
        error, done = events
    assert (error["event"], error["data"]) == ("error", "the network is broken")
    assert (done["event"], json.loads(done["data"])) == ("done", {"reason": "error"})
    with stream(canceled["urls"]["stream"]) as (_, events):
        (done,) = events
    assert json.loads(done["data"]) == {"reason": "canceled"}


def test_a_stream_is_given_only_for_its_own_signature(api: LiveApi) -> None:
    url, other = (created(api)["urls"]["stream"] for _ in range(2))
    query = url.partition("?")[2]
    assert httpx.get(url.partition("?")[0]).status_code == 403
    assert httpx.get(f"{other.partition('?')[0]}?{query}").status_code == 403
    assert httpx.get(url[:-1] + ("0" if url[-1] != "0" else "1")).status_code == 403

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from service.client import ApiError, GlideClient
from service.errors import Unavailable
from service.settings import RedisSettings, Settings
from tests.service.live_api import LiveApi, Worker, live_api, serving, tiny_app
from tests.service.some_pictures import picture

Answer = tuple[int, dict[str, str], bytes]
EVENTS = {"content-type": "text/event-stream"}


@pytest.fixture
def redis(redis_url: str, redis_prefix: str) -> RedisSettings:
    return RedisSettings(url=redis_url, prefix=redis_prefix)


@pytest.fixture
def api(redis: RedisSettings, tmp_path: Path) -> Iterator[LiveApi]:
    with live_api(redis, tmp_path, max_wait_s=5) as api:
        yield api


@pytest.fixture
def client(api: LiveApi) -> Iterator[GlideClient]:
    with GlideClient(api.url) as client:
        yield client


def test_a_picture_is_uploaded_and_named_by_a_job(client: GlideClient, api: LiveApi) -> None:
    upload = client.upload(picture())
    job = client.submit({"prompt": "", "image": upload["id"]})
    assert job["input"]["image"] == upload["id"]
    assert api.store.get(f"inputs/{upload['id']}") == picture()
    with pytest.raises(ApiError, match="can't be read"):
        client.upload(b"text")


class Script:
    """A server that gives prepared answers in turn and remembers what it was asked."""

    def __init__(self, answers: list[Answer]) -> None:
        self.answers = answers
        self.asked: list[tuple[str, str, str | None]] = []

    @contextlib.contextmanager
    def serve(self) -> Iterator[str]:
        script = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                event_id = self.headers.get("last-event-id")
                script.asked.append((self.command, self.path, event_id))
                self.rfile.read(int(self.headers.get("content-length", 0)))
                status, headers, body = script.answers[len(script.asked) - 1]
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET  # noqa: N815

            def log_message(self, format: str, *args: object) -> None:
                pass

        with HTTPServer(("127.0.0.1", 0), Handler) as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.01,))
            thread.start()
            try:
                yield f"http://127.0.0.1:{server.server_port}"
            finally:
                server.shutdown()
                thread.join()


def patient(url: str, attempts: int = 3) -> tuple[GlideClient, list[float]]:
    pauses: list[float] = []
    return GlideClient(url, attempts=attempts, sleep=pauses.append), pauses


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_a_job_goes_from_submission_to_its_image(api: LiveApi, client: GlideClient) -> None:
    job = client.submit({"prompt": "a red apple", "seed": 4})
    worker = Worker(api)
    worker.finish(worker.take(), b"image")
    done = client.wait(job["id"])
    assert (done["status"], done["seed"]) == ("succeeded", 4)
    assert client.image(job["id"], 0) == b"image"
    assert client.get(job["id"]) == done
    assert [each["id"] for each in client.models()] == ["tiny"]


def test_events_come_to_the_end(api: LiveApi, client: GlideClient) -> None:
    job = client.submit({"prompt": ""})
    assert client.cancel(job["id"])["status"] == "canceled"
    events = list(client.events(job["id"]))
    assert [event.name for event in events] == ["queued", "canceled", "end"]
    assert events[-1].data["status"] == "canceled"
    assert list(client.events(job["id"], after=events[0].id)) == events[1:]
    assert list(client.events(job["id"], after=events[-1].id)) == []


def test_all_jobs_are_listed_over_many_pages(client: GlideClient) -> None:
    jobs = [client.submit({"prompt": ""})["id"] for _ in range(5)]
    assert [job["id"] for job in client.jobs(limit=2)] == sorted(jobs, reverse=True)
    assert list(client.jobs(status="failed")) == []


def test_a_refusal_carries_the_problem(client: GlideClient) -> None:
    with pytest.raises(ApiError, match="/n: between 1 and 8") as raised:
        client.submit({"prompt": "", "n": 100})
    assert raised.value.status == 422
    assert raised.value.problem["errors"][0]["pointer"] == "/n"
    for ask in (client.get, client.wait, client.cancel, lambda job: list(client.events(job))):
        with pytest.raises(ApiError) as raised:
            ask("job_unknown")
        assert raised.value.problem["code"] == "not_found"


def test_a_server_that_starts_late_is_waited_for(redis: RedisSettings, tmp_path: Path) -> None:
    port = free_port()
    with contextlib.ExitStack() as stack:

        def start(_: float) -> None:
            stack.enter_context(serving(tiny_app(Settings(redis=redis), tmp_path), port))

        client = stack.enter_context(GlideClient(f"http://127.0.0.1:{port}", sleep=start))
        assert client.submit({"prompt": ""})["status"] == "queued"


def test_a_server_that_never_comes_is_unavailable() -> None:
    client, pauses = patient(f"http://127.0.0.1:{free_port()}")
    asks: list[Callable[[], object]] = [
        lambda: client.submit({"prompt": ""}),
        lambda: client.get("job_1"),
        lambda: list(client.events("job_1")),
    ]
    with client:
        for ask in asks:
            pauses.clear()
            with pytest.raises(Unavailable, match="can't be reached"):
                ask()
            assert len(pauses) == 2


def test_reading_is_repeated_as_the_server_asks() -> None:
    busy = (503, {"retry-after": "3"}, b"<html>")
    script = Script([busy, (502, {}, b""), (200, {}, b'{"status": "queued"}')])
    with script.serve() as url:
        client, pauses = patient(url)
        with client:
            assert client.cancel("job_1") == {"status": "queued"}
    assert pauses[0] == 3
    assert len(script.asked) == 3


def test_a_submission_the_server_may_have_heard_is_not_repeated() -> None:
    problem = {"status": 503, "code": "queue_full", "detail": "The queue is full."}
    script = Script([(503, {}, json.dumps(problem).encode())])
    with script.serve() as url:
        client, pauses = patient(url)
        with client, pytest.raises(ApiError, match="The queue is full"):
            client.submit({"prompt": ""})
    assert (pauses, len(script.asked)) == ([], 1)


def test_an_answer_that_is_no_problem_is_an_error_all_the_same() -> None:
    with Script([(418, {}, b"[1]")]).serve() as url:
        client, _ = patient(url)
        with client, pytest.raises(ApiError) as raised:
            client.get("job_1")
    assert raised.value.status == 418


def test_a_broken_event_stream_resumes_after_the_last_event() -> None:
    first = b'retry: 2000\n\nevent: queued\ndata: {"a": 1}\nid: 1-0\n\nevent: progr'
    second = b': ping\n\nevent: end\ndata: {"b":\ndata: 2}\nid: end\n\n'
    unfinished = {**EVENTS, "content-length": str(len(first) + 1)}
    script = Script([(200, unfinished, first), (503, {}, b""), (200, EVENTS, second)])
    with script.serve() as url:
        client, pauses = patient(url)
        with client:
            events = list(client.events("job_1"))
    assert [(event.name, event.data) for event in events] == [
        ("queued", {"a": 1}),
        ("end", {"b": 2}),
    ]
    assert [asked[2] for asked in script.asked] == [None, "1-0", "1-0"]
    assert len(pauses) == 2

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from service.cli.main import main
from service.settings import RedisSettings
from tests.service.live_api import LiveApi, Worker, live_api

Glide = Callable[..., str]


@pytest.fixture
def api(
    redis_url: str, redis_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[LiveApi]:
    """A server that the environment names, with a key."""
    with live_api(RedisSettings(url=redis_url, prefix=redis_prefix), tmp_path) as api:
        key = api.new_key("acme")
        api.http.headers["authorization"] = f"Bearer {key}"
        monkeypatch.setenv("GLIDE_URL", api.url)
        monkeypatch.setenv("GLIDE_API_KEY", key)
        yield api


@pytest.fixture
def glide(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Glide:
    """Runs a command, and gives what it printed; what went wrong is the exception's text."""

    def run(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["glide", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        if ended.value.code not in (0, None):
            raise AssertionError(ended.value.code)
        return capsys.readouterr().out

    return run


def test_jobs_are_listed_as_a_table_and_as_json(api: LiveApi, glide: Glide) -> None:
    jobs = [api.submit(prompt=f"a cat, number {k}\nhere [red]") for k in range(3)]
    lines = glide("jobs", "list").splitlines()
    assert lines[0].split() == [
        *("id", "status", "progress", "model", "images", "created", "prompt"),
    ]
    assert [line.split()[0] for line in lines[1:]] == sorted(jobs, reverse=True)
    assert "a cat, number 2 here [red]" in lines[1]
    assert " queued " in lines[1]
    assert [job["id"] for job in json.loads(glide("jobs", "list", "--json", "--limit", "2"))] == (
        sorted(jobs, reverse=True)[:2]
    )
    assert json.loads(glide("jobs", "list", "--json", "--status", "failed")) == []


def test_a_job_is_shown_watched_canceled_and_deleted(
    api: LiveApi, glide: Glide, tmp_path: Path
) -> None:
    job, other = api.submit(prompt="a cat", seed=11), api.submit()
    worker = Worker(api)
    for lease in worker.leases.lease(("tiny",), 2):
        if lease.job.id == job:
            worker.finish(lease, b"image")
    shown = glide("jobs", "show", job)
    assert f"id          {job}\n" in shown
    assert "status      succeeded, 100%\n" in shown
    assert "seed        11\n" in shown
    assert json.loads(glide("jobs", "show", job, "--json"))["id"] == job
    out = tmp_path / "cat.png"
    assert glide("jobs", "watch", job, "-o", str(out)) == f"{out}\n"
    assert out.read_bytes() == b"image"
    assert "succeeded" in glide("jobs", "watch", job)
    assert glide("jobs", "cancel", job, other).splitlines() == [
        f"{job} is succeeded.",
        f"{other} stops at its next step.",
    ]
    assert glide("jobs", "delete", job) == f"{job} is deleted.\n"
    with pytest.raises(AssertionError, match=f"glide: There is no job '{job}'"):
        glide("jobs", "show", job)
    with pytest.raises(AssertionError, match="cancel it first"):
        glide("jobs", "delete", other)


def test_a_job_that_did_not_succeed_ends_a_watch_with_its_reason(
    api: LiveApi, glide: Glide
) -> None:
    job = api.submit()
    worker = Worker(api)
    worker.fail(worker.take(), "out_of_memory", "There is no room.")
    with pytest.raises(AssertionError, match=r"glide: The job is failed: There is no room\."):
        glide("jobs", "watch", job)


def test_a_missing_key_is_explained(
    api: LiveApi, glide: Glide, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = api.http.headers["authorization"].removeprefix("Bearer ")
    monkeypatch.delenv("GLIDE_API_KEY")
    hint = "Give a key with GLIDE_API_KEY or --api-key"
    for command in (("jobs", "list"), ("jobs", "show", "job_1"), ("submit", "a cat")):
        with pytest.raises(AssertionError, match=hint):
            glide(*command)
        with pytest.raises(AssertionError, match=hint):
            glide(*command, "--api-key", "glide_sk_wrong")
    assert json.loads(glide("jobs", "list", "--json", "--api-key", key)) == []


def test_a_server_that_is_not_there_is_explained(
    glide: Glide, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(AssertionError, match="no address such as"):
        glide("jobs", "list", "--url", "localhost:8000")
    monkeypatch.setenv("GLIDE_TYPO", "1")
    with pytest.raises(AssertionError, match="no setting GLIDE_TYPO"):
        glide("jobs", "list")

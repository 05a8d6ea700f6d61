import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.local import LocalService, with_data_folder
from service.queue.embedded import ADDRESS_FILE
from service.settings import ApiSettings, ModelsSettings, Settings, WorkerSettings
from tests.tiny_pipeline import write_tiny_pipeline

ROOT = Path(__file__).parents[3]


def glide_keys(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GLIDE_")}
    return subprocess.run(
        [sys.executable, "-m", "service.cli.main", "keys", *arguments],
        cwd=ROOT,
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def keys_json(*arguments: str, **environment: str) -> Any:
    done = glide_keys(*arguments, "--json", **environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The URL and the data folder of a `glide serve`."""
    models = tmp_path_factory.mktemp("models")
    write_tiny_pipeline(models / "tiny", base=16, upsampled=64)
    data = tmp_path_factory.mktemp("data")
    settings = with_data_folder(
        Settings(
            api=ApiSettings(port=0),
            worker=WorkerSettings(threads=1, drain_s=5, models=("tiny",)),
            models=ModelsSettings(folders=(models,)),
        ),
        data,
    )
    with LocalService(settings) as service:
        assert service.wait_ready()
        supervisor = threading.Thread(target=service.run)
        supervisor.start()
        try:
            yield service.url, str(data)
        finally:
            service.stop()
            supervisor.join()
    assert not (data / ADDRESS_FILE).exists()


def test_keys_rule_a_running_service_from_the_moment_they_change(serve: tuple[str, str]) -> None:
    url, data = serve
    with httpx.Client(base_url=url) as http:

        def status(key: str | None = None) -> int:
            headers = {} if key is None else {"authorization": f"Bearer {key}"}
            return http.get("/v1/jobs", headers=headers).status_code

        assert status() == 200
        options = ["--tenant", "acme", "--rate", "60/m", "--concurrency", "8", "--quota", "1000/d"]
        made = keys_json("create", *options, "--name", "ci", "--data", data)
        assert (status(), status(made["key"])) == (401, 200)
        facts = {name: made[name] for name in ("tenant", "rate", "concurrency", "quota", "name")}
        assert facts == {
            "tenant": "acme",
            "rate": "60/m",
            "concurrency": 8,
            "quota": "1000/d",
            "name": "ci",
        }
        job = http.post(
            "/v1/jobs",
            json={"prompt": "", "model": "tiny", "width": 16, "steps": 1},
            headers={"x-api-key": made["key"]},
        )
        assert job.headers["ratelimit-policy"] == '"default";q=60;w=60'
        listed = keys_json("list", "--data", data)
        assert [key["id"] for key in listed] == [made["id"]]
        assert "key" not in listed[0]
        rotated = keys_json("rotate", made["id"], "--data", data)
        assert (rotated["id"], rotated["rate"]) == (made["id"], "60/m")
        assert (status(made["key"]), status(rotated["key"])) == (401, 200)
        graced = keys_json("rotate", made["id"], "--grace", "600", "--data", data)
        assert (status(rotated["key"]), status(graced["key"])) == (200, 200)
        assert glide_keys("revoke", made["id"], "--data", data).returncode == 0
        assert (status(rotated["key"]), status(graced["key"]), status()) == (401, 401, 401)
        assert keys_json("list", "--data", data)[0]["revoked_at"]


def test_the_caps_of_a_tenant_are_the_queues(redis_url: str, redis_prefix: str) -> None:
    where = {"GLIDE_REDIS__URL": redis_url, "GLIDE_REDIS__PREFIX": redis_prefix}
    made = keys_json("create", "--tenant", "acme", "--concurrency", "2", "--weight", "3", **where)
    assert (made["concurrency"], made["weight"]) == (2, 3.0)
    again = keys_json("create", "--tenant", "acme", **where)  # leaves them as they are
    assert (again["concurrency"], again["weight"]) == (2, 3.0)
    other = keys_json("create", "--tenant", "rival", **where)
    assert (other["concurrency"], other["weight"]) == (None, 1.0)


def test_where_nothing_runs_the_keys_are_kept_for_later(tmp_path: Path) -> None:
    data = str(tmp_path / "data")
    shown = glide_keys("create", "--tenant", "acme", "--data", data)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.startswith("glide_sk_")
    assert len(shown.stdout.split()) == 1  # for `KEY=$(glide keys create)`
    assert "acme" in shown.stderr
    listed = glide_keys("list", "--data", data).stdout
    assert keys_json("list", "--data", data)[0]["id"] in listed
    assert shown.stdout.strip() not in listed
    assert not (tmp_path / "data" / ADDRESS_FILE).exists()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["create", "--rate", "60"], "60/m"),
        (["create", "--rate", "60/fortnight"], "60/fortnight"),
        (["create", "--quota", "0/d"], "0/d"),
        (["create", "--tenant", "a b"], "a b"),
        (["create", "--weight", "-1"], "weight"),
        (["revoke", "key_none"], "key_none"),
        (["rotate", "key_none"], "key_none"),
    ],
)
def test_a_mistake_is_one_sentence_and_makes_no_key(
    arguments: list[str], word: str, redis_url: str, redis_prefix: str
) -> None:
    where = {"GLIDE_REDIS__URL": redis_url, "GLIDE_REDIS__PREFIX": redis_prefix}
    done = glide_keys(*arguments, **where)
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("glide: ")
    assert word in line
    assert keys_json("list", **where) == []

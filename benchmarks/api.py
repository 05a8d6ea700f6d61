"""What the API's front costs, beside the least that a FastAPI handler over redis-py can do.

    python -m benchmarks.api

Needs `wrk` (Debian: `apt-get install wrk`). Both servers run as one process each, over one embedded
Redis, and are measured in turn, A B A B …, so that a change of the machine's pace meets both:
submits and polls a second at saturation, the 99th percentile at half of that load, CPU time a
submit at an empty and at a full queue, memory under a thousand event streams, time and memory of a
start. Nothing is drawn: jobs wait, or `benchmarks.noop_device` ends them. Writes
`benchmarks/results/api.json`.
"""

import argparse
import asyncio
import contextlib
import dataclasses
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from benchmarks.noop_device import NoopWorker
from benchmarks.record import hardware, write_record
from service.local import bind, environment, with_data_folder
from service.queue.embedded import EmbeddedRedis
from service.settings import Settings

CONNECTIONS = 32
MODEL = "scenes"
BODY = {"prompt": "a red apple to the left of a cat on the grass", "seed": 7}
_TICKS_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Server:
    """A server under test, in a process of its own: `pid`."""

    name: str
    url: str
    pid: int
    submit_path: str
    job_path: str

    @property
    def port(self) -> int:
        """Where it listens on the loopback address."""
        return int(self.url.rpartition(":")[2])

    def cpu_s(self) -> float:
        """CPU time that the process has used."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS_S

    def resident_bytes(self) -> int:
        """Memory that the process has in use."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * _PAGE_BYTES


@contextlib.contextmanager
def api_server(settings: Settings) -> Iterator[Server]:
    """The real API: `glide api`."""
    with bind("127.0.0.1", 0) as listener:
        command = [sys.executable, "-m", "service.cli.main", "api", "--fd", str(listener.fileno())]
        with _serving("api", command, settings, listener, "/v1/jobs") as server:
            yield server


@contextlib.contextmanager
def bare_server(settings: Settings) -> Iterator[Server]:
    """The yardstick: `benchmarks.bare_server`."""
    with bind("127.0.0.1", 0) as listener:
        command = [sys.executable, "-m", "benchmarks.bare_server"]
        command += ["--redis", settings.redis.url or "", "--fd", str(listener.fileno())]
        with _serving("bare", command, settings, listener, "/jobs") as server:
            yield server


@contextlib.contextmanager
def _serving(
    name: str, command: list[str], settings: Settings, listener: socket.socket, path: str
) -> Iterator[Server]:
    process = subprocess.Popen(
        command,
        env=environment(settings),
        pass_fds=(listener.fileno(),),
        stdin=subprocess.DEVNULL,
    )
    try:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        job_id = httpx.post(url + path, json=BODY, timeout=60).raise_for_status().json()["id"]
        yield Server(name, url, process.pid, path, f"{path}/{job_id}")
    finally:
        process.terminate()
        process.wait()


@dataclass(frozen=True, slots=True)
class Rate:
    """One run at saturation."""

    requests_per_second: float
    cpu_ms_per_request: float
    errors: int


def saturate(server: Server, script: str, path: str, seconds: int) -> Rate:
    """Requests a second that `CONNECTIONS` clients get answered who never pause."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        file.write(script)
        file.flush()
        cpu_s = server.cpu_s()
        done = subprocess.run(
            ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s", file.name, server.url + path],
            check=True,
            capture_output=True,
            text=True,
        )
        cpu_s = server.cpu_s() - cpu_s
    requests = int(_found(r"(\d+) requests in", done.stdout))
    rate = float(_found(r"Requests/sec:\s+([\d.]+)", done.stdout))
    errors = re.search(r"Non-2xx or 3xx responses: (\d+)", done.stdout)
    return Rate(rate, 1000 * cpu_s / requests, int(errors[1]) if errors else 0)


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    assert match, text
    return match[1]


SUBMITS = f"""
wrk.method = "POST"
wrk.body = '{json.dumps(BODY)}'
wrk.headers["Content-Type"] = "application/json"
"""
POLLS = 'wrk.method = "GET"\n'


async def latencies_s(server: Server, rate: float, seconds: float) -> list[float]:
    """Response times of polls that arrive at a steady `rate`, from when each was due."""
    started = time.perf_counter() + 0.2
    connections: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
    for _ in range(CONNECTIONS):
        connections.put_nowait(await asyncio.open_connection("127.0.0.1", server.port))
    request = f"GET {server.job_path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()

    async def ask(due: float) -> float:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        reader, writer = await connections.get()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(_found(r"content-length: (\d+)", head.decode().lower()))
        await reader.readexactly(length)
        connections.put_nowait((reader, writer))
        return time.perf_counter() - due

    times = [started + number / rate for number in range(int(rate * seconds))]
    found = await asyncio.gather(*map(ask, times))
    while not connections.empty():
        connections.get_nowait()[1].close()
    return sorted(found)


def percentile(ordered: list[float], share: float) -> float:
    """The value below which `share` of the ordered values lie."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


async def open_streams(server: Server, count: int) -> dict[str, Any]:
    """Memory of the API while `count` event streams are open and have sent their first event."""
    before = server.resident_bytes()
    request = f"GET {server.job_path}/events HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    writers = []
    for _ in range(count):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(request)
        await reader.readuntil(b"event: queued")
        writers.append(writer)
    held = server.resident_bytes()
    for writer in writers:
        writer.close()
    return {
        "streams": count,
        "resident_mb_before": before / 1e6,
        "resident_mb": held / 1e6,
        "kb_per_stream": (held - before) / count / 1e3,
    }


def starts(settings: Settings, count: int) -> list[dict[str, float]]:
    """Seconds from the start of the process to its first answer, and its memory then."""
    found = []
    for _ in range(count):
        with bind("127.0.0.1", 0) as listener:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}/healthz"
            command = [sys.executable, "-m", "service.cli.main", "api"]
            began = time.perf_counter()
            process = subprocess.Popen(
                [*command, "--fd", str(listener.fileno())],
                env=environment(settings),
                pass_fds=(listener.fileno(),),
                stdin=subprocess.DEVNULL,
            )
            httpx.get(url, timeout=60).raise_for_status()
            seconds = time.perf_counter() - began
            server = Server("api", url, process.pid, "", "")
            found.append({"seconds": seconds, "resident_mb": server.resident_bytes() / 1e6})
            process.terminate()
            process.wait()
    return found


def fill_queue(server: Server, count: int) -> None:
    """Submits until `count` jobs wait."""
    script = SUBMITS
    seconds = 5
    while (waiting := _waiting(server)) < count:
        left = count - waiting
        rate = saturate(server, script, server.submit_path, seconds).requests_per_second
        seconds = max(1, min(30, int(0.9 * (left - rate * seconds) / rate)))


def _waiting(server: Server) -> int:
    job = httpx.post(server.url + server.submit_path, json=BODY, timeout=60).json()
    return int(job["queue_position"] or 0)


def compare(
    api: Server, bare: Server, script: str, paths: tuple[str, str], pairs: int, seconds: int
) -> dict[str, Any]:
    """Both servers at saturation, in turn; `ratio` is the median of the pairs' own ratios."""
    runs = []
    for _ in range(pairs):
        mine = saturate(api, script, paths[0], seconds)
        least = saturate(bare, script, paths[1], seconds)
        runs.append({"api": dataclasses.asdict(mine), "bare": dataclasses.asdict(least)})
    rate, cpu = "requests_per_second", "cpu_ms_per_request"
    return {
        "ratio": statistics.median(run["api"][rate] / run["bare"][rate] for run in runs),
        "cpu_ratio": statistics.median(run["bare"][cpu] / run["api"][cpu] for run in runs),
        "api_per_second": statistics.median(run["api"][rate] for run in runs),
        "bare_per_second": statistics.median(run["bare"][rate] for run in runs),
        "runs": runs,
    }


def compare_latency(api: Server, bare: Server, rate: float, pairs: int) -> dict[str, Any]:
    """Polls of both at the same steady rate, in turn."""
    runs = []
    for _ in range(pairs):
        mine = asyncio.run(latencies_s(api, rate, 5.0))
        least = asyncio.run(latencies_s(bare, rate, 5.0))
        runs.append(
            {
                name: {
                    "p50_ms": 1e3 * percentile(times, 0.5),
                    "p99_ms": 1e3 * percentile(times, 0.99),
                }
                for name, times in (("api", mine), ("bare", least))
            }
        )
    ratios = [run["api"]["p99_ms"] / run["bare"]["p99_ms"] for run in runs]
    return {"rate": rate, "p99_ratio": statistics.median(ratios), "runs": runs}


def cpu_at_depth(settings: Settings, depth: int, seconds: int) -> dict[str, float]:
    """CPU time of a submit, API and Redis together, at an empty queue and behind `depth` jobs."""
    found = {}
    with _fresh_redis(settings) as (fresh, redis_pid), api_server(fresh) as api:
        redis_server = Server("redis", "", redis_pid, "", "")
        for name, wanted in (("empty", 0), ("full", depth)):
            fill_queue(api, wanted)
            cpu_s = api.cpu_s() + redis_server.cpu_s()
            rate = saturate(api, SUBMITS, api.submit_path, seconds)
            cpu_s = api.cpu_s() + redis_server.cpu_s() - cpu_s
            found[name] = 1000 * cpu_s / (rate.requests_per_second * seconds)
    return {
        "depth": depth,
        "empty_ms": found["empty"],
        "full_ms": found["full"],
        "ratio": found["full"] / found["empty"],
    }


@contextlib.contextmanager
def _fresh_redis(settings: Settings) -> Iterator[tuple[Settings, int]]:
    with (
        tempfile.TemporaryDirectory(prefix="glide-bench-") as folder,
        EmbeddedRedis(Path(folder) / "redis", maxmemory_mb=4096) as redis,
    ):
        group = settings.redis.model_copy(update={"url": redis.url})
        fresh = with_data_folder(settings.model_copy(update={"redis": group}), Path(folder))
        yield fresh, redis.pid


def main() -> None:
    """Measures everything."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5, help="of each run at saturation")
    parser.add_argument("--depth", type=int, default=100_000, help="jobs of the full queue")
    parser.add_argument("--streams", type=int, default=1000)
    arguments = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("wrk is needed (Debian, Ubuntu: apt-get install wrk)")
    most = 10 * arguments.depth
    queue = Settings().queue.model_copy(update={"max_queued": most, "max_queued_per_tenant": most})
    log = Settings().log.model_copy(update={"level": "WARNING"})
    settings = Settings().model_copy(update={"queue": queue, "log": log})
    record: dict[str, Any] = {"hardware": hardware(), "arguments": vars(arguments)}
    with _fresh_redis(settings) as (fresh, _):
        record["start"] = starts(fresh, 5)
        with api_server(fresh) as api, bare_server(fresh) as bare:
            pairs, seconds = arguments.pairs, arguments.seconds
            record["event_streams"] = asyncio.run(open_streams(api, arguments.streams))
            paths = (api.job_path, bare.job_path)
            record["polls_of_a_queued_job"] = compare(api, bare, POLLS, paths, pairs, seconds)
            NoopWorker(fresh, (MODEL,)).turn()
            record["polls"] = compare(api, bare, POLLS, paths, pairs, seconds)
            half = record["polls"]["api_per_second"] / 2
            record["latency_at_half_load"] = compare_latency(api, bare, half, pairs)
            paths = (api.submit_path, bare.submit_path)
            record["submits"] = compare(api, bare, SUBMITS, paths, pairs, seconds)
    record["cpu_per_submit"] = cpu_at_depth(settings, arguments.depth, arguments.seconds)
    path = write_record("api", record)
    for name in ("polls_of_a_queued_job", "polls", "submits"):
        print(f"{name}: {record[name]['ratio']:.0%} of the bare handler's rate")
    print(json.dumps({name: record[name] for name in ("event_streams", "cpu_per_submit")}))
    print(path)


if __name__ == "__main__":
    main()

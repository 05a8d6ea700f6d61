"""How long a single job waits for its first step, with and without another tenant's flood.

    python -m benchmarks.fairness

A real worker in a process of its own serves the shipped model from an embedded Redis. One tenant
queues ten thousand jobs and fills the worker; then other tenants send one job each, at any moment
of a step. The worker's own log says in which of its steps each of them had its first. Writes
`benchmarks/results/fairness.json`.
"""

import argparse
import asyncio
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from benchmarks.record import RESULTS, commit
from benchmarks.serving import cpu
from model.catalog import PipelineSpec, load_catalog, total_steps, total_work, with_defaults
from service.jobs import Job, JobStatus, new_job_id
from service.local import environment, with_data_folder
from service.queue.embedded import EmbeddedRedis
from service.queue.redis import RedisJobQueue
from service.settings import LogSettings, Settings
from service.wiring import build_queue

PROMPT = "a cat to the left of an apple on the grass"
AT_ONCE = 100
PAUSE_S = 0.02
LONGEST_JOB_S = 120


@dataclass
class WorkerLog:
    """When each step of a worker ended, Unix ms, and the number of each job's first step."""

    ends_ms: list[int] = field(default_factory=list)
    trajectories: list[int] = field(default_factory=list)
    first_steps: dict[str, int] = field(default_factory=dict)

    def follow(self, lines: Iterator[str]) -> None:
        """Reads JSON lines to their end."""
        for text in lines:
            line = json.loads(text)
            if line["event"] == "step":
                moment = datetime.fromisoformat(line["time"])
                self.ends_ms.append(round(moment.timestamp() * 1000))
                self.trajectories.append(line["trajectories"])
            elif line["event"] == "first step":
                self.first_steps[line["job_id"]] = len(self.ends_ms) - 1

    def waited(self, job: Job) -> tuple[int, int]:
        """Steps of others that ended between a job's acceptance and its first step; ms to its end.

        Of these steps the first was under way when the job was accepted.
        """
        first = self.first_steps[job.id]
        steps = sum(job.created_at_ms <= end for end in self.ends_ms[:first])
        return steps, self.ends_ms[first] - job.created_at_ms


@contextmanager
def worker_process(settings: Settings) -> Iterator[WorkerLog]:
    """A worker in a process of its own, and what it logs."""
    process = subprocess.Popen(
        [sys.executable, "-m", "service.cli.main", "worker", "--parent", str(os.getpid())],
        env=environment(settings),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    log = WorkerLog()
    reader = threading.Thread(target=log.follow, args=(process.stderr,))
    reader.start()
    try:
        yield log
    finally:
        process.kill()  # what it holds would take minutes to finish
        process.wait()
        reader.join()
        process.stderr.close()


async def submit(queue: RedisJobQueue, spec: PipelineSpec, tenant: str, **asked: Any) -> Job:
    """Queues a job as the API would."""
    params = with_defaults(spec, {"prompt": PROMPT, **asked})
    job = Job(
        id=new_job_id(),
        status=JobStatus.QUEUED,
        params=params,
        tenant=tenant,
        total_steps=total_steps(spec, params),
        work=total_work(spec, params),
    )
    return await queue.submit(job)


async def flood(queue: RedisJobQueue, spec: PipelineSpec, jobs: int) -> None:
    """One tenant's jobs, of every size in turn."""
    for start in range(0, jobs, AT_ONCE):
        sides = [spec.sizes[number % len(spec.sizes)] for number in range(start, start + AT_ONCE)]
        await asyncio.gather(*(submit(queue, spec, "flood", width=side) for side in sides))


async def singles(
    queue: RedisJobQueue, spec: PipelineSpec, log: WorkerLog, count: int
) -> dict[str, Any]:
    """Sends single jobs one after another and says how they fared."""
    jobs, chance = [], random.Random(0)
    for number in range(count):
        await asyncio.sleep(chance.uniform(0, 0.5))  # at any moment of a step
        job = await submit(queue, spec, f"single {number}", width=spec.sizes[0], steps=2)
        ended = await queue.wait(job.id, LONGEST_JOB_S)
        assert ended.status is JobStatus.SUCCEEDED
        jobs.append(job)
    waits = [log.waited(job) for job in jobs]
    return {
        "steps_of_others_before_the_first": [steps for steps, _ in waits],
        "most_steps_of_others_besides_the_one_under_way": max(
            max(0, steps - 1) for steps, _ in waits
        ),
        "ms_to_the_end_of_the_first": [ms for _, ms in waits],
        "median_ms_to_the_end_of_the_first": statistics.median(ms for _, ms in waits),
    }


async def reached(queue: RedisJobQueue, *, trajectories: int) -> None:
    """Returns once a worker is there that holds so many."""
    while True:
        if any(worker.trajectories >= trajectories for worker in await queue.workers()):
            return
        await asyncio.sleep(PAUSE_S)


def settings_of(options: argparse.Namespace, folder: Path, redis_url: str) -> Settings:
    """As of `glide serve`, but for a queue that takes the flood and a log that says every step."""
    settings = with_data_folder(Settings(log=LogSettings(level="DEBUG", format="json")), folder)
    bounds = {"max_queued": 2 * options.jobs, "max_queued_per_tenant": options.jobs}
    worker = {"max_batch": options.max_batch, "models": (options.model,)}
    return settings.model_copy(
        update={
            "redis": settings.redis.model_copy(update={"url": redis_url}),
            "queue": settings.queue.model_copy(update=bounds),
            "worker": settings.worker.model_copy(update=worker),
        }
    )


async def measure(settings: Settings, spec: PipelineSpec, jobs: int, count: int) -> dict[str, Any]:
    """Singles without a flood, then the flood and singles again."""
    queue = build_queue(settings)
    with worker_process(settings) as log:
        await reached(queue, trajectories=0)
        await singles(queue, spec, log, 1)  # loads the model
        alone = await singles(queue, spec, log, count)
        await flood(queue, spec, jobs)
        await reached(queue, trajectories=2 * settings.worker.max_batch)
        begun = len(log.ends_ms)
        flooded = await singles(queue, spec, log, count)
        steps_ms = [end - start for start, end in pairwise(log.ends_ms[begun:])]
        (presence,) = await queue.workers()
        waiting = (await queue.backlog(spec.name)).waiting_work
    await queue.aclose()
    return {
        "alone": alone,
        "flooded": flooded,
        "median_step_ms_while_flooded": statistics.median(steps_ms),
        "median_trajectories_a_step_while_flooded": statistics.median(log.trajectories[begun:]),
        "work_waiting_at_the_end": waiting,
        "announced_work_rate": presence.work_rate,
        "device": presence.device,
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="scenes")
    parser.add_argument("--jobs", type=int, default=10_000, help="of the tenant that floods")
    parser.add_argument("--singles", type=int, default=12)
    parser.add_argument("--max-batch", type=int, default=8)
    parser.add_argument("-o", "--output", type=Path, default=RESULTS / "fairness.json")
    options = parser.parse_args()
    spec, load = load_catalog()[options.model], os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder, EmbeddedRedis(Path(folder)) as redis:
        settings = settings_of(options, Path(folder), redis.url)
        found = asyncio.run(measure(settings, spec, options.jobs, options.singles))
    record = {
        "command": f"python -m benchmarks.fairness --jobs {options.jobs} "
        f"--singles {options.singles} --max-batch {options.max_batch}",
        "commit": commit(),
        "hardware": cpu(),
        "load_average_before": load,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "model": options.model,
        "jobs_of_the_flood": options.jobs,
        **found,
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()

"""The running API against its own description, by the checks of schemathesis."""

import secrets
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.settings import RedisSettings
from tests.service.live_api import LiveApi, Worker, live_api
from tests.service.some_pictures import picture

ST = Path(sys.executable).with_name("st")
CONFIG = Path(__file__).with_name("schemathesis.toml")
EXAMPLES = 40


def serve_jobs(api: LiveApi, stopping: threading.Event) -> None:
    """Plays a worker that finishes whatever comes."""
    worker, image = Worker(api), picture(64, 64)
    while not stopping.is_set():
        worker.announce(work_rate=1e6)
        for lease in worker.leases.lease(("tiny",), 64):
            worker.finish(lease, *[image] * lease.job.params.n)
        worker.leases.wait(("tiny",), 0.5)


@pytest.fixture
def served_api(redis_url: str, tmp_path: Path) -> Iterator[LiveApi]:
    redis = RedisSettings(url=redis_url, prefix=f"test-{secrets.token_hex(6)}:{{q}}:")
    stopping = threading.Event()
    with live_api(redis, tmp_path, max_wait_s=0.2) as api:
        serving = threading.Thread(target=serve_jobs, args=(api, stopping))
        serving.start()
        try:
            yield api
        finally:
            stopping.set()
            serving.join()


def test_every_route_does_what_the_description_says(served_api: LiveApi, tmp_path: Path) -> None:
    command = [
        str(ST),
        f"--config-file={CONFIG}",
        "run",
        f"{served_api.url}/openapi.json",
        f"--header=Authorization: Bearer {served_api.new_key()}",
        "--checks=all",
        f"--max-examples={EXAMPLES}",
        "--continue-on-failure",
        "--no-color",
        "--seed=1",
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from service.client import GlideClient
from service.local import LocalService, with_data_folder
from service.settings import ApiSettings, ModelsSettings, QueueSettings, Settings, WorkerSettings
from service.views.event import ProgressView
from service.views.job import JobView
from tests.tiny_pipeline import write_tiny_pipeline

ROOT = Path(__file__).parents[2]
Body = dict[str, Any]
SMALL: Body = {"prompt": "a red apple", "model": "tiny", "width": 16, "seed": 1, "steps": 4}
MIXED: list[Body] = [
    SMALL | {"sampler": "ddpm", "steps": 9, "guidance_scale": 5.0},
    SMALL | {"sampler": "ddim", "steps": "ddim5", "eta": 0.7, "seed": 2},
    SMALL | {"prompt": "", "steps": 1, "seed": 3},
    SMALL | {"prompt": "a big dog on the grass", "width": 64, "steps": 6, "seed": 4},
    SMALL | {"negative_prompt": "a cat", "guidance_scale": 1.5, "seed": 5, "n": 2},
    SMALL | {"guidance_scale": 1.0, "thresholding": "dynamic", "seed": 6},
    SMALL | {"guidance_interval": [0.3, 0.7], "steps": "3,2", "seed": 7, "output_format": "webp"},
    SMALL | {"width": 64, "upsample": {"sampler": "ddpm", "steps": 5}, "seed": 8},
]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_tiny_pipeline(folder / "tiny", base=16, upsampled=64)
    return folder


@pytest.fixture
def settings(models: Path, tmp_path: Path) -> Settings:
    return with_data_folder(
        Settings(
            api=ApiSettings(port=0),
            queue=QueueSettings(lease_s=3, heartbeat_s=0.3),
            worker=WorkerSettings(max_batch=16, threads=1, drain_s=5, models=("tiny",)),
            models=ModelsSettings(folders=(models,)),
        ),
        tmp_path / "data",
    )


@contextmanager
def serving(settings: Settings) -> Iterator[LocalService]:
    """Everything of one machine, supervised from a thread."""
    with LocalService(settings) as service:
        assert service.wait_ready()
        supervisor = threading.Thread(target=service.run)
        supervisor.start()
        try:
            yield service
        finally:
            service.stop()
            supervisor.join()


def _draw(client: GlideClient, body: Body) -> JobView:
    return client.wait(client.submit(**body))


def test_eight_different_jobs_at_once_end_in_pictures(settings: Settings) -> None:
    with serving(settings) as service, GlideClient(service.url) as client:
        with ThreadPoolExecutor(len(MIXED)) as pool:
            jobs = list(pool.map(lambda body: _draw(client, body), MIXED))
        assert [job.status for job in jobs] == ["succeeded"] * len(MIXED)
        for job, body in zip(jobs, MIXED, strict=True):
            assert len(job.images) == body.get("n", 1)
            for image in job.images:
                data = client.image(job, image.index)
                with Image.open(io.BytesIO(data)) as picture:
                    assert picture.size == (body["width"], body["width"])
                    assert picture.format == body.get("output_format", "png").upper()
        again = _draw(client, MIXED[3])
        assert again.images[0].sha256 == jobs[3].images[0].sha256 or _close(client, again, jobs[3])


def _close(client: GlideClient, one: JobView, other: JobView) -> bool:
    """Alone and together differ by what the kernels round: at most 1 of 255."""
    pixels = [list(Image.open(io.BytesIO(client.image(job, 0))).tobytes()) for job in (one, other)]
    return all(abs(a - b) <= 1 for a, b in zip(*pixels, strict=True))


def test_a_killed_worker_is_replaced_and_its_job_ends(settings: Settings) -> None:
    with serving(settings) as service, GlideClient(service.url) as client:
        job = client.submit(**SMALL | {"steps": 150, "sampler": "ddpm"})
        steps: list[int] = []
        for event in client.events(job):
            if isinstance(event, ProgressView):
                steps.append(event.step)
                if len(steps) == 1:
                    pid = service.pid("worker")
                    assert pid is not None
                    os.kill(pid, signal.SIGKILL)
        job = client.get(job)
    assert job.status == "succeeded"
    assert steps == sorted(steps)
    assert steps[-1] == job.total_steps


def test_jobs_and_pictures_survive_a_restart(settings: Settings) -> None:
    # No machine draws the endless job's 8000 steps before a stop that gives it half a second.
    worker = settings.worker.model_copy(update={"drain_s": 0.5})
    settings = settings.model_copy(update={"worker": worker})
    with serving(settings) as service, GlideClient(service.url) as client:
        done = _draw(client, SMALL)
        picture = client.image(done)
        endless = client.submit(**SMALL | {"steps": 1000, "n": 8})
        next(event for event in client.events(endless) if event.type == "progress")
    with serving(settings) as service, GlideClient(service.url) as client:
        assert client.image(done) == picture
        assert client.get(endless).status in ("queued", "running")
        assert client.get(endless).step > 0
        client.cancel(endless)
        assert client.wait(endless).status == "canceled"


def _environment(models: Path) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GLIDE_")}
    own = {
        "GLIDE_MODELS__FOLDERS": json.dumps([str(models)]),
        "GLIDE_WORKER__MODELS": '["tiny"]',
        "OMP_NUM_THREADS": "1",
    }
    return inherited | own


def test_glide_serve_says_where_it_is_and_ends_in_order(models: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "service.cli.main", "serve", "--port", "0", "--data", str(tmp_path)],
        cwd=ROOT,
        env=_environment(models),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        words = process.stdout.readline().split()
        assert words[0] == "Ready:"
        with GlideClient(words[1]) as client:
            assert _draw(client, SMALL).status == "succeeded"
        children = _children(process.pid)
        process.send_signal(signal.SIGINT)
        assert process.wait() == 0
        assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's end")
def test_nothing_is_left_behind_when_the_supervisor_is_killed(models: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "service.cli.main", "serve", "--port", "0", "--data", str(tmp_path)],
        cwd=ROOT,
        env=_environment(models),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    children = _children(process.pid)
    assert len(children) >= 2
    process.kill()
    process.wait()
    process.stdout.close()
    while [pid for pid in children if Path(f"/proc/{pid}").exists()]:
        time.sleep(0.05)


def _children(pid: int) -> list[int]:
    """Processes that the supervisor started, where the system tells."""
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in path.read_text().split()] if path.exists() else []


def test_the_demo_draws_through_http_and_cleans_up(models: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *[sys.executable, "-m", "service.cli.main", "demo"],
            *["a red apple, below a cat!", "-o", str(tmp_path / "out"), "--steps", "3"],
            *["--size", "16", "--model", "tiny"],
        ],
        cwd=ROOT,
        env=_environment(models) | {"TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    path = Path(done.stdout.strip())
    assert path == tmp_path / "out" / "a-red-apple-below-a-cat.png"
    with Image.open(path) as picture:
        assert picture.size == (16, 16)
    left = {child.name for child in tmp_path.iterdir()}
    assert {name for name in left if not name.startswith("torchinductor")} == {"out"}

"""The real worker, in a thread or in a process of its own."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from service.engine.runner import ModelRunner
from service.local import environment
from service.settings import Settings
from service.worker.main import build_worker

ROOT = Path(__file__).parents[3]


@contextmanager
def worker_thread(settings: Settings, runner: ModelRunner, name: str = "thread") -> Iterator[None]:
    """The real worker in a thread of this process, drained at the end."""
    worker = build_worker(settings, name, runner)
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        yield
    finally:
        worker.stop()
        thread.join()


@contextmanager
def worker_process(settings: Settings, name: str) -> Iterator["subprocess.Popen[str]"]:
    """The real worker in a process of its own, killed at the end if it still lives."""
    process = subprocess.Popen(
        [sys.executable, "-m", "service.cli.main", "worker", "--id", name],
        cwd=ROOT,
        env={**environment(settings), "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,  # and not a file, since one test limits the size of files
        text=True,
    )
    assert process.stderr is not None
    drain = threading.Thread(target=process.stderr.read)
    drain.start()
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        drain.join()
        process.stderr.close()

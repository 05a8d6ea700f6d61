"""The worker process: builds the parts, answers to signals, exits. Knows no job.

SIGTERM and SIGINT drain the worker and end the process with status 0.
"""

import contextlib
import logging
import os
import signal
import socket
import time
from collections.abc import Iterable
from types import FrameType

import torch

from service.engine.engine import Engine
from service.engine.maker import maker_of
from service.engine.runner import ModelRunner
from service.engine.shelf import Bounds
from service.errors import Unavailable
from service.policy import load_image_check
from service.queue.presence import WorkerPresence
from service.settings import Settings
from service.wiring import build_catalog, build_leases, build_store, require_redis, served_specs
from service.worker.courier import Courier
from service.worker.finishing import Finisher
from service.worker.leases import Heartbeat, HeldLeases
from service.worker.leasing import Leasing, Rest
from service.worker.work_rate import WorkRate
from service.worker.worker import Worker

logger = logging.getLogger(__name__)


def new_worker_id() -> str:
    """A name for this process that no other has."""
    return f"{socket.gethostname()}-{os.getpid()}-{time.time_ns() // 1_000_000:x}"


def run_worker(settings: Settings, worker_id: str) -> None:
    """Serves jobs until a signal; returns once drained.

    Raises:
        ServiceError: Redis isn't configured or can't be reached, or the check of images can't be
            imported.
        ModelError: the weights can't be loaded, or the device isn't there.
    """
    require_redis(settings)
    if settings.worker.threads:
        torch.set_num_threads(settings.worker.threads)
    options = settings.worker
    bounds = Bounds(options.max_loaded or None, options.max_loaded_bytes or None)
    runner = ModelRunner.load(
        served_specs(settings), options.device, options.dtype, bounds, settings.models.clip
    )
    worker = build_worker(settings, worker_id, runner)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stopper(worker))
    logger.info("worker ready", extra={"worker": worker_id, "models": list(runner.models)})
    worker.run()
    leases = build_leases(settings, worker_id)
    with contextlib.suppress(Unavailable):
        leases.abandon(worker_id)  # nothing is held any more: only the presence goes
    leases.close()


def build_worker(settings: Settings, worker_id: str, runner: ModelRunner) -> Worker:
    """A worker around loaded pipelines, not yet running.

    It holds twice what shares a step, and once more of newcomers, who so never wait for a place.
    """
    clock = time.monotonic
    held, rest, rate = HeldLeases(), Rest(clock), WorkRate()
    max_batch = settings.worker.max_batch
    engine = Engine(runner, max_batch)

    def presence() -> WorkerPresence:
        return WorkerPresence(
            id=worker_id,
            models=runner.models,
            device=runner.device,
            max_batch=max_batch,
            trajectories=held.trajectories,
            work_rate=rate.per_second,
        )

    heartbeat = Heartbeat(build_leases(settings, worker_id), held, presence, settings.queue, clock)
    courier = Courier(
        build_leases(settings, worker_id),
        build_store(settings),
        held,
        rest=rest,
        sizes=_sizes(settings, runner.models),
        finisher=_finisher(settings, runner),
        clock=clock,
    )
    leasing = Leasing(
        build_leases(settings, worker_id),
        held,
        accept=courier.accept,
        rest=rest,
        models=runner.models,
        capacity=2 * max_batch,
        reserve=max_batch,
        clock=clock,
    )
    return Worker(
        engine,
        leasing,
        courier,
        heartbeat,
        held,
        rate=rate,
        drain_s=settings.worker.drain_s,
        clock=clock,
    )


def _finisher(settings: Settings, runner: ModelRunner) -> Finisher:
    """Makes files of what this worker draws, as its policy has it."""
    catalog = build_catalog(settings)
    specs = {name: catalog[name] for name in runner.models}
    check = load_image_check(settings.policy.image_check)
    return Finisher(specs, maker_of(runner.device, settings.worker.dtype), check)


def _sizes(settings: Settings, models: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """Sides of the stages of pipelines, px."""
    catalog = build_catalog(settings)
    return {name: catalog[name].sizes for name in models}


def _stopper(worker: Worker) -> "signal._HANDLER":
    def stop(_number: int, _frame: FrameType | None) -> None:
        worker.stop()

    return stop

"""A worker without a model: it leases real jobs, stores a fixed picture for each image, ends them.

For measuring and testing what surrounds the device. Nothing that ships imports it.
"""

import io
import threading
from functools import cache

from PIL import Image

from service.jobs import ImageRecord
from service.queue.leases import Lease, RedisLeases
from service.queue.presence import WorkerPresence
from service.settings import Settings
from service.store.inputs import digest_of
from service.store.protocol import ImageStore
from service.wiring import build_leases, build_store

AT_ONCE = 64


@cache
def picture(side: int) -> bytes:
    """A grey PNG."""
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), (127, 127, 127)).save(buffer, "PNG")
    return buffer.getvalue()


class NoopWorker:
    """Serves the models that it is given until it is stopped.

    Args:
        settings: where queue and store are.
        models: names of pipelines.
    """

    def __init__(self, settings: Settings, models: tuple[str, ...]) -> None:
        self._models = models
        self._leases: RedisLeases = build_leases(settings, "noop")
        self._store: ImageStore = build_store(settings)
        self._stopping = threading.Event()

    def announce(self) -> None:
        """Says that it lives."""
        self._leases.announce(WorkerPresence(id="noop", models=self._models, max_batch=AT_ONCE))

    def turn(self) -> int:
        """Ends every job that waits, up to `AT_ONCE`; returns how many."""
        leases = self._leases.lease(self._models, AT_ONCE)
        for lease in leases:
            self._finish(lease)
        return len(leases)

    def run(self) -> None:
        """Turns until stopped."""
        while not self._stopping.is_set():
            self.announce()
            if not self.turn():
                self._leases.wait(self._models, 0.5)

    def stop(self) -> None:
        """Ends `run` after the turn that is under way."""
        self._stopping.set()

    def _finish(self, lease: Lease) -> None:
        job = lease.job
        data = picture(job.params.width)
        for index in range(job.params.n):
            key = f"{job.id}/{index}.{lease.token}.png"
            self._store.put(key, data)
            record = ImageRecord(
                index=index,
                key=key,
                content_type="image/png",
                image_bytes=len(data),
                sha256=digest_of(data),
                width=job.params.width,
                height=job.params.height,
                seed=job.params.seed + index,
            )
            self._leases.image(job.id, lease.token, record)
        self._leases.finish(job.id, lease.token)

"""The courier: everything that a worker fetches and delivers, in a thread of its own.

It leases jobs while the engine has room and delivers what the engine made: encode, store, tell the
queue. When Redis or the store can't be reached it tries again with growing pauses, and the device
goes on denoising meanwhile. Torch-free; knows no engine.
"""

import base64
import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from service.errors import Unavailable
from service.events import Preview
from service.jobs import JobFailure
from service.queue.leases import Lease, RedisLeases
from service.store.protocol import ImageStore
from service.worker.encoding import encode, image_key, image_record, preview_png, provenance
from service.worker.leases import Drop, HeldLeases

POLL_S = 0.05
IDLE_WAIT_S = 0.5
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0
FIRST_REST_S, LONGEST_REST_S = 1.0, 30.0
STORE_TRIES = 6
"""So often a picture is offered to a store that refuses it, before its job goes back."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class ImageReady:
    """Image `index` is finished, `pixels` (H, W, 3) uint8."""

    token: str
    index: int
    pixels: NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class PreviewReady:
    """Image `index` looks like `pixels` (h, w, 3) uint8 after `step` steps of its job."""

    token: str
    index: int
    step: int
    pixels: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class JobDone:
    """Every image was handed over."""

    token: str


@dataclass(frozen=True, slots=True)
class JobFailed:
    """The job can't be finished; with a delay it may be tried again."""

    token: str
    failure: JobFailure
    retry_delay_s: float | None


@dataclass(frozen=True, slots=True)
class JobReleased:
    """The job goes back to the queue, uncharged; one that was asked to stop ends as canceled."""

    token: str


Parcel = ImageReady | PreviewReady | JobDone | JobFailed | JobReleased


class StoreRefused(Exception):
    """The image store can't take a picture just now."""


class Courier(threading.Thread):
    """Leases and delivers.

    Args:
        leases: a connection that nobody else uses.
        store: where images go.
        held: the leases of this worker.
        models: the pipelines that it serves.
        capacity: most images in the engine or on their way there.
        version: of the service, for the images' provenance.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        leases: RedisLeases,
        store: ImageStore,
        held: HeldLeases,
        *,
        models: tuple[str, ...],
        capacity: int,
        version: str,
        clock: Callable[[], float],
    ) -> None:
        super().__init__(name="courier", daemon=True)
        self.arrivals: SimpleQueue[Lease] = SimpleQueue()
        self._parcels: SimpleQueue[Parcel] = SimpleQueue()
        self._leases = leases
        self._store = store
        self._held = held
        self._models = models
        self._capacity = capacity
        self._version = version
        self._closed = threading.Event()
        self._leaving = threading.Event()
        self._hurried = threading.Event()
        self._clock = clock
        self._rest_s = FIRST_REST_S
        self._resting_until = float("-inf")

    def send(self, parcel: Parcel) -> None:
        """Takes a parcel for delivery; parcels arrive in the order in which they were sent."""
        self._parcels.put(parcel)

    def stop_leasing(self) -> None:
        """From now on no new job is fetched."""
        self._closed.set()

    def finish(self) -> None:
        """Ends the thread once everything sent is delivered and what is unfinished handed back."""
        self._closed.set()
        self._leaving.set()

    def hurry(self) -> None:
        """Gives up whatever can't be delivered at once."""
        self._hurried.set()

    def run(self) -> None:
        """Fetches and delivers until told to finish."""
        while True:
            try:
                parcel = self._parcels.get(timeout=POLL_S)
            except Empty:
                if self._leaving.is_set():
                    break
            else:
                self._deliver(parcel)
            if not self._closed.is_set():
                self._fetch()
        for token in self._held.unfinished():
            self._deliver(JobReleased(token))

    def _fetch(self) -> None:
        room = self._capacity - self._held.trajectories
        if room <= 0 or self._clock() < self._resting_until:
            return
        try:
            leases = self._leases.lease(self._models, room)
            if not leases and not len(self._held):
                self._leases.wait(self._models, IDLE_WAIT_S)
        except Unavailable as error:
            logger.warning("can't lease", extra={"reason": error.detail})
            self._closed.wait(FIRST_PAUSE_S)
            return
        for lease in leases:
            self._held.hold(lease, lease.job.params.n - len(lease.job.images))
            self.arrivals.put(lease)

    def _deliver(self, parcel: Parcel) -> None:
        """Delivers a parcel if its lease is still held; tries until it is heard."""
        refusals = 0
        for pause_s in _pauses():
            lease = self._held.get(parcel.token)
            if lease is None:
                return
            try:
                self._hand_over(parcel, lease)
            except StoreRefused as error:
                refusals += 1
                _complain("store refused", lease, error)
                if refusals == STORE_TRIES:
                    self._give_back(lease)
                    return
            except Unavailable as error:
                _complain("can't deliver", lease, error)
            else:
                return
            if self._hurried.wait(pause_s):
                return

    def _hand_over(self, parcel: Parcel, lease: Lease) -> None:
        job_id, token = lease.job.id, lease.token
        match parcel:
            case ImageReady():
                self._store_image(parcel, lease)
            case PreviewReady():
                png = base64.b64encode(preview_png(parcel.pixels)).decode()
                self._leases.event(job_id, token, Preview(parcel.index, parcel.step, png))
            case JobDone():
                self._end(lease, self._leases.finish(job_id, token))
            case JobFailed(_, failure, retry_delay_s):
                self._end(lease, self._leases.fail(job_id, token, failure, retry_delay_s))
            case JobReleased():
                self._end(lease, self._leases.release(job_id, token))
            case _:
                assert_never(parcel)

    def _store_image(self, parcel: ImageReady, lease: Lease) -> None:
        job = lease.job
        record = provenance(job.id, job.params, parcel.index, self._version)
        data = encode(parcel.pixels, job.output_format, record)
        key = image_key(job.id, parcel.index, lease.token, job.output_format)
        try:
            self._store.put(key, data)
        except Unavailable as error:
            raise StoreRefused(error.detail) from error
        self._rest_s = FIRST_REST_S
        description = image_record(data, key, job.output_format, job.params, parcel.index)
        answer = self._leases.image(job.id, lease.token, description)
        if answer == "ok":
            return
        with contextlib.suppress(Unavailable):  # nobody will ever ask for this file
            self._store.delete(key)
        if answer == "lost":
            self._held.drop(lease.token, Drop.LOST)

    def _end(self, lease: Lease, answer: str) -> None:
        self._held.end(lease.token)
        logger.info("lease ended", extra={"job_id": lease.job.id, "answer": answer})

    def _give_back(self, lease: Lease) -> None:
        """Releases a job whose picture can't be stored, and takes no other for a while.

        Another worker may have the room; this one must not fetch the same job again at once.
        """
        logger.error("job given back: its picture can't be stored", extra={"job_id": lease.job.id})
        self._resting_until = self._clock() + self._rest_s
        self._rest_s = min(2 * self._rest_s, LONGEST_REST_S)
        self._held.drop(lease.token, Drop.RELEASED)
        with contextlib.suppress(Unavailable):  # then the lease runs out
            self._leases.release(lease.job.id, lease.token)


def _complain(what: str, lease: Lease, error: Exception) -> None:
    logger.warning(what, extra={"job_id": lease.job.id, "reason": str(error)})


def _pauses() -> Iterator[float]:
    pause_s = FIRST_PAUSE_S
    while True:
        yield pause_s
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

"""The courier: what lies between a lease and the engine, and between the engine and the client.

In a thread of its own it fetches and unpacks the pictures that jobs start from, and delivers what
the engine made: encode, store, tell the queue. When Redis or the store can't be reached it tries
again with growing pauses, and the device goes on denoising meanwhile. Torch-free; knows no engine.
"""

import base64
import contextlib
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from model.errors import ConditioningError, ModelError
from model.imaging import Pictures
from model.params import Task
from service.errors import InputLost, JobError, Unavailable
from service.events import Preview
from service.imagefile.encoding import image_key, image_record
from service.jobs import JobFailure
from service.queue.leases import Lease, RedisLeases
from service.store.inputs import fetch_input
from service.store.protocol import ImageStore
from service.worker.finishing import Finisher
from service.worker.leases import Drop, HeldLeases
from service.worker.leasing import Rest

POLL_S = 0.05
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0
UNCHECKED_PAUSE_S = 2.0
STORE_TRIES = 6
"""So often a picture is offered to a store that refuses it, before its job goes back."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class ImageReady:
    """Image `index`, drawn from `seed`, is finished, `pixels` (H, W, 3) uint8."""

    token: str
    index: int
    seed: int
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


@dataclass(frozen=True, slots=True, eq=False)
class Arrival:
    """A job for the engine, and the pictures that it starts from, fitted to its stages."""

    lease: Lease
    pictures: Pictures | None


@dataclass(slots=True)
class _Expected:
    """A lease whose pictures are still to be fetched, and when to try that again."""

    lease: Lease
    due: float
    tries: int = 0
    pause_s: float = FIRST_PAUSE_S


class StoreRefused(Exception):
    """The image store can't take a picture just now."""


class Courier(threading.Thread):
    """Fetches pictures and delivers.

    Args:
        leases: a connection that nobody else uses.
        store: where images go, and where those are that jobs start from.
        held: the leases of this worker.
        rest: begun when the store keeps a job from going on.
        sizes: sides of the stages of each pipeline that it serves, px.
        finisher: makes files of what the engine made.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        leases: RedisLeases,
        store: ImageStore,
        held: HeldLeases,
        *,
        rest: Rest,
        sizes: Mapping[str, Sequence[int]],
        finisher: Finisher,
        clock: Callable[[], float],
    ) -> None:
        super().__init__(name="courier", daemon=True)
        self.arrivals: SimpleQueue[Arrival] = SimpleQueue()
        self._expected: list[_Expected] = []
        self._parcels: SimpleQueue[Parcel | _Expected] = SimpleQueue()
        self._leases = leases
        self._store = store
        self._held = held
        self._rest = rest
        self._sizes = sizes
        self._finisher = finisher
        self._leaving = threading.Event()
        self._hurried = threading.Event()
        self._clock = clock

    def accept(self, lease: Lease) -> None:
        """Takes a job in: it arrives at once, or with the pictures that it starts from."""
        if lease.job.params.image is not None and len(lease.job.images) < lease.job.params.n:
            self._parcels.put(_Expected(lease, due=self._clock()))
        else:
            self.arrivals.put(Arrival(lease, None))

    def send(self, parcel: Parcel) -> None:
        """Takes a parcel for delivery; parcels arrive in the order in which they were sent."""
        self._parcels.put(parcel)

    def finish(self) -> None:
        """Ends the thread once everything sent is delivered and what is unfinished handed back."""
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
                if isinstance(parcel, _Expected):
                    self._expected.append(parcel)
                else:
                    self._deliver(parcel)
            self._fetch_pictures()
        for token in self._held.unfinished():
            self._deliver(JobReleased(token))

    def _fetch_pictures(self) -> None:
        """Fetches the pictures of one job, and of no more, so that deliveries go on in between."""
        now = self._clock()
        expected = next((each for each in self._expected if each.due <= now), None)
        if expected is None:
            return
        self._expected.remove(expected)
        lease = expected.lease
        if not self._held.is_wanted(lease.token):
            return
        try:
            self.arrivals.put(Arrival(lease, self._pictures(lease)))
        except InputLost as error:
            self._fail(lease, error, f"A picture that the job starts from is lost: {error}.")
        except ConditioningError as error:
            self._fail(lease, error, str(error))
        except Unavailable as error:
            _complain("can't fetch a picture", lease, error)
            self._expect_again(expected)

    def _fail(self, lease: Lease, error: InputLost | ConditioningError, detail: str) -> None:
        self._held.left_engine(lease.token)
        failure = JobFailure(code=error.code, detail=detail, retryable=error.retryable)
        self.send(JobFailed(lease.token, failure, None))

    def _pictures(self, lease: Lease) -> Pictures:
        params = lease.job.params
        assert params.image is not None
        image = fetch_input(self._store, params.image)
        mask = None if params.mask is None else fetch_input(self._store, params.mask)
        pictures = Pictures(image, mask)
        pictures.fit_to(self._sizes[params.model], masked=params.task is Task.INPAINT)
        return pictures

    def _expect_again(self, expected: _Expected) -> None:
        """Tries later; after some times the job goes back, for a worker that sees the store."""
        expected.tries += 1
        if expected.tries == STORE_TRIES:
            self._give_back(expected.lease, "the picture it starts from can't be fetched")
            return
        expected.due = self._clock() + expected.pause_s
        expected.pause_s = min(2 * expected.pause_s, LONGEST_PAUSE_S)
        self._expected.append(expected)

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
                    self._give_back(lease, "its picture can't be stored")
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
                self._show(parcel, lease)
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
        try:
            data = self._finisher.image(job, parcel.index, parcel.seed, parcel.pixels)
        except (JobError, ModelError) as error:
            self._refuse(lease, error)
            return
        key = image_key(job.id, parcel.index, lease.token, job.output_format)
        try:
            self._store.put(key, data)
        except Unavailable as error:
            raise StoreRefused(error.detail) from error
        self._rest.forget()
        description = image_record(data, key, job, parcel.index, parcel.seed)
        answer = self._leases.image(job.id, lease.token, description)
        if answer == "ok":
            return
        with contextlib.suppress(Unavailable):  # nobody will ever ask for this file
            self._store.delete(key)
        if answer == "lost":
            self._held.drop(lease.token, Drop.LOST)

    def _show(self, parcel: PreviewReady, lease: Lease) -> None:
        png = self._finisher.preview(lease.job, parcel.index, parcel.pixels)
        if png is not None:
            preview = Preview(parcel.index, parcel.step, base64.b64encode(png).decode())
            self._leases.event(lease.job.id, lease.token, preview)

    def _refuse(self, lease: Lease, error: JobError | ModelError) -> None:
        """Fails a job of which an image may not leave; the engine lets the others go."""
        failure = JobFailure(code=error.code, detail=str(error), retryable=error.retryable)
        pause_s = UNCHECKED_PAUSE_S if error.retryable else None
        answer = self._leases.fail(lease.job.id, lease.token, failure, pause_s)
        fields = {"job_id": lease.job.id, "code": error.code, "answer": answer}
        logger.warning("image refused", extra=fields)
        self._held.drop(lease.token, Drop.REFUSED)

    def _end(self, lease: Lease, answer: str) -> None:
        self._held.end(lease.token)
        logger.info("lease ended", extra={"job_id": lease.job.id, "answer": answer})

    def _give_back(self, lease: Lease, why: str) -> None:
        """Releases a job that the store keeps from going on, and takes no other for a while.

        Another worker may have the room; this one must not fetch the same job again at once.
        """
        logger.error("job given back", extra={"job_id": lease.job.id, "reason": why})
        self._rest.begin()
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

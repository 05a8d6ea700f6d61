"""Leasing: takes jobs the moment they are offered, in a thread of its own.

A worker has room for any jobs, and a reserve beside it for tenants that have nothing in flight on
it: so a tenant that fills the room can't keep another from its first step. With room, the thread
waits for any offer; with the reserve alone, for an offer to a newcomer, which takes no other
worker's wake-up; with neither, for those in flight to end. Knows no engine and no images.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from service.errors import Unavailable
from service.queue.leases import Lease, RedisLeases
from service.worker.leases import HeldLeases

POLL_S = 0.05
IDLE_WAIT_S = 0.5
"""An offer that was not heard is found after this."""
PAUSE_S = 0.1
FIRST_REST_S, LONGEST_REST_S = 1.0, 30.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Room:
    """What could be taken: images of anybody's, and images of tenants that are not busy here."""

    free: int
    reserve: int
    busy_tenants: frozenset[str]


class Rest:
    """Times in which no job is taken, each twice as long as the one before it.

    Args:
        clock: seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._next_s = FIRST_REST_S
        self._until = float("-inf")

    @property
    def lasts(self) -> bool:
        """Whether no job may be taken now."""
        return self._clock() < self._until

    def begin(self) -> None:
        """Takes no job for a while."""
        self._until = self._clock() + self._next_s
        self._next_s = min(2 * self._next_s, LONGEST_REST_S)

    def forget(self) -> None:
        """The next rest is short again."""
        self._next_s = FIRST_REST_S


class Leasing(threading.Thread):
    """Leases until told to stop.

    Args:
        leases: a connection that nobody else uses.
        held: the leases of this worker.
        accept: takes each new lease, at once.
        rest: when no job may be taken.
        models: whose jobs.
        capacity: most images of anybody's in the engine or on their way there.
        reserve: most images beside them, each of a tenant that had none when it came.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        leases: RedisLeases,
        held: HeldLeases,
        *,
        accept: Callable[[Lease], None],
        rest: Rest,
        models: Sequence[str],
        capacity: int,
        reserve: int,
        clock: Callable[[], float],
    ) -> None:
        super().__init__(name="leasing", daemon=True)
        self._leases = leases
        self._held = held
        self._accept = accept
        self._rest = rest
        self._models = models
        self._capacity = capacity
        self._reserve = reserve
        self._clock = clock
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Ends the thread; a call that is under way may still bring jobs."""
        self._stopping.set()

    def run(self) -> None:
        """Leases until stopped."""
        while not self._stopping.is_set():
            room = self._room()
            if self._rest.lasts or not (room.free or room.reserve):
                self._stopping.wait(POLL_S)
                continue
            try:
                if not self._lease(room):
                    self._await_offer(room)
            except Unavailable as error:
                logger.warning("can't lease", extra={"reason": error.detail})
                self._stopping.wait(PAUSE_S)

    def _room(self) -> Room:
        load = self._held.load()
        return Room(
            free=max(0, self._capacity - load.general),
            reserve=max(0, self._reserve - load.reserved),
            busy_tenants=load.tenants,
        )

    def _lease(self, room: Room) -> bool:
        """Takes what there is; False when there was nothing."""
        leases = self._leases.lease(
            self._models, room.free, reserve=room.reserve, busy_tenants=room.busy_tenants
        )
        free = room.free
        for lease in leases:
            images = _images_to_draw(lease)
            self._held.hold(lease, images, reserved=free <= 0)
            free -= images
            self._accept(lease)
            logger.debug("leased", extra={"job_id": lease.job.id})
        return bool(leases)

    def _await_offer(self, room: Room) -> None:
        """Returns when there may be something to take, at the latest after `IDLE_WAIT_S`."""
        if room.free:
            self._leases.wait(self._models, IDLE_WAIT_S)
            return
        until = self._clock() + IDLE_WAIT_S
        while self._clock() < until and self._room() == room and not self._stopping.is_set():
            if self._leases.wait_for_newcomer(self._models, room.busy_tenants, POLL_S):
                return


def _images_to_draw(lease: Lease) -> int:
    """How many images of a job take room in the engine: to choose among them takes them all."""
    job = lease.job
    return job.params.n - len(job.images) if job.params.best_of is None else job.params.drawn

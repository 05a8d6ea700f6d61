"""The leases that a worker holds, and the heartbeat that keeps them.

`HeldLeases` is the one thing that all of the worker's threads share: who holds what, how far it is,
what must be dropped. `Heartbeat` renews from a thread and a connection of its own, since neither a
long step nor a slow store may cost a lease. Torch-free; knows no engine.
"""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from service.errors import Unavailable
from service.queue.leases import Lease, RedisLeases, Renewal
from service.queue.presence import WorkerPresence
from service.settings import QueueSettings

PROGRESS_S = 0.25
"""Progress is published this often while it moves, between the renewals that must be."""

logger = logging.getLogger(__name__)


class Drop(Enum):
    """Why a job must leave the engine."""

    CANCELED = "canceled"
    LOST = "lost"
    RELEASED = "released"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Load:
    """Images in the engine or on their way there, and the tenants whose they are.

    `reserved` are those that came into the reserve for newcomers, `general` are all others.
    """

    general: int
    reserved: int
    tenants: frozenset[str]


@dataclass(slots=True)
class _Held:
    lease: Lease
    images: int
    reserved: bool
    step: int = 0
    renewed_step: int = -1
    denoising: bool = True
    dropped: bool = False


class HeldLeases:
    """Every lease that this worker holds, by its token; safe to use from any thread.

    A token names a lease for good, while a job may come back to the same worker under a new one.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[str, _Held] = {}
        self._drops: list[tuple[str, Drop]] = []

    def __len__(self) -> int:
        with self._lock:
            return len(self._held)

    @property
    def trajectories(self) -> int:
        """Images that are in the engine or on their way there."""
        load = self.load()
        return load.general + load.reserved

    def load(self) -> Load:
        """What takes room."""
        with self._lock:
            denoising = [held for held in self._held.values() if held.denoising]
            images = sum(held.images for held in denoising)
            reserved = sum(held.images for held in denoising if held.reserved)
            tenants = frozenset(held.lease.job.tenant for held in denoising)
            return Load(images - reserved, reserved, tenants)

    def hold(self, lease: Lease, images: int, *, reserved: bool = False) -> None:
        """A lease was taken; `images` are still to be made. An older one on the job is lost."""
        with self._lock:
            for token, held in list(self._held.items()):
                if held.lease.job.id == lease.job.id:
                    self._drop(token, Drop.LOST)
            self._held[lease.token] = _Held(lease, images, reserved, step=lease.job.step)

    def get(self, token: str) -> Lease | None:
        """The lease of a token, or None when it is no longer held."""
        with self._lock:
            held = self._held.get(token)
            return None if held is None else held.lease

    def is_wanted(self, token: str) -> bool:
        """Whether the lease is held and nobody asked for the job to be dropped."""
        with self._lock:
            held = self._held.get(token)
            return held is not None and not held.dropped

    def progress(self, token: str, step: int) -> None:
        """`step` network steps of the job are done."""
        with self._lock:
            if token in self._held:
                self._held[token].step = step

    def left_engine(self, token: str) -> None:
        """Nothing of the job is denoised any more; its lease is held until all is delivered."""
        with self._lock:
            if token in self._held:
                self._held[token].denoising = False

    def unfinished(self) -> list[str]:
        """Tokens of the jobs that have images in the engine or on their way there."""
        with self._lock:
            return [token for token, held in self._held.items() if held.denoising]

    def end(self, token: str) -> None:
        """The lease is given back."""
        with self._lock:
            self._held.pop(token, None)

    def drop(self, token: str, why: Drop) -> None:
        """The job must leave the engine. A canceled one is held until the queue has heard of it."""
        with self._lock:
            self._drop(token, why)

    def take_drops(self) -> list[tuple[str, Drop]]:
        """Tokens of what must leave the engine, each said once."""
        with self._lock:
            drops, self._drops = self._drops, []
            return drops

    def renewals(self, *, moved_only: bool) -> list[tuple[str, str, int]]:
        """(job id, token, step) to renew: of all leases, or of those whose step has moved."""
        with self._lock:
            return [
                (held.lease.job.id, token, held.step)
                for token, held in self._held.items()
                if not moved_only or held.step != held.renewed_step
            ]

    def renewed(self, token: str, step: int) -> None:
        """The queue knows of `step`."""
        with self._lock:
            if token in self._held:
                self._held[token].renewed_step = step

    def _drop(self, token: str, why: Drop) -> None:
        held = self._held.get(token)
        if held is None:
            return
        if not held.dropped:
            held.dropped = True
            self._drops.append((token, why))
        if why is not Drop.CANCELED:
            del self._held[token]


class Heartbeat(threading.Thread):
    """Renews leases and announces the worker, as long as its step loop moves.

    Args:
        leases: a connection that nobody else uses.
        held: what to renew.
        presence: how the worker presents itself just now.
        settings: the times.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        leases: RedisLeases,
        held: HeldLeases,
        presence: Callable[[], WorkerPresence],
        settings: QueueSettings,
        clock: Callable[[], float],
    ) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self._leases = leases
        self._held = held
        self._presence = presence
        self._settings = settings
        self._clock = clock
        self._stopping = threading.Event()
        self._moved_at = clock()
        self._renewed_at = float("-inf")
        self._stalled = False
        self._reachable = True

    def moved(self) -> None:
        """The step loop is alive."""
        self._moved_at = self._clock()

    def stop(self) -> None:
        """Ends the thread after the beat that is under way."""
        self._stopping.set()

    def run(self) -> None:
        """Beats until stopped."""
        pause_s = min(PROGRESS_S, self._settings.heartbeat_s)
        while True:
            self._beat_safely()
            if self._stopping.wait(pause_s):
                return

    def _beat_safely(self) -> None:
        try:
            self.beat()
        except Unavailable as error:
            if self._reachable:
                logger.warning("queue unreachable", extra={"reason": error.detail})
            self._reachable = False
        else:
            if not self._reachable:
                logger.info("queue reachable again")
            self._reachable = True

    def beat(self) -> None:
        """Renews what is due; a worker whose step loop hangs lets its leases run out.

        Raises:
            Unavailable: Redis can't be reached.
        """
        if self._hangs():
            return
        due = self._clock() - self._renewed_at >= self._settings.heartbeat_s
        if due:
            self._leases.announce(self._presence())
        renewals = self._held.renewals(moved_only=not due)
        if renewals:
            self._hear(renewals, self._leases.renew(renewals))
        if due:
            self._renewed_at = self._clock()

    def _hear(
        self, renewals: Sequence[tuple[str, str, int]], answers: Mapping[str, Renewal]
    ) -> None:
        for job_id, token, step in renewals:
            match answers[job_id]:
                case "ok":
                    self._held.renewed(token, step)
                case "cancel":
                    self._held.drop(token, Drop.CANCELED)
                case "lost":
                    logger.warning("lease lost", extra={"job_id": job_id})
                    self._held.drop(token, Drop.LOST)

    def _hangs(self) -> bool:
        still_s = self._clock() - self._moved_at
        hangs = still_s > self._settings.stall_s
        if hangs and not self._stalled:
            logger.error("step loop hangs", extra={"still_s": round(still_s, 1)})
        self._stalled = hangs
        return hangs

"""`RedisLeases`: the queue as a worker sees it; synchronous, safe to share between threads.

Every write carries the lease's token, and a token that is no longer the job's changes nothing: a
worker that was taken for dead can do no harm. All transitions are idempotent, so a call that raised
`Unavailable` may be repeated. Knows neither the engine nor how images are stored.
"""

import json
import secrets
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, Literal, cast

from redis.client import PubSub

from service.errors import ServiceError, Unavailable
from service.events import Image, Preview, Progress
from service.jobs import ImageRecord, Job, JobFailure
from service.queue.codec import event_to_json, image_to_json, job_from_hash, paired
from service.queue.connection import blocking_client, redis_errors, worker_client
from service.queue.keys import quoted
from service.queue.presence import WorkerPresence, presence_to_json
from service.queue.scripts import milliseconds, sources, times
from service.settings import QueueSettings

LONGEST_WAIT_S = 2.0

Renewal = Literal["ok", "cancel", "lost"]
Ending = Literal["ok", "canceled", "lost"]
Recording = Literal["ok", "duplicate", "lost"]


@dataclass(frozen=True, slots=True)
class Lease:
    """A job that this worker holds until its lease is out, and the token that proves it."""

    job: Job
    token: str


class RedisLeases:
    """Leases jobs and reports on them. Every method may raise `Unavailable`."""

    def __init__(
        self,
        url: str,
        *,
        worker: str,
        prefix: str = "glide:{q}:",
        settings: QueueSettings | None = None,
        retries: int = 30,
    ) -> None:
        """Connects to nothing yet.

        Args:
            url: of the Redis server.
            worker: id of this process, unique among all workers.
            prefix: of all keys.
            settings: the lease's times.
            retries: how often a call is repeated before it raises `Unavailable`; 30 take 15 s.

        Raises:
            ServiceError: the URL is not one of a Redis server.
        """
        self._worker, self._prefix = worker, prefix
        self._times = times(settings or QueueSettings())
        self._client = worker_client(url, retries=retries)
        self._blocking = blocking_client(url, block_s=LONGEST_WAIT_S)
        self._scripts = {name: self._client.register_script(t) for name, t in sources().items()}
        self._nonce: str | None = None
        self._turn: deque[str] = deque()
        self._offers: PubSub | None = None

    def lease(
        self,
        models: Sequence[str],
        free_slots: int,
        *,
        reserve: int = 0,
        busy_tenants: Collection[str] = (),
    ) -> list[Lease]:
        """Takes jobs of these models until their images fill the free slots.

        The last job may exceed the slots, so that one with many images is not passed over for ever;
        so may the last one of the reserve. After `Unavailable` the next call asks for the same
        answer again. Not for two threads at once: each has its own `RedisLeases`.

        Args:
            models: whose jobs.
            free_slots: images that the worker has room for.
            reserve: further slots, for one job each of tenants that have nothing on the worker, so
                that a newcomer need not wait until another's job ends.
            busy_tenants: those that have.
        """
        if (free_slots <= 0 and reserve <= 0) or not models:
            return []
        self._nonce = self._nonce or secrets.token_hex(6)
        answer = self._run(
            "lease",
            worker=quoted(self._worker),
            worker_name=self._worker,
            nonce=self._nonce,
            models=self._in_turn(models),
            slots=free_slots,
            reserve=reserve,
            busy=[quoted(tenant) for tenant in busy_tenants],
            **self._times,
        )
        self._nonce = None
        return [
            Lease(job_from_hash(job_id, paired(record)), token) for job_id, token, record in answer
        ]

    def wait(self, models: Sequence[str], timeout_s: float = 1.0) -> bool:
        """Sleeps until a job of these models may be ready, at most `timeout_s` (≤ 2 s)."""
        keys = [f"{self._prefix}wake:{quoted(model)}" for model in models]
        with redis_errors():
            self._stop_listening()  # or what nobody reads would pile up
            return self._blocking.blpop(keys, timeout=min(timeout_s, LONGEST_WAIT_S)) is not None

    def wait_for_newcomer(
        self, models: Sequence[str], busy_tenants: Collection[str], timeout_s: float
    ) -> bool:
        """Sleeps until a job of these models may be ready whose tenant is not among the busy ones.

        Takes no other worker's wake-up, as `wait` does. The first call, and the first after `wait`,
        says yes at once: what was offered before it was not heard. Not for two threads at once.
        """
        busy = {quoted(tenant) for tenant in busy_tenants}
        try:
            with redis_errors():
                if self._offers is None:
                    self._listen(models)
                    return True
                message = self._offers.get_message(timeout=min(timeout_s, LONGEST_WAIT_S))
                while message is not None and message["data"] in busy:
                    message = self._offers.get_message()
        except Unavailable:
            self._stop_listening()
            raise
        return message is not None

    def renew(self, held: Iterable[tuple[str, str, int]]) -> dict[str, Renewal]:
        """Renews every (job id, token, step) and publishes the steps that moved.

        Returns:
            For each job id: `ok`; `cancel`, stop and call `release`; `lost`, drop it.
        """
        jobs = list(held)
        if not jobs:
            return {}
        answers = self._run("renew", held=jobs, **self._times)
        return {job_id: answer for (job_id, _, _), answer in zip(jobs, answers, strict=True)}

    def event(self, job_id: str, token: str, event: Preview | Progress) -> Literal["ok", "lost"]:
        """Shows a preview or progress to the job's followers, unless a newer one was shown."""
        preview = quoted(str(event.index)) if isinstance(event, Preview) else None
        return cast(
            Literal["ok", "lost"],
            self._run(
                "event",
                id=job_id,
                token=token,
                step=event.step,
                event=event_to_json(event),
                **({} if preview is None else {"preview": preview}),
            ),
        )

    def image(self, job_id: str, token: str, image: ImageRecord) -> Recording:
        """Records a stored image; `duplicate` when this index has another record, which stays."""
        answer = self._run(
            "image",
            id=job_id,
            token=token,
            index=image.index,
            record=image_to_json(image),
            event=event_to_json(Image(image)),
        )
        return cast(Recording, answer)

    def finish(self, job_id: str, token: str) -> Ending:
        """Ends a job whose images are recorded; one that was asked to stop ends as canceled."""
        return cast(Ending, self._run("finish", id=job_id, token=token))

    def fail(
        self, job_id: str, token: str, failure: JobFailure, retry_delay_s: float | None
    ) -> Ending:
        """Gives a job up: for good, or, with a delay, for another attempt if it has one left."""
        retry = {} if retry_delay_s is None else {"retry_delay_ms": milliseconds(retry_delay_s)}
        return cast(
            Ending, self._run("fail", id=job_id, token=token, failure=asdict(failure), **retry)
        )

    def release(self, job_id: str, token: str) -> Ending:
        """Hands a job back, which costs it no attempt; one that was asked to stop is canceled."""
        return cast(Ending, self._run("release", id=job_id, token=token))

    def announce(self, presence: WorkerPresence) -> None:
        """Says that this worker lives; to be repeated with every heartbeat."""
        self._run(
            "announce",
            worker=quoted(presence.id),
            presence=presence_to_json(presence),
            **self._times,
        )

    def abandon(self, worker: str) -> int:
        """Offers all jobs of a dead worker again and removes its presence; returns their number."""
        return int(self._run("abandon", worker=quoted(worker)))

    def ping(self) -> None:
        """Returns when Redis answers; asks once.

        Raises:
            Unavailable: it does not.
        """
        with redis_errors():
            self._blocking.ping()

    def close(self) -> None:
        """Closes all connections."""
        with suppress(ServiceError), redis_errors():
            self._stop_listening()
            self._client.connection_pool.disconnect()
            self._blocking.connection_pool.disconnect()

    def _listen(self, models: Sequence[str]) -> None:
        self._offers = PubSub(self._blocking.connection_pool)
        self._offers.subscribe(*(f"{self._prefix}offers:{quoted(model)}" for model in models))
        for _ in models:  # each is confirmed, and only then are its offers heard
            self._offers.get_message(timeout=LONGEST_WAIT_S)

    def _stop_listening(self) -> None:
        if self._offers is not None:
            self._offers.close()
            self._offers = None

    def _in_turn(self, models: Sequence[str]) -> list[str]:
        names = [quoted(model) for model in models]
        if set(names) != set(self._turn):
            self._turn = deque(names)
        self._turn.rotate(-1)
        return list(self._turn)

    def _run(self, transition: str, **arguments: Any) -> Any:
        with redis_errors():
            return self._scripts[transition](keys=[self._prefix], args=[json.dumps(arguments)])

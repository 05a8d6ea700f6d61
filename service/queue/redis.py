"""`RedisJobQueue`: the queue as the API sees it, for one asyncio event loop.

One method, one script; what a script does is told in `lua/`. A process has one `RedisJobQueue`,
which beats a pulse (`maintain`) once a second from its first call on, so that lost jobs are offered
again although no worker lives. Every method raises `Unavailable` while Redis can't be reached.
"""

import json
import re
import secrets
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

from service.errors import (
    InvalidRequest,
    KeyReused,
    NotFound,
    QueueFull,
    RateLimited,
    ServiceError,
)
from service.events import Event
from service.jobs import Job, JobStatus, is_job_id
from service.queue.codec import (
    event_from_json,
    fingerprint,
    job_from_hash,
    job_to_fields,
    paired,
)
from service.queue.connection import api_client, redis_errors
from service.queue.files import Files
from service.queue.hub import FALLBACK_S, Hub
from service.queue.keys import HINTS, quoted
from service.queue.outbox import Outbox
from service.queue.presence import WorkerPresence, presence_from_json
from service.queue.scripts import milliseconds, sources, times
from service.settings import QueueSettings

PULSE_S = 1.0
PAGE = 100
RETRY_AFTER_S = 5
_EVENT_ID = re.compile(r"\d{1,18}", re.ASCII)

Events = list[tuple[str, Event]]
Jobs = list[Job]
Presences = list[WorkerPresence]


@dataclass(frozen=True, slots=True)
class Accepted:
    """An accepted job; `replayed` when an earlier request with the same key had made it."""

    job: Job
    replayed: bool


class RedisJobQueue:
    """Submits, reads, follows and cancels jobs."""

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "glide:{q}:",
        settings: QueueSettings | None = None,
    ) -> None:
        """Connects to nothing yet.

        Raises:
            ServiceError: the URL is not one of a Redis server.
        """
        self._prefix = prefix
        self._settings = settings or QueueSettings()
        self._client = api_client(url)
        self._scripts = {name: self._client.register_script(t) for name, t in sources().items()}
        self._hub = Hub(self._client, prefix + HINTS, self._pulse, PULSE_S)
        self.outbox = Outbox(self._run)
        self.files = Files(self._client, prefix)

    async def submit(
        self, job: Job, *, idempotency_key: str | None = None, body_hash: str | None = None
    ) -> Job:
        """Stores and queues a job as `enqueue` does; returns it as accepted."""
        accepted = await self.enqueue(job, idempotency_key=idempotency_key, body_hash=body_hash)
        return accepted.job

    async def enqueue(
        self, job: Job, *, idempotency_key: str | None = None, body_hash: str | None = None
    ) -> Accepted:
        """Stores and queues a job, or finds the one that its idempotency key stands for.

        Args:
            job: with a fresh id; its status, times and attempts are the queue's to set.
            idempotency_key: a second submission with it returns the first one's job.
            body_hash: digest of the request, for telling a repetition from another request with
                the same key; by default of the job's parameters, format and metadata.

        Raises:
            KeyReused: the key stands for another request.
            QueueFull: too many jobs wait.
            RateLimited: too many jobs of this tenant wait.
        """
        settings = self._settings
        fields = job_to_fields(job)
        fields["retention_ms"] = str(milliseconds(settings.retention_s))
        fields["max_attempts"] = str(settings.max_attempts)
        arguments: dict[str, Any] = {}
        if idempotency_key is not None:
            fields["idempotency"] = arguments["idempotency"] = quoted(idempotency_key)
            arguments["fingerprint"] = quoted(body_hash or fingerprint(job))
        answer = await self._run(
            "submit",
            id=job.id,
            tenant=fields["tenant"],
            model=fields["model"],
            fields=fields,
            max_queued=settings.max_queued,
            max_queued_per_tenant=settings.max_queued_per_tenant,
            **arguments,
        )
        _raise_refusal(answer[0])
        return Accepted(job_from_hash(answer[1], paired(answer[2])), replayed=bool(answer[3]))

    async def get(self, job_id: str) -> Job | None:
        """The job, or None when there is none, or none any more."""
        return (await self._load([job_id]))[0]

    async def list(
        self,
        tenant: str,
        *,
        cursor: str | None = None,
        limit: int = 20,
        status: JobStatus | None = None,
    ) -> tuple[Jobs, str | None]:
        """A tenant's jobs, newest first, and the cursor of the next page, None on the last one.

        Raises:
            InvalidRequest: `cursor` is not one that this method returned.
        """
        if cursor is not None and not is_job_id(cursor):
            raise InvalidRequest("The cursor is not one of an earlier page")
        found: Jobs = []
        while len(found) <= limit:
            ids = await self._ids_before(tenant, cursor)
            if not ids:
                return found, None
            jobs = await self._load(ids)
            await self._forget(tenant, [i for i, job in zip(ids, jobs, strict=True) if not job])
            found += [job for job in jobs if job and status in (None, job.status)]
            cursor = ids[-1]
        return found[:limit], found[limit - 1].id

    async def newer(self, tenant: str, job_id: str, limit: int) -> Sequence[str]:
        """Ids of the tenant's next jobs after `job_id`, oldest first, at most `limit`."""
        key = f"{self._prefix}jobs:{quoted(tenant)}"
        with redis_errors():
            ids = await self._client.zrangebylex(key, f"({job_id}", "+", start=0, num=limit)
        return cast(Sequence[str], ids)

    async def cancel(self, job_id: str, reason: str) -> Job | None:
        """Ends a queued job, asks the owner of a running one to stop, leaves a final one alone."""
        record = await self._run("cancel", id=job_id, reason=reason)
        return job_from_hash(job_id, paired(record)) if record else None

    async def events(self, job_id: str, after: str | None = None) -> Events:
        """What happened to a job after event `after`, oldest first; ids count from 1.

        Progress and previews are kept for some minutes only, all others for as long as the job.

        Raises:
            InvalidRequest: `after` is not an event id.
        """
        return (await self._events(job_id, after))[0]

    async def follow(
        self, job_id: str, after: str | None = None
    ) -> AsyncGenerator[tuple[str, Event], None]:
        """The events of a job after `after`, then each new one; ends after the final event.

        Raises:
            NotFound: there is no such job, or none any more.
            InvalidRequest: `after` is not an event id.
        """
        async with self._hub.watch(job_id) as hint:
            while True:
                events, status = await self._events(job_id, after)
                for after, event in events:
                    yield after, event
                if status is None:
                    raise _not_found(job_id)
                if status.is_final:
                    return
                await hint.wait()

    async def wait(self, job_id: str, timeout_s: float) -> Job:
        """The job as soon as it is final, or as it is after `timeout_s`.

        Raises:
            NotFound: there is no such job, or none any more.
        """
        deadline = time.monotonic() + timeout_s
        async with self._hub.watch(job_id) as hint:
            while True:
                job = await self.get(job_id)
                if job is None:
                    raise _not_found(job_id)
                left_s = deadline - time.monotonic()
                if job.status.is_final or left_s <= 0:
                    return job
                await hint.wait(min(left_s, FALLBACK_S))

    def is_watched(self, job_id: str) -> bool:
        """Whether some coroutine of this process follows the job or waits for it."""
        return self._hub.is_watched(job_id)

    async def queue_position(self, job_id: str) -> int | None:
        """An estimate of how many jobs leave the queue before this one; None if it doesn't wait."""
        answer = await self._run("position", id=job_id)
        return None if answer is None else int(answer)

    async def workers(self) -> Presences:
        """The live workers, as they last announced themselves."""
        self._hub.start()
        with redis_errors():
            key = self._prefix + "workers"
            seen: Any = await self._client.zrange(key, 0, -1, withscores=True)
            keys = [f"{self._prefix}worker:{worker}" for worker, _ in seen]
            texts: Any = await self._client.mget(keys) if keys else []
        pairs = zip(texts, seen, strict=True)
        return [presence_from_json(text, int(ms)) for text, (_, ms) in pairs if text is not None]

    async def maintain(self) -> None:
        """Does what is due by the clock: expired leases, ended delays, expired jobs' index."""
        await self._run("maintain", **times(self._settings))

    async def signing_key(self) -> bytes:
        """The key of signed links, the same for every process; made by whoever asks first."""
        name = f"{self._prefix}signing-key"
        with redis_errors():
            await self._client.set(name, secrets.token_hex(32), nx=True)
            return str(await self._client.get(name)).encode()

    async def webhook_secret(self, tenant: str) -> str:
        """What verifies the deliveries to a tenant's servers; the first question makes it."""
        return (await self.outbox.secrets(tenant)).newest

    async def rotate_webhook_secret(self, tenant: str) -> str:
        """A new secret for a tenant; its former one signs on for a day."""
        return (await self.outbox.rotate_secret(tenant)).newest

    async def ping(self) -> None:
        """Returns when Redis answers.

        Raises:
            Unavailable: it does not.
        """
        with redis_errors():
            await self._client.ping()

    async def aclose(self) -> None:
        """Ends the pulse and closes all connections."""
        await self._hub.aclose()
        with suppress(ServiceError), redis_errors():
            await self._client.aclose(close_connection_pool=True)

    async def _pulse(self) -> None:
        with suppress(ServiceError):
            await self.maintain()

    async def _run(self, transition: str, **arguments: Any) -> Any:
        self._hub.start()
        with redis_errors():
            return await self._scripts[transition](
                keys=[self._prefix], args=[json.dumps(arguments)]
            )

    async def _load(self, job_ids: Sequence[str]) -> Sequence[Job | None]:
        self._hub.start()
        with redis_errors():
            async with self._client.pipeline(transaction=False) as pipeline:
                for job_id in job_ids:
                    pipeline.hgetall(f"{self._prefix}job:{job_id}")
                records = await pipeline.execute()
        pairs = zip(job_ids, records, strict=True)
        return [job_from_hash(job_id, record) if record else None for job_id, record in pairs]

    async def _events(self, job_id: str, after: str | None) -> tuple[Events, JobStatus | None]:
        if after is not None and not _EVENT_ID.fullmatch(after):
            raise InvalidRequest("The event id is not one of this job's stream")
        self._hub.start()
        start = f"({after}-0" if after else "-"
        with redis_errors():
            # One transaction, so that no event of either stream falls between the two reads.
            async with self._client.pipeline(transaction=True) as pipeline:
                pipeline.xrange(f"{self._prefix}events:{job_id}", min=start)
                pipeline.xrange(f"{self._prefix}updates:{job_id}", min=start)
                pipeline.hget(f"{self._prefix}job:{job_id}", "status")
                lasting, passing, status = await pipeline.execute()
        entries = sorted((int(i.split("-")[0]), members) for i, members in lasting + passing)
        decoded = ((str(number), event_from_json(members["event"])) for number, members in entries)
        return [(i, event) for i, event in decoded if event], status and JobStatus(status)

    async def _ids_before(self, tenant: str, cursor: str | None) -> Sequence[str]:
        with redis_errors():
            ids = await self._client.zrevrangebylex(
                f"{self._prefix}jobs:{quoted(tenant)}",
                max=f"({cursor}" if cursor else "+",
                min="-",
                start=0,
                num=PAGE,
            )
        return cast(Sequence[str], ids)

    async def _forget(self, tenant: str, job_ids: Sequence[str]) -> None:
        if job_ids:
            with redis_errors():
                await self._client.zrem(f"{self._prefix}jobs:{quoted(tenant)}", *job_ids)


def _raise_refusal(answer: str) -> None:
    match answer:
        case "conflict":
            raise KeyReused("The idempotency key was used for another request.")
        case "full":
            raise QueueFull("Too many jobs are waiting", retry_after_s=RETRY_AFTER_S)
        case "tenant_full":
            raise RateLimited("Too many of your jobs are waiting", retry_after_s=RETRY_AFTER_S)


def _not_found(job_id: str) -> NotFound:
    return NotFound(f"There is no job {job_id}")

"""`RedisJobQueue`: the queue as the API sees it, for one asyncio event loop.

One method, one script; what a script does is told in `lua/`. A process has one `RedisJobQueue`,
which beats a pulse (`maintain`) once a second from its first call on, so that lost jobs are offered
again although no worker lives. Every method raises `Unavailable` while Redis can't be reached.
"""

import json
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress
from typing import Any

from redis.asyncio import Redis

from service.errors import Conflict, NotFound, ServiceError
from service.events import Event
from service.jobs import Job, JobStatus
from service.queue.backlog import Backlog, work_rate
from service.queue.codec import job_from_hash, paired
from service.queue.connection import api_client, redis_errors
from service.queue.hub import FALLBACK_S, Hub
from service.queue.keys import HINTS, quoted
from service.queue.outbox import Outbox
from service.queue.presence import WorkerPresence, presence_from_json
from service.queue.quota import Quota
from service.queue.records import Events, JobFilter, JobRecords, Jobs, Standing, standing
from service.queue.scripts import sources, times
from service.queue.submission import (
    Accepted,
    accepted_or_refused,
    is_full,
    refusal_when_full,
    submission,
)
from service.queue.tenants import TenantLimits, limits_from_fields, limits_to_fields
from service.queue.together import Together
from service.settings import QueueSettings

PULSE_S = 1.0
_RATE_S = 1.0

Presences = list[WorkerPresence]


def _is_final(job: Job) -> bool:
    return job.status.is_final


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
        self._together = Together(self._client, sources())
        self._hub = Hub(self._client, prefix + HINTS, self._pulse, PULSE_S)
        self._records = JobRecords(self._client, prefix)
        self._rate, self._rate_until = 0.0, float("-inf")
        self.outbox = Outbox(self._run, self._hub.watch)

    @property
    def client(self) -> Redis:
        """This process's connections, for what else it keeps in Redis."""
        return self._client

    @property
    def prefix(self) -> str:
        """Of every key."""
        return self._prefix

    @property
    def hub(self) -> Hub:
        """Where this process hears of changes."""
        return self._hub

    async def submit(
        self, job: Job, *, idempotency_key: str | None = None, body_hash: str | None = None
    ) -> Job:
        """Stores and queues a job as `enqueue` does; returns it as accepted."""
        accepted = await self.enqueue(job, idempotency_key=idempotency_key, body_hash=body_hash)
        return accepted.job

    async def enqueue(
        self,
        job: Job,
        *,
        idempotency_key: str | None = None,
        body_hash: str | None = None,
        quota: Quota | None = None,
        most_work_before: float | None = None,
    ) -> Accepted:
        """Stores and queues a job, or finds the one that its idempotency key stands for.

        Args:
            job: with a fresh id; its status, times and attempts are the queue's to set.
            idempotency_key: a second submission with it returns the first one's job, for as long
                as that is kept.
            body_hash: digest of the request, for telling a repetition from another request with
                the same key; by default of the job's parameters, format and metadata.
            quota: bounds the images of all accepted jobs of a key; only a new job counts.
            most_work_before: a new job is refused if more work than that is done before it.

        Raises:
            KeyReused: the key stands for another request.
            QueueFull: too many jobs wait.
            RateLimited: too many jobs of this tenant wait.
            QuotaExceeded: the quota has too few images left.
            TooMuchWorkBefore: see `most_work_before`.
        """
        arguments = submission(
            job,
            self._settings,
            idempotency_key=idempotency_key,
            body_hash=body_hash,
            quota=quota,
            most_work_before=most_work_before,
        )
        answer = await self._run("submit", **arguments)
        if is_full(answer):
            raise refusal_when_full(answer, await self._work_rate())
        return accepted_or_refused(answer, job, quota)

    async def get(self, job_id: str) -> Job | None:
        """The job, or None when there is none, or none any more."""
        self._hub.start()
        return (await self._records.load([job_id]))[0]

    async def look(self, job_ids: Sequence[str]) -> Sequence[Standing | None]:
        """Jobs and what is before them, in one call; None for one that there is not."""
        if not job_ids:
            return []
        answers = await self._run("look", ids=list(job_ids))
        pairs = zip(job_ids, answers, strict=True)
        return [standing(job_id, answer) if answer else None for job_id, answer in pairs]

    async def list(
        self,
        tenant: str,
        *,
        cursor: str | None = None,
        limit: int = 20,
        status: JobStatus | None = None,
        model: str | None = None,
        created_after_ms: int | None = None,
        created_before_ms: int | None = None,
    ) -> tuple[Jobs, str | None]:
        """A tenant's jobs, newest first, and the cursor of the next page, None on the last one.

        A page may have fewer jobs than `limit` and yet a cursor: rare jobs are not looked for among
        all others in one call.

        Args:
            tenant: whose jobs.
            cursor: of an earlier page.
            limit: so many jobs at most.
            status: only those that stand there.
            model: only those of this pipeline.
            created_after_ms: only those created at this Unix time or later.
            created_before_ms: only those created before this Unix time.

        Raises:
            InvalidRequest: `cursor` is not one that this method returned.
        """
        self._hub.start()
        wanted = JobFilter(
            status=status,
            model=model,
            created_after_ms=created_after_ms,
            created_before_ms=created_before_ms,
        )
        return await self._records.page(tenant, wanted, cursor, limit)

    async def newer(self, tenant: str, job_id: str, limit: int) -> Sequence[str]:
        """Ids of the tenant's next jobs after `job_id`, oldest first, at most `limit`."""
        return await self._records.newer(tenant, job_id, limit)

    async def cancel(self, job_id: str, reason: str) -> Job | None:
        """Ends a queued job, asks the owner of a running one to stop, leaves a final one alone."""
        record = await self._run("cancel", id=job_id, reason=reason)
        return job_from_hash(job_id, paired(record)) if record else None

    async def delete(self, job_id: str) -> Job | None:
        """Removes a final job and all that is kept of it, but not its images' files.

        Returns:
            The job as it was, or None when there is none.

        Raises:
            Conflict: the job is not final.
        """
        outcome, *record = await self._run("delete", id=job_id, nonce=secrets.token_hex(6))
        match outcome:
            case "ok":
                return job_from_hash(job_id, paired(record[0]))
            case "none":
                return None
            case status:
                raise Conflict(f"Job {job_id} is {status}: cancel it first, and wait for its end.")

    async def events(self, job_id: str, after: str | None = None) -> Events:
        """What happened to a job after event `after`, oldest first; ids count from 1.

        Progress and previews are kept for some minutes only, all others for as long as the job.

        Raises:
            InvalidRequest: `after` is not an event id.
        """
        self._hub.start()
        return (await self._records.events(job_id, after))[0]

    async def follow(
        self, job_id: str, after: str | None = None
    ) -> AsyncGenerator[tuple[str, Event], None]:
        """The events of a job after `after`, then each new one; ends after the final event.

        Raises:
            NotFound: there is no such job, or none any more.
            InvalidRequest: `after` is not an event id.
        """
        self._hub.start()
        async with self._hub.watch(job_id) as hint:
            while True:
                events, status = await self._records.events(job_id, after)
                for after, event in events:
                    yield after, event
                if status is None:
                    raise _not_found(job_id)
                if status.is_final:
                    return
                await hint.wait()

    async def wait(
        self, job_id: str, timeout_s: float, until: Callable[[Job], bool] = _is_final
    ) -> Job:
        """The job as soon as `until` holds of it, or as it is after `timeout_s`.

        Args:
            job_id: which job.
            timeout_s: the longest wait.
            until: what is waited for; by default the job's end. A final job changes no more, so it
                is returned in any case.

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
                if until(job) or job.status.is_final or left_s <= 0:
                    return job
                await hint.wait(min(left_s, FALLBACK_S))

    def is_watched(self, job_id: str) -> bool:
        """Whether some coroutine of this process follows the job or waits for it."""
        return self._hub.is_watched(job_id)

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

    async def backlog(self, model: str) -> Backlog:
        """The work of a model's unfinished jobs."""
        self._hub.start()
        field = f"work:{quoted(model)}"
        with redis_errors():
            # One transaction, so that no job is counted twice or not at all while it is leased.
            async with self._client.pipeline(transaction=True) as pipeline:
                pipeline.hget(f"{self._prefix}waiting", field)
                pipeline.hget(f"{self._prefix}running", field)
                waiting, running = await pipeline.execute()
        return Backlog(waiting_work=int(waiting or 0), running_work=int(running or 0))

    async def tenant(self, tenant: str) -> TenantLimits:
        """A tenant's limits."""
        with redis_errors():
            fields: Any = await self._client.hgetall(f"{self._prefix}tenant:{quoted(tenant)}")
        return limits_from_fields(fields)

    async def set_tenant(
        self, tenant: str, *, weight: float | None, concurrency: int | None
    ) -> None:
        """Sets a tenant's limits, also for the jobs that it has already.

        Args:
            tenant: whose.
            weight: its share in proportion to other tenants'; None: 1.
            concurrency: so many of its jobs run at a time; None: no bound.

        Raises:
            InvalidRequest: a limit is out of its bounds.
        """
        share = TenantLimits().weight if weight is None else weight
        limits = limits_to_fields(TenantLimits(weight=share, concurrency=concurrency))
        await self._run("limit", tenant=quoted(tenant), limits=limits)

    async def maintain(self) -> None:
        """Does what is due by the clock: of leases, deadlines, delays, and the lists of jobs."""
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
            return await self._together.run(transition, self._prefix, json.dumps(arguments))

    async def _work_rate(self) -> float:
        """That of all live workers; asked for seldom, since refusals come in crowds."""
        now_s = time.monotonic()
        if now_s >= self._rate_until:
            self._rate_until = now_s + _RATE_S
            self._rate = work_rate(await self.workers())
        return self._rate


def _not_found(job_id: str) -> NotFound:
    return NotFound(f"There is no job {job_id}")

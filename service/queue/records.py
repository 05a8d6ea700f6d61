"""Reads jobs and their events out of Redis, for `RedisJobQueue`."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from redis.asyncio import Redis

from service.errors import InvalidRequest
from service.events import Event
from service.jobs import Job, JobStatus, is_job_id, new_job_id
from service.queue.codec import event_from_json, job_from_hash, paired
from service.queue.connection import redis_errors
from service.queue.keys import quoted

CHUNK = 100
LOOKED_AT = 1000
"""So many jobs at most does one page look at, however few of them it is asked for."""

_EVENT_ID = re.compile(r"\d{1,18}", re.ASCII)
_LATEST_MS = (1 << 48) - 1
_SKEW_MS = 60_000  # an id's time is that of the API's clock, a job's creation that of Redis's

Events = list[tuple[str, Event]]
Jobs = list[Job]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFilter:
    """Which of a tenant's jobs are wanted; None: whichever.

    Attributes:
        status: those that stand there.
        model: those of this pipeline.
        created_after_ms: those created at this Unix time or later.
        created_before_ms: those created before this Unix time.
    """

    status: JobStatus | None = None
    model: str | None = None
    created_after_ms: int | None = None
    created_before_ms: int | None = None

    def admits(self, job: Job) -> bool:
        """Whether the job is wanted."""
        after, before = self.created_after_ms, self.created_before_ms
        return (
            self.status in (None, job.status)
            and self.model in (None, job.params.model)
            and (after is None or job.created_at_ms >= after)
            and (before is None or job.created_at_ms < before)
        )

    def id_range(self) -> tuple[str, str]:
        """Bounds, as of a lexical range, of the ids that wanted jobs can have."""
        after, before = self.created_after_ms, self.created_before_ms
        low = "-" if after is None else f"[{_time_of_id(after - _SKEW_MS)}"
        high = "+" if before is None else f"[{_time_of_id(before + _SKEW_MS)}"
        return low, high


@dataclass(frozen=True, slots=True)
class Standing:
    """A job, and what is before it while it waits.

    Attributes:
        job: the record.
        queue_position: an estimate of how many jobs leave the queue before it; None if it doesn't
            wait.
        work_before: an estimate of the work that is done before it; None if it doesn't wait.
    """

    job: Job
    queue_position: int | None
    work_before: int | None


def standing(job_id: str, answer: Sequence[Any]) -> Standing:
    """The standing of a job as the transition `look` tells it."""
    record, position, work_before = answer
    return Standing(job_from_hash(job_id, paired(record)), position, work_before)


class JobRecords:
    """The jobs under one prefix. Every method raises `Unavailable` if Redis can't be reached."""

    def __init__(self, client: "Redis", prefix: str) -> None:
        self._client, self._prefix = client, prefix

    async def load(self, job_ids: Sequence[str]) -> Sequence[Job | None]:
        """The jobs of these ids; None for one that there is not, or not any more."""
        with redis_errors():
            async with self._client.pipeline(transaction=False) as pipeline:
                for job_id in job_ids:
                    pipeline.hgetall(f"{self._prefix}job:{job_id}")
                records = await pipeline.execute()
        pairs = zip(job_ids, records, strict=True)
        return [job_from_hash(job_id, record) if record else None for job_id, record in pairs]

    async def page(
        self, tenant: str, wanted: JobFilter, cursor: str | None, limit: int
    ) -> tuple[Jobs, str | None]:
        """A tenant's wanted jobs, newest first, and the cursor of the next page.

        A page that would have to look at more than `LOOKED_AT` jobs ends early, with a cursor.

        Raises:
            InvalidRequest: `cursor` is not one that this method returned.
        """
        if cursor is not None and not is_job_id(cursor):
            raise InvalidRequest("The cursor is not one of an earlier page")
        low, high = wanted.id_range()
        chunk = min(CHUNK, limit + 1) if wanted == JobFilter() else CHUNK
        found: Jobs = []
        for _ in range(0, LOOKED_AT, chunk):
            ids = await self._ids(tenant, low, _lower(high, cursor), chunk)
            found += [job for job in await self._known(tenant, ids) if wanted.admits(job)]
            if len(found) > limit:
                return found[:limit], found[limit - 1].id
            if len(ids) < chunk:
                return found, None
            cursor = ids[-1]
        return found, cursor

    async def newer(self, tenant: str, job_id: str, limit: int) -> Sequence[str]:
        """Ids of the tenant's next jobs after `job_id`, oldest first, at most `limit`."""
        key = f"{self._prefix}jobs:{quoted(tenant)}"
        with redis_errors():
            ids: Any = await self._client.zrangebylex(key, f"({job_id}", "+", start=0, num=limit)
        return cast(Sequence[str], ids)

    async def events(self, job_id: str, after: str | None) -> tuple[Events, JobStatus | None]:
        """What happened to a job after event `after`, and where it stands, if it is there.

        Raises:
            InvalidRequest: `after` is not an event id.
        """
        if after is not None and not _EVENT_ID.fullmatch(after):
            raise InvalidRequest("The event id is not one of this job's stream")
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

    async def _ids(self, tenant: str, low: str, high: str, number: int) -> Sequence[str]:
        with redis_errors():
            ids: Any = await self._client.zrevrangebylex(
                f"{self._prefix}jobs:{quoted(tenant)}", max=high, min=low, start=0, num=number
            )
        return cast(Sequence[str], ids)

    async def _known(self, tenant: str, ids: Sequence[str]) -> Jobs:
        """The jobs that are still there; the index forgets the others."""
        jobs = await self.load(ids) if ids else []
        gone = [job_id for job_id, job in zip(ids, jobs, strict=True) if job is None]
        if gone:
            with redis_errors():
                await self._client.zrem(f"{self._prefix}jobs:{quoted(tenant)}", *gone)
        return [job for job in jobs if job is not None]


def _time_of_id(ms: int) -> str:
    """What the ids of this time begin with."""
    return new_job_id(min(max(ms, 0), _LATEST_MS))[: len("job_") + 10]


def _lower(high: str, cursor: str | None) -> str:
    if cursor is None:
        return high
    return high if high != "+" and high[1:] < cursor else f"({cursor}"

"""Pages of predictions: newest first, a hundred at a time, with links to those beside them."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from service.api.replicate.door import Door
from service.errors import FieldError, InvalidRequest
from service.jobs import Job, first_job_id

PAGE = 100
_PATH = "/replicate/v1/predictions"
_CLOCKS_APART_MS = 10_000
"""An id has the time of the API process, a creation that of Redis; they may differ so much."""


@dataclass(frozen=True, slots=True)
class Period:
    """Which predictions are asked for: those created at or after one time and before another.

    Attributes:
        created_after: None for no bound.
        created_before: None for no bound.
    """

    created_after: datetime | None
    created_before: datetime | None

    @property
    def query(self) -> dict[str, str]:
        """As the parameters of a link."""
        bounds = {"created_after": self.created_after, "created_before": self.created_before}
        return {name: each.isoformat() for name, each in bounds.items() if each is not None}

    @property
    def start(self) -> str | None:
        """The cursor of the first page."""
        if self.created_before is None:
            return None
        return first_job_id(min(max(_ms(self.created_before) + _CLOCKS_APART_MS, 0), (1 << 48) - 1))

    def has(self, job: Job) -> bool:
        """Whether a job was created within it."""
        if self.is_before(job):
            return False
        return self.created_before is None or job.created_at_ms < _ms(self.created_before)

    def is_before(self, job: Job) -> bool:
        """Whether a job is older than all of it."""
        return self.created_after is not None and job.created_at_ms < _ms(self.created_after)


async def page_of_predictions(door: Door, cursor: str | None, period: Period) -> dict[str, Any]:
    """One page.

    Args:
        door: the request.
        cursor: of a link of another page; None for the first.
        period: which predictions.

    Raises:
        InvalidRequest: the cursor is not one of a link.
    """
    queue = door.services.queue
    try:
        jobs, following = await queue.list(door.tenant, cursor=cursor or period.start, limit=PAGE)
    except InvalidRequest as error:
        raise InvalidRequest.of([FieldError("/cursor", "is not one of another page")]) from error
    if jobs and period.is_before(jobs[-1]):
        following = None
    return {
        "previous": await _previous(door, jobs, period) if cursor else None,
        "next": following and _link(door, period, following),
        "results": [door.show(job) for job in jobs if period.has(job)],
    }


async def _previous(door: Door, jobs: list[Job], period: Period) -> str | None:
    """The page that ends just before this one."""
    if not jobs:
        return _link(door, period, None)
    newer = await door.services.queue.newer(door.tenant, jobs[0].id, PAGE + 1)
    if not newer:
        return None
    return _link(door, period, newer[PAGE] if len(newer) > PAGE else None)


def _link(door: Door, period: Period, cursor: str | None) -> str:
    query = period.query | ({"cursor": cursor} if cursor else {})
    return door.links.to(f"{_PATH}?{urlencode(query)}" if query else _PATH)


def _ms(moment: datetime) -> int:
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return round(aware.timestamp() * 1000)

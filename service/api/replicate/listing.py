"""Pages of predictions: newest first, a hundred at a time, with links to those beside them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from service.api.replicate.door import Door
from service.errors import FieldError, InvalidRequest
from service.jobs import Job

PAGE = 100
_PATH = "/replicate/v1/predictions"


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


async def page_of_predictions(door: Door, cursor: str | None, period: Period) -> dict[str, Any]:
    """One page.

    Args:
        door: the request.
        cursor: of a link of another page; None for the first.
        period: which predictions.

    Raises:
        InvalidRequest: the cursor is not one of a link.
    """
    try:
        jobs, following = await door.services.queue.list(
            door.tenant,
            cursor=cursor,
            limit=PAGE,
            created_after_ms=_ms(period.created_after),
            created_before_ms=_ms(period.created_before),
        )
    except InvalidRequest as error:
        raise InvalidRequest.of([FieldError("/cursor", "is not one of another page")]) from error
    return {
        "previous": await _previous(door, jobs, period) if cursor else None,
        "next": following and _link(door, period, following),
        "results": [door.show(job) for job in jobs],
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


def _ms(moment: datetime | None) -> int | None:
    return None if moment is None else round(moment.timestamp() * 1000)

"""Jobs as they are shown just now: with their place in the queue and the time until they end.

Knows no route.
"""

import time
from collections.abc import Sequence

from service.api.forecast import eta_seconds
from service.api.services import Services
from service.errors import Unavailable
from service.jobs import Job, JobStatus
from service.queue.records import Standing
from service.views.job import JobView, job_view
from service.views.links import Links


async def shown(standings: Sequence[Standing], services: Services, links: Links) -> list[JobView]:
    """The jobs with what only this moment knows of them.

    Raises:
        Unavailable: Redis can't be reached.
    """
    if all(each.job.status.is_final for each in standings):
        return [job_view(each.job, links) for each in standings]
    paces, now_ms = await services.paces.now(), time.time() * 1000
    views = []
    for each in standings:
        job, model = each.job, each.job.params.model
        waits = job.status is JobStatus.QUEUED and model not in paces
        eta_s = eta_seconds(job, paces.get(model), work_before=each.work_before, now_ms=now_ms)
        views.append(
            job_view(
                job,
                links,
                queue_position=each.queue_position,
                eta_seconds=eta_s,
                warnings=(f"no live worker serves the model {model!r}",) if waits else (),
            )
        )
    return views


async def shown_one(standing: Standing, services: Services, links: Links) -> JobView:
    """One job as `shown`; raises as it does."""
    return (await shown([standing], services, links))[0]


async def shown_accepted(standing: Standing, services: Services, links: Links) -> JobView:
    """The same for a job that was accepted, which it stays though Redis has gone since."""
    try:
        return await shown_one(standing, services, links)
    except Unavailable:
        return job_view(standing.job, links, queue_position=standing.queue_position)


async def standings_of(jobs: Sequence[Job], services: Services) -> list[Standing]:
    """The jobs, those that wait with what is before them.

    Raises:
        Unavailable: Redis can't be reached.
    """
    waiting = [job.id for job in jobs if job.status is JobStatus.QUEUED]
    looked = dict(zip(waiting, await services.queue.look(waiting), strict=True))
    return [looked.get(job.id) or Standing(job, None, None) for job in jobs]


async def standing_of(job: Job, services: Services) -> Standing:
    """One job as `standings_of`; raises as it does."""
    return (await standings_of([job], services))[0]

"""What the queue's tests submit and store, and how they wait."""

import asyncio
from typing import Any

from model.params import SamplingParams
from service.jobs import ImageRecord, Job, JobFailure, JobStatus, Priority, new_job_id
from service.queue.redis import RedisJobQueue

MODELS = ("scenes",)
OOM = JobFailure(code="out_of_memory", detail="The device has no room", retryable=True)


def new_job(
    *,
    tenant: str = "default",
    model: str = "scenes",
    total_steps: int = 20,
    work: int = 1,
    priority: Priority = Priority.NORMAL,
    timeout_s: float | None = None,
    **params: Any,
) -> Job:
    """A job as the API would submit it."""
    return Job(
        id=new_job_id(),
        status=JobStatus.QUEUED,
        params=SamplingParams(prompt="a cat", model=model, **params),
        tenant=tenant,
        total_steps=total_steps,
        work=work,
        priority=priority,
        timeout_s=timeout_s,
    )


def image(index: int = 0, key: str = "first.png") -> ImageRecord:
    """A stored image."""
    return ImageRecord(
        index=index,
        key=key,
        content_type="image/png",
        image_bytes=1,
        sha256="00",
        width=64,
        height=64,
        seed=index,
    )


async def pause() -> None:
    """The time between two looks at what must come true."""
    await asyncio.sleep(0.02)


async def place_of(queue: RedisJobQueue, job_id: str) -> int | None:
    """How many jobs leave the queue before this one, as it is estimated."""
    (standing,) = await queue.look([job_id])
    return None if standing is None else standing.queue_position

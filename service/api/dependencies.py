"""What routes are given: the services of this process, and who asks."""

from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from typing import Annotated

from fastapi import Depends, Request
from starlette.exceptions import HTTPException

from model.catalog import PipelineSpec
from model.text.tokenizer import CaptionTokenizer
from service.errors import NotFound
from service.jobs import Job, is_job_id
from service.queue.redis import RedisJobQueue
from service.settings import Settings
from service.store.protocol import ImageStore


@dataclass(frozen=True, slots=True)
class Services:
    """Everything that a route may use, built once for a process.

    Attributes:
        settings: of the process.
        queue: where jobs go.
        store: where finished images are.
        catalog: the pipelines, by name; at least one.
        tokenizers: the pipelines' tokenizers, by name.
    """

    settings: Settings
    queue: RedisJobQueue
    store: ImageStore
    catalog: Mapping[str, PipelineSpec]
    tokenizers: Mapping[str, CaptionTokenizer]


def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


def _tenant() -> str:
    return "default"


ServicesDep = Annotated[Services, Depends(_services)]
TenantDep = Annotated[str, Depends(_tenant)]


async def _job(job_id: str, services: ServicesDep, tenant: TenantDep) -> Job:
    job = await services.queue.get(job_id) if is_job_id(job_id) else None
    if job is None or job.tenant != tenant:
        raise NotFound(f"There is no job {job_id!r}; finished jobs are forgotten in time.")
    return job


JobDep = Annotated[Job, Depends(_job)]


def require_json(request: Request) -> None:
    """Refuses a body of another content type.

    Raises:
        HTTPException: status 415.
    """
    header = Message()
    header["content-type"] = request.headers.get("content-type", "none/none")
    subtype = header.get_content_subtype()
    if header.get_content_maintype() != "application" or subtype.split("+")[-1] != "json":
        raise HTTPException(415, "Send the body as JSON, with `content-type: application/json`.")

"""What routes are given: the services of this process, and who asks."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
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

PICTURES_AT_ONCE = 2
"""So many submissions unpack pictures at the same time: one may take some hundred MB."""


@dataclass(frozen=True, slots=True)
class Services:
    """Everything that a route may use, built once for a process.

    Attributes:
        settings: of the process.
        queue: where jobs go.
        store: where pictures are, finished ones and those to start from.
        catalog: the pipelines, by name; at least one.
        tokenizers: the tokenizers of those that read captions, by name.
        unpacking: held while pictures of a request are unpacked.
    """

    settings: Settings
    queue: RedisJobQueue
    store: ImageStore
    catalog: Mapping[str, PipelineSpec]
    tokenizers: Mapping[str, CaptionTokenizer]
    unpacking: asyncio.Semaphore = field(
        default_factory=lambda: asyncio.Semaphore(PICTURES_AT_ONCE), compare=False
    )


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
    kind, _, subtype = content_type(request).partition("/")
    if kind != "application" or subtype.split("+")[-1] != "json":
        raise HTTPException(
            415,
            "Send the body as JSON, with `content-type: application/json`, or as a form, with "
            "`content-type: multipart/form-data`.",
        )


def is_form(request: Request) -> bool:
    """Whether the body is a form that may hold files."""
    return content_type(request) == "multipart/form-data"


def content_type(request: Request) -> str:
    """The media type of the body, in lower case and without parameters; `none/none` for none."""
    header = Message()
    header["content-type"] = request.headers.get("content-type", "none/none")
    return header.get_content_type()

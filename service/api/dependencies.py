"""What routes are given: who asks, the job that a path names, and how bodies declare themselves."""

from email.message import Message
from functools import lru_cache
from typing import Annotated

from fastapi import Depends, Request
from starlette.exceptions import HTTPException

from service.api.auth import PrincipalDep
from service.api.services import Services, ServicesDep, services_of
from service.errors import NotFound
from service.jobs import Job, is_job_id
from service.queue.records import Standing
from service.views.links import Links


async def _tenant(principal: PrincipalDep) -> str:
    return principal.tenant


TenantDep = Annotated[str, Depends(_tenant)]


async def links_of(request: Request) -> Links:
    """Makes the addresses that the client of this request is given."""
    services = services_of(request)
    return Links(base_url_of(request), await services.signing.signer())


LinksDep = Annotated[Links, Depends(links_of)]


def base_url_of(request: Request) -> str:
    """The address that the client of this request knows the server by."""
    public = services_of(request).settings.public_url
    return (public or str(request.base_url)).rstrip("/")


async def _job(job_id: str, services: ServicesDep, tenant: TenantDep) -> Job:
    job = await services.queue.get(job_id) if is_job_id(job_id) else None
    if job is None or job.tenant != tenant:
        raise _no_job(job_id)
    return job


JobDep = Annotated[Job, Depends(_job)]


async def find_standing(job_id: str, services: Services, tenant: str) -> Standing:
    """A tenant's job with what is before it in the queue, which costs no second call.

    Raises:
        NotFound: there is no such job of this tenant.
    """
    (found,) = await services.queue.look([job_id]) if is_job_id(job_id) else [None]
    if found is None or found.job.tenant != tenant:
        raise _no_job(job_id)
    return found


def _no_job(job_id: str) -> NotFound:
    return NotFound(f"There is no job {job_id!r}; finished jobs are forgotten in time.")


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
    return _media_type(request.headers.get("content-type", "none/none"))


@lru_cache(maxsize=64)
def _media_type(text: str) -> str:
    header = Message()
    header["content-type"] = text
    return header.get_content_type()

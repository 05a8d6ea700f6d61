"""Whether the process lives, and whether it could finish a job now."""

from typing import Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from service.api.auth import NO_KEY
from service.api.problems import declared, refusal_of, respond
from service.api.services import Services, ServicesDep
from service.errors import ServiceError, Unavailable

router = APIRouter(tags=["health"])


class HealthView(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"


class CheckView(BaseModel):
    """One thing that a job needs."""

    ok: bool
    detail: str


class ReadyView(BaseModel):
    """Everything that a job needs is there."""

    status: Literal["ready"] = "ready"
    checks: dict[str, CheckView]


@router.get("/healthz", openapi_extra=NO_KEY)
async def healthz() -> HealthView:
    """Whether the process lives; asks nobody else."""
    return HealthView()


@router.get("/readyz", response_model=ReadyView, openapi_extra=NO_KEY, responses=declared())
async def readyz(request: Request, services: ServicesDep) -> Response | ReadyView:
    """Whether a job could be accepted and finished now; the `checks` say what is missing."""
    checks = await _checks(services)
    missing = [check.detail for check in checks.values() if not check.ok]
    if not missing:
        return ReadyView(checks=checks)
    shown = {name: check.model_dump() for name, check in checks.items()}
    error = Unavailable("; ".join(missing) + ".", retry_after_s=2, members={"checks": shown})
    return respond(refusal_of(error), request.scope)


async def _checks(services: Services) -> dict[str, CheckView]:
    try:
        await services.queue.ping()
        workers = await services.queue.workers()
    except ServiceError as error:
        unknown = CheckView(ok=False, detail="workers are unknown while Redis can't be reached")
        return {"redis": CheckView(ok=False, detail=error.detail), "worker": unknown}
    served = {model for worker in workers for model in worker.models} & set(services.catalog)
    detail = f"live: {', '.join(sorted(served))}" if served else "no live worker serves a model"
    return {
        "redis": CheckView(ok=True, detail="answers"),
        "worker": CheckView(ok=bool(served), detail=detail),
    }

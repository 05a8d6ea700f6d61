"""What clients ask of the place itself: who they are, its devices, what signs its webhooks."""

from fastapi import APIRouter, Response

from service.api.dialects.replicate import answered
from service.api.replicate.answers import ReplicateAccount, ReplicateHardware, SigningSecret, answer
from service.api.replicate.door import DoorDep

router = APIRouter(tags=["replicate"])


@router.get("/account", response_class=Response, responses=answered(ReplicateAccount))
async def get_account(door: DoorDep) -> Response:
    """The tenant of this client's key."""
    names = {"username": door.tenant, "name": door.tenant}
    return answer({"type": "organization", **names, "github_url": None})


@router.get(
    "/hardware",
    response_class=Response,
    responses={**answered(ReplicateHardware), 200: {"model": list[ReplicateHardware]}},
)
async def list_hardware(door: DoorDep) -> Response:
    """The devices of the live workers."""
    devices = {worker.device for worker in await door.services.queue.workers()}
    return answer([{"sku": device, "name": device} for device in sorted(devices)])


@router.get("/webhooks/default/secret", response_class=Response, responses=answered(SigningSecret))
async def get_webhook_secret(door: DoorDep) -> Response:
    """What verifies the webhooks of this client's predictions."""
    return answer({"key": await door.services.queue.webhook_secret(door.tenant)})

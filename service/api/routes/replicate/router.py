"""The front door for clients of Replicate's API: all below `/replicate/v1`, and the stream."""

from fastapi import APIRouter

from service.api.routes.replicate import account, files, models, predictions, streaming

router = APIRouter()
for part in (predictions, models, files, account):
    router.include_router(part.router, prefix="/replicate/v1")
router.include_router(streaming.router)

"""The HTTP application, put together. Never loads torch."""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI

from model.catalog import PipelineSpec
from model.text.tokenizer import CaptionTokenizer
from service.api import auth, problems
from service.api.housekeeping import sweep
from service.api.openapi import describe
from service.api.routes import (
    events,
    health,
    images,
    jobs,
    models,
    receipts,
    samplers,
    uploads,
    webhooks,
)
from service.api.routes.huggingface import models as huggingface_models
from service.api.routes.openai import files as openai_files
from service.api.routes.openai import images as openai_images
from service.api.routes.replicate.router import router as replicate_router
from service.api.services import Services, build_services
from service.api.surroundings import surround
from service.queue.redis import RedisJobQueue
from service.settings import Settings
from service.store.protocol import ImageStore

_NATIVE = (jobs, events, images, uploads, receipts, models, samplers, webhooks, health)
_ADAPTERS = (openai_images, openai_files, huggingface_models)


def create_app(
    settings: Settings,
    queue: RedisJobQueue,
    store: ImageStore,
    catalog: Mapping[str, PipelineSpec],
    tokenizers: Mapping[str, CaptionTokenizer],
) -> FastAPI:
    """The application over the given parts.

    Args:
        settings: of the process.
        queue: where jobs go; the application closes it when it stops.
        store: where finished images are.
        catalog: the pipelines that requests may name; at least one.
        tokenizers: for each of them.

    Raises:
        InvalidRequest: a list of phrases that the settings name can't be read.
    """
    assert catalog, "there is at least one pipeline"
    app = FastAPI(
        title="glide-service",
        summary="Text-guided diffusion sampling as a durable service.",
        version="1",
        redirect_slashes=False,
        redoc_url=None,
        lifespan=_lifespan,
        dependencies=[Depends(auth.authenticate)],
    )
    app.state.services = build_services(settings, queue, store, catalog, tokenizers)
    problems.install(app)
    app.router.routes.extend(jobs.direct.routes)
    app.include_router(replicate_router)  # its stream lies among the files of `images`
    for part in (*_NATIVE, *_ADAPTERS):
        app.include_router(part.router)
    surround(app, settings.api)
    app.openapi = functools.partial(describe, app.openapi)  # type: ignore[method-assign]
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    services: Services = app.state.services
    services.api_keys.start()
    sweeping = asyncio.create_task(sweep(services))
    yield
    sweeping.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await sweeping
    await services.api_keys.aclose()
    await services.queue.aclose()

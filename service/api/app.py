"""The HTTP application, put together. Never loads torch."""

import functools
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI

from model.catalog import PipelineSpec
from model.text.tokenizer import CaptionTokenizer
from service.api import problems
from service.api.dependencies import Services
from service.api.middleware import BodyLimit, RequestContext
from service.api.routes import events, health, images, jobs, models
from service.queue.redis import RedisJobQueue
from service.settings import Settings
from service.store.protocol import ImageStore


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
    """
    assert catalog, "there is at least one pipeline"
    app = FastAPI(
        title="glide-service",
        summary="Text-guided diffusion sampling as a durable service.",
        version="1",
        redirect_slashes=False,
        redoc_url=None,
        lifespan=_lifespan,
    )
    app.state.services = Services(settings, queue, store, catalog, tokenizers)
    problems.install(app)
    for part in (jobs, events, images, models, health):
        app.include_router(part.router)
    app.add_middleware(BodyLimit, max_body_bytes=settings.api.max_body_bytes)
    app.add_middleware(RequestContext)
    app.openapi = functools.partial(_openapi, app, app.openapi)  # type: ignore[method-assign]
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    yield
    services: Services = app.state.services
    await services.queue.aclose()


def _openapi(app: FastAPI, generate: Any) -> dict[str, Any]:
    """The description of the API, with the schema that every error refers to."""
    document: dict[str, Any] = generate()
    template = "#/components/schemas/{model}"
    problem = problems.Problem.model_json_schema(ref_template=template)
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas.update(problem.pop("$defs"))
    schemas["Problem"] = problem
    return document

"""The HTTP application, put together. Never loads torch."""

import asyncio
import contextlib
import functools
import logging
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from fastapi import Depends, FastAPI
from starlette.middleware.cors import CORSMiddleware

from model.catalog import PipelineSpec
from model.text.tokenizer import CaptionTokenizer
from service.api import auth, problems
from service.api.dialects import huggingface, native, openai
from service.api.edge import Edge
from service.api.forwarded import ForwardedHeaders
from service.api.limits import RateLimits
from service.api.middleware import RequestContext
from service.api.pictures import PICTURE_FIELDS
from service.api.routes import events, health, images, jobs, models, uploads
from service.api.routes.huggingface import models as huggingface_models
from service.api.routes.openai import files as openai_files
from service.api.routes.openai import images as openai_images
from service.api.schemas import JobCreate
from service.api.services import Services, Signing
from service.errors import Unavailable
from service.queue.key_table import KeyTable
from service.queue.redis import RedisJobQueue
from service.queue.uploads import Uploads
from service.settings import ApiSettings, Settings
from service.store.protocol import ImageStore

SWEEP_EVERY_S = 3600.0
SWEEP_MARGIN_S = 86_400.0
"""An image is older than its job's end, from which the retention counts: by at most a day."""
EXPOSED_HEADERS = (
    "Accept-Ranges",
    "Content-Disposition",
    "Content-Range",
    "ETag",
    "Idempotency-Replayed",
    "Location",
    "Preference-Applied",
    "RateLimit",
    "RateLimit-Policy",
    "Retry-After",
    "Retry-After-Ms",
    "Server-Timing",
    "X-Job-Id",
    "X-Request-Id",
    "X-Seed",
    "X-Should-Retry",
)
"""What a page of another origin may read of a response, beside what every page may."""

_ADAPTERS = (openai_images, openai_files, huggingface_models)
_UNFOUND_SCHEMAS = (
    native.Problem,
    openai.OpenAIError,
    openai.ModelProblem,
    huggingface.HuggingFaceError,
    JobCreate,
)

logger = logging.getLogger(__name__)


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
        dependencies=[Depends(auth.authenticate)],
    )
    app.state.services = Services(
        settings,
        queue,
        store,
        catalog,
        tokenizers,
        signing=Signing(settings, queue),
        api_keys=KeyTable(queue.client, queue.prefix, queue.hub),
        limits=RateLimits(queue.client, queue.prefix),
        uploads=Uploads(
            queue.client, queue.prefix, kept_s=settings.queue.retention_s + SWEEP_MARGIN_S
        ),
    )
    problems.install(app)
    for part in (jobs, events, images, uploads, models, *_ADAPTERS, health):
        app.include_router(part.router)
    _surround(app, settings.api)
    app.openapi = functools.partial(_openapi, app, app.openapi)  # type: ignore[method-assign]
    return app


def _surround(app: FastAPI, settings: ApiSettings) -> None:
    """Puts the middleware around the routes, the innermost first."""
    app.add_middleware(
        Edge,
        max_body_bytes=settings.max_body_bytes,
        exceptions=_bodies_with_pictures(settings),
        body_timeout_s=settings.body_timeout_s,
    )
    app.add_middleware(RequestContext)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=EXPOSED_HEADERS,
        )
    app.add_middleware(ForwardedHeaders, trusted=settings.trusted_proxies)


def _bodies_with_pictures(settings: ApiSettings) -> dict[tuple[str, str], int]:
    """Largest body of the routes that take pictures, by method and path; see `Edge`."""
    words, picture = settings.max_body_bytes, settings.max_picture_bytes
    in_base64 = 4 * (picture // 3 + 1)
    return {
        ("POST", "/v1/jobs"): words + len(PICTURE_FIELDS) * in_base64,
        ("POST", "/v1/images"): words + picture,
        ("POST", "/v1/images/edits"): words + len(PICTURE_FIELDS) * picture,
        ("POST", "/v1/images/variations"): words + picture,
        ("POST", "/hf/models/"): words + len(PICTURE_FIELDS) * in_base64,
    }


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    services: Services = app.state.services
    services.api_keys.start()
    sweeping = asyncio.create_task(_sweep(services))
    yield
    sweeping.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await sweeping
    await services.api_keys.aclose()
    await services.queue.aclose()


async def _sweep(services: Services) -> None:
    """Deletes the images of expired jobs now and then, and pictures unused for as long.

    Any API process may, and all do.
    """
    retention_s = services.settings.queue.retention_s
    while True:
        now_s = time.time()
        try:
            deleted = await asyncio.to_thread(
                services.store.sweep,
                incoming_before_s=now_s - SWEEP_EVERY_S,
                images_before_s=now_s - retention_s - SWEEP_MARGIN_S,
            )
        except Unavailable as error:
            logger.warning("can't sweep", extra={"reason": error.detail})
        else:
            logger.debug("swept", extra={"files": deleted})
        await asyncio.sleep(SWEEP_EVERY_S)


def _openapi(app: FastAPI, generate: Any) -> dict[str, Any]:
    """The description of the API, with the schemas that FastAPI doesn't find by itself.

    They are those of every error, and of the bodies that routes read themselves.
    """
    document: dict[str, Any] = generate()
    template = "#/components/schemas/{model}"
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for kind in _UNFOUND_SCHEMAS:
        schema = kind.model_json_schema(ref_template=template)
        schemas.update(schema.pop("$defs", {}))
        schemas[kind.__name__] = schema
    auth.describe(document)
    return document

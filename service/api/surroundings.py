"""The middleware around the routes, and its order. Knows no service."""

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from service.api import problems
from service.api.direct import DirectLane
from service.api.edge import Edge
from service.api.forwarded import ForwardedHeaders
from service.api.methods import HeadRequests
from service.api.middleware import RequestContext
from service.api.pictures import PICTURE_FIELDS
from service.settings import ApiSettings

EXPOSED_HEADERS = (
    "Accept-Ranges",
    "Content-Disposition",
    "Content-Range",
    "ETag",
    "Idempotency-Replayed",
    "Link",
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


def surround(app: FastAPI, settings: ApiSettings) -> None:
    """Puts the middleware around the routes, the innermost first."""
    app.add_middleware(DirectLane, routes=app.router.routes, on_error=problems.answer_to)
    app.add_middleware(
        Edge,
        max_body_bytes=settings.max_body_bytes,
        exceptions=_bodies_with_pictures(settings),
        body_timeout_s=settings.body_timeout_s,
    )
    app.add_middleware(HeadRequests)
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
        ("POST", "/replicate/v1/files"): words + picture,
        ("POST", "/replicate/v1/predictions"): words + len(PICTURE_FIELDS) * in_base64,
        ("POST", "/replicate/v1/models/"): words + len(PICTURE_FIELDS) * in_base64,
        ("POST", "/replicate/v1/deployments/"): words + len(PICTURE_FIELDS) * in_base64,
        ("POST", "/v1/receipts"): words + picture,
    }

"""The API's process: uvicorn over an open socket. Never loads torch."""

import asyncio
import functools
import gc
import resource
import signal
import socket
from typing import cast

import uvicorn
from starlette.types import ASGIApp

from model.errors import CheckpointError
from service.api.app import create_app
from service.cli.http_protocol import GuardedProtocol
from service.settings import ApiSettings, Settings
from service.wiring import (
    build_catalog,
    build_queue,
    build_store,
    build_tokenizers,
    require_redis,
)

GRACE_S = 5
KEEP_ALIVE_S = 15
"""A connection may rest for so long between two requests; proxies keep theirs for a minute."""
OTHER_FILES = 512


def run_api(settings: Settings, listener: socket.socket) -> None:
    """Serves until SIGTERM or SIGINT.

    Raises:
        ServiceError: Redis isn't configured or can't be reached.
        CheckpointError: a pipeline's description or tokenizer is damaged, or there is none.
    """
    catalog = build_catalog(settings)
    if not catalog:
        raise CheckpointError("There is no pipeline to serve: set GLIDE_MODELS__FOLDERS.")
    app = create_app(
        settings, build_queue(settings), build_store(settings), catalog, build_tokenizers(catalog)
    )
    require_redis(settings)
    _allow_files(settings.api.max_connections)
    gc.collect()
    gc.freeze()  # what is there now stays: no later collection needs to look at it
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)  # uvicorn raises it again once it has stopped
    uvicorn.Server(server_config(app, settings.api)).run(sockets=[listener])


def server_config(app: ASGIApp, settings: ApiSettings, *, port: int = 0) -> uvicorn.Config:
    """How uvicorn serves the application."""
    protocol = functools.partial(GuardedProtocol, head_timeout_s=settings.body_timeout_s)
    return uvicorn.Config(
        app,
        port=port,
        http=cast(type[asyncio.Protocol], protocol),
        ws="none",
        log_config=None,
        server_header=False,
        proxy_headers=False,  # the application reads them, and more of them
        limit_concurrency=settings.max_connections,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
    )


def _allow_files(connections: int) -> None:
    """Raises this process's own bound of open files, as far as it may, to what it may need."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + OTHER_FILES
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))

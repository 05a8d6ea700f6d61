"""The API's process: uvicorn over an open socket. Never loads torch."""

import signal
import socket

import uvicorn

from model.errors import CheckpointError
from service.api.app import create_app
from service.settings import Settings
from service.wiring import (
    build_catalog,
    build_queue,
    build_store,
    build_tokenizers,
    require_redis,
)

GRACE_S = 5


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
    config = uvicorn.Config(
        app, log_config=None, server_header=False, timeout_graceful_shutdown=GRACE_S
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)  # uvicorn raises it again once it has stopped
    uvicorn.Server(config).run(sockets=[listener])

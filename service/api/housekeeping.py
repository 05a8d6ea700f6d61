"""What every API process does beside answering: deleting what nobody will ask for again."""

import asyncio
import logging
import time

from service.api.services import SWEEP_MARGIN_S, Services
from service.errors import Unavailable

SWEEP_EVERY_S = 3600.0

logger = logging.getLogger(__name__)


async def sweep(services: Services) -> None:
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

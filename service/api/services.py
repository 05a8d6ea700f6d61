"""What every route may use, built once for a process."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from model.catalog import PipelineSpec
from model.text.tokenizer import CaptionTokenizer
from service.api.forecast import Paces
from service.api.limits import RateLimits
from service.policy import Policy, load_policy
from service.queue.files import Files
from service.queue.key_table import KeyTable
from service.queue.redis import RedisJobQueue
from service.queue.uploads import Uploads
from service.settings import Settings
from service.store.protocol import ImageStore
from service.views.links import LinkSigner

SWEEP_MARGIN_S = 86_400.0
"""An image is older than its job's end, from which the retention counts: by at most a day."""
PICTURES_AT_ONCE = 2
"""So many submissions unpack pictures at the same time: one may take some hundred MB."""


class Signing:
    """Finds the key of signed links once: the settings' own, else the one that Redis keeps."""

    def __init__(self, settings: Settings, queue: RedisJobQueue) -> None:
        self._given = settings.api.signing_key
        self._queue = queue
        self._signer: LinkSigner | None = None

    async def signer(self) -> LinkSigner:
        """Signs links as every process of the service does.

        Raises:
            Unavailable: Redis, which keeps the key, can't be reached.
        """
        if self._signer is None:
            key = self._given.encode() if self._given else await self._queue.signing_key()
            self._signer = LinkSigner(key)
        return self._signer


@dataclass(frozen=True, slots=True)
class Services:
    """Everything that a route may use, built once for a process.

    Attributes:
        settings: of the process.
        queue: where jobs go.
        store: where pictures are, finished ones and those to start from.
        catalog: the pipelines, by name; at least one.
        tokenizers: the tokenizers of those that read captions, by name.
        signing: knows the key of signed links.
        paces: knows how fast the live workers are.
        api_keys: knows the keys of the clients.
        limits: how often each may create jobs.
        uploads: who sent which picture.
        files: what is known of files that were uploaded under a name.
        policy: which captions are drawn.
        unpacking: held while pictures of a request are unpacked.
    """

    settings: Settings
    queue: RedisJobQueue
    store: ImageStore
    catalog: Mapping[str, PipelineSpec]
    tokenizers: Mapping[str, CaptionTokenizer]
    signing: Signing
    paces: Paces
    api_keys: KeyTable
    limits: RateLimits
    uploads: Uploads
    files: Files
    policy: Policy
    unpacking: asyncio.Semaphore = field(
        default_factory=lambda: asyncio.Semaphore(PICTURES_AT_ONCE), compare=False
    )


def build_services(
    settings: Settings,
    queue: RedisJobQueue,
    store: ImageStore,
    catalog: Mapping[str, PipelineSpec],
    tokenizers: Mapping[str, CaptionTokenizer],
) -> Services:
    """The services over the given parts.

    Raises:
        InvalidRequest: a list of phrases that the settings name can't be read.
    """
    kept_s = settings.queue.retention_s + SWEEP_MARGIN_S
    return Services(
        settings,
        queue,
        store,
        catalog,
        tokenizers,
        signing=Signing(settings, queue),
        paces=Paces(queue),
        api_keys=KeyTable(queue.client, queue.prefix, queue.hub),
        limits=RateLimits(queue.client, queue.prefix),
        uploads=Uploads(queue.client, queue.prefix, kept_s=kept_s),
        files=Files(queue.client, queue.prefix),
        policy=load_policy(settings.policy),
    )


def services_of(request: Request) -> Services:
    """The services of the process that serves this request."""
    services: Services = request.app.state.services
    return services


async def _services(request: Request) -> Services:
    return services_of(request)


# FastAPI runs a dependency that is no coroutine in a thread, which costs more than all the rest.
ServicesDep = Annotated[Services, Depends(_services)]

"""Builds queue, leases, store and catalogue from Settings.

The only file that names implementations. Knows no job and no request.
"""

from collections.abc import Mapping
from urllib.parse import urlsplit

from model.catalog import PipelineSpec, load_catalog
from model.checkpoints.checksums import missing_files, require_files
from model.errors import UnsupportedSampling
from model.text.tokenizer import CaptionTokenizer, load_tokenizer
from service.errors import ServiceError, Unavailable
from service.queue.leases import RedisLeases
from service.queue.redis import RedisJobQueue
from service.settings import Settings
from service.store.filesystem import FilesystemStore
from service.store.protocol import ImageStore

LEASE_RETRIES = 3


def build_queue(settings: Settings) -> RedisJobQueue:
    """The API's side of the queue.

    Raises:
        ServiceError: no Redis is configured, or its URL is not valid.
    """
    return RedisJobQueue(
        _redis_url(settings), prefix=settings.redis.prefix, settings=settings.queue
    )


def build_leases(settings: Settings, worker_id: str) -> RedisLeases:
    """A worker's side of the queue, with connections of its own.

    Its calls give up soon, since the worker's threads repeat them themselves.

    Raises:
        ServiceError: no Redis is configured, or its URL is not valid.
    """
    return RedisLeases(
        _redis_url(settings),
        worker=worker_id,
        prefix=settings.redis.prefix,
        settings=settings.queue,
        retries=LEASE_RETRIES,
    )


def require_redis(settings: Settings) -> None:
    """Returns when Redis answers.

    Raises:
        ServiceError: no Redis is configured, or it can't be reached.
    """
    leases = build_leases(settings, "probe")
    try:
        leases.ping()
    except Unavailable as error:
        host = urlsplit(_redis_url(settings))._replace(query="")
        shown = host._replace(netloc=host.netloc.rpartition("@")[2]).geturl()  # without a password
        raise Unavailable(f"Redis can't be reached at {shown}.") from error
    finally:
        leases.close()


def build_store(settings: Settings) -> ImageStore:
    """Where finished images are kept."""
    return FilesystemStore(settings.store.path)


def build_catalog(settings: Settings) -> Mapping[str, PipelineSpec]:
    """Every pipeline that the settings name, by name.

    Raises:
        CheckpointError: a pipeline's description is damaged.
    """
    return load_catalog((settings.models.home, *settings.models.folders))


def build_tokenizers(catalog: Mapping[str, PipelineSpec]) -> Mapping[str, CaptionTokenizer]:
    """A tokenizer for each pipeline that reads captions.

    Raises:
        CheckpointError: a tokenizer is missing or damaged.
    """
    return {name: load_tokenizer(spec) for name, spec in catalog.items() if spec.context}


def served_specs(settings: Settings) -> tuple[PipelineSpec, ...]:
    """The pipelines that a worker serves: those that the settings name, else all that have files.

    Raises:
        CheckpointError: a pipeline's description is damaged, or files of one that is named are
            missing.
        UnsupportedSampling: the settings name a pipeline that is nowhere, or there is none at all.
    """
    catalog = build_catalog(settings)
    names = settings.worker.models or tuple(
        name for name, spec in catalog.items() if not missing_files(spec)
    )
    missing = [name for name in names if name not in catalog]
    if missing or not names:
        known = ", ".join(sorted(catalog)) or "none"
        wanted = ", ".join(missing) or "to serve"
        raise UnsupportedSampling(f"There is no pipeline {wanted}; there are: {known}.")
    specs = tuple(catalog[name] for name in names)
    for spec in specs:
        require_files(spec)
    return specs


def _redis_url(settings: Settings) -> str:
    if settings.redis.url is None:
        raise ServiceError(
            "No Redis is configured: set GLIDE_REDIS__URL, or start everything with `glide serve`."
        )
    return settings.redis.url

"""Fixtures for every part that needs a queue: one real server, a key prefix for each test."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from service.queue.embedded import EmbeddedRedis
from tests import vocabularies as vocabularies  # takes its variable before any test starts

# How long an example takes is the machine's business.
settings.register_profile(
    "any-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any-machine")


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of the one server of this run."""
    data: Path = tmp_path_factory.mktemp("redis")
    with EmbeddedRedis(data, maxmemory_mb=128) as server:
        yield server.url


@pytest.fixture
def redis_prefix() -> str:
    """A key prefix that no other test has."""
    return f"test-{secrets.token_hex(6)}:{{q}}:"

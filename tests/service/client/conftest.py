"""Both clients behind one face, so that every test is run with each."""

import asyncio
import contextlib
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from service.client import AsyncGlideClient, GlideClient
from service.settings import RedisSettings
from tests.service.client.flaky_proxy import FlakyProxy
from tests.service.live_api import LiveApi, Worker, live_api

MakeClient = Callable[..., Any]


class Driven:
    """An asynchronous client whose methods a test calls without awaiting."""

    def __init__(self, client: AsyncGlideClient, runner: asyncio.Runner) -> None:
        self._client, self._runner = client, runner

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        def call(*args: Any, **options: Any) -> Any:
            result = method(*args, **options)
            return self._each(result) if inspect.isasyncgen(result) else self._run(result)

        return call

    def _run(self, awaitable: Any) -> Any:
        async def awaited() -> Any:
            return await awaitable

        return self._runner.run(awaited())

    def _each(self, generator: Any) -> Iterator[Any]:
        try:
            while True:
                try:
                    yield self._run(anext(generator))
                except StopAsyncIteration:
                    return
        finally:
            self._run(generator.aclose())


def _pausing(sleep: Callable[[float], None]) -> Callable[[float], Any]:
    async def pause(seconds: float) -> None:
        sleep(seconds)

    return pause


@pytest.fixture(params=["blocking", "asynchronous"])
def make_client(request: pytest.FixtureRequest) -> Iterator[MakeClient]:
    """Makes clients of one kind; `sleep` is a plain function for both."""
    with contextlib.ExitStack() as stack:

        def blocking(url: str, **options: Any) -> GlideClient:
            return stack.enter_context(GlideClient(url, **options))

        def asynchronous(url: str, **options: Any) -> Driven:
            if "sleep" in options:
                options["sleep"] = _pausing(options["sleep"])
            runner = stack.enter_context(asyncio.Runner())
            client = Driven(AsyncGlideClient(url, **options), runner)
            stack.callback(client.aclose)
            return client

        yield blocking if request.param == "blocking" else asynchronous


@pytest.fixture
def pauses() -> list[float]:
    """How long clients of `patient` paused, s."""
    return []


@pytest.fixture
def patient(make_client: MakeClient, pauses: list[float]) -> MakeClient:
    """Makes clients that try three times and don't really pause."""
    return lambda url: make_client(url, attempts=3, sleep=pauses.append)


@pytest.fixture
def redis(redis_url: str, redis_prefix: str) -> RedisSettings:
    return RedisSettings(url=redis_url, prefix=redis_prefix)


@pytest.fixture
def api(redis: RedisSettings, tmp_path: Path) -> Iterator[LiveApi]:
    with live_api(redis, tmp_path, max_wait_s=5) as api:
        yield api


@pytest.fixture
def worker(api: LiveApi) -> Worker:
    return Worker(api)


@pytest.fixture
def client(api: LiveApi, make_client: MakeClient) -> Any:
    return make_client(api.url)


@pytest.fixture
def proxy(api: LiveApi) -> FlakyProxy:
    return FlakyProxy(api.url)


@pytest.fixture
def proxied(proxy: FlakyProxy, make_client: MakeClient) -> Iterator[Any]:
    """A client that reaches the server through `proxy`."""
    with proxy.serve() as url:
        client = make_client(url, sleep=lambda _: None)
        yield client

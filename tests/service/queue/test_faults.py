"""Lost replies, and a Redis that can't be reached."""

import asyncio
import os
import signal
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from redis import Redis

from service.errors import ServiceError, Unavailable
from service.jobs import Job, JobStatus, new_job_id
from service.queue.embedded import EmbeddedRedis
from service.queue.leases import RedisLeases
from service.queue.presence import WorkerPresence
from service.queue.redis import RedisJobQueue
from service.queue.scripts import sources
from service.settings import QueueSettings
from tests.service.queue.making import MODELS, OOM, image, new_job, pause, place_of


class LossyProxy:
    """Between a client and the server: commands reach Redis, but the next reply can be lost."""

    def __init__(self, upstream: str, path: Path) -> None:
        self._upstream = upstream
        self.path = path
        self.lose_next_reply = False
        self.lost = 0
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._sockets = [self._listener]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        for end in self._sockets:
            hang_up(end)
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            server.connect(self._upstream)
            self._sockets += [client, server]
            for source, sink, is_reply in ((client, server, False), (server, client, True)):
                pump = threading.Thread(target=self._pump, args=(source, sink, is_reply))
                self._threads.append(pump)
                pump.start()

    def _pump(self, source: socket.socket, sink: socket.socket, is_reply: bool) -> None:
        while True:
            try:
                data = source.recv(65536)
                if is_reply and data and self.lose_next_reply:
                    self.lose_next_reply, data = False, b""
                    self.lost += 1
                if not data:
                    break
                sink.sendall(data)
            except OSError:
                break
        hang_up(source)
        hang_up(sink)


def hang_up(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()


@pytest.fixture
def proxy(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LossyProxy]:
    path = Path(unquote(urlsplit(redis_url).path)).with_name(f"proxy-{new_job_id()[-6:]}.sock")
    proxy = LossyProxy(unquote(urlsplit(redis_url).path), path)
    yield proxy
    proxy.close()
    path.unlink()


async def test_a_call_whose_reply_is_lost_has_its_effect_once(
    queue: RedisJobQueue,
    proxy: LossyProxy,
    redis: Redis,
    redis_prefix: str,
    settings: QueueSettings,
) -> None:
    for source in sources().values():  # else the lost reply might be that a script is unknown
        redis.script_load(source)
    url = f"unix://{proxy.path}"
    lossy_queue = RedisJobQueue(url, prefix=redis_prefix, settings=settings)
    lossy = RedisLeases(url, worker="lossy", prefix=redis_prefix, settings=settings)
    warm = await lossy_queue.submit(new_job(model="warm-up"))
    (lease,) = lossy.lease(["warm-up"], 1)
    lossy.image(warm.id, lease.token, image())
    lossy.release(warm.id, lease.token)

    proxy.lose_next_reply = True
    job = await lossy_queue.submit(new_job())
    assert job.status is JobStatus.QUEUED

    proxy.lose_next_reply = True
    (lease,) = lossy.lease(MODELS, 1)
    assert (lease.job.id, lease.job.attempt) == (job.id, 1)
    assert lossy.lease(MODELS, 1) == []

    proxy.lose_next_reply = True
    assert lossy.fail(job.id, lease.token, OOM, 0.0) == "ok"
    while not (leases := lossy.lease(MODELS, 1)):
        await pause()
    assert leases[0].job.attempt == 2

    proxy.lose_next_reply = True
    assert lossy.image(job.id, leases[0].token, image()) == "ok"
    proxy.lose_next_reply = True
    assert lossy.release(job.id, leases[0].token) == "ok"
    (last,) = lossy.lease(MODELS, 1)
    proxy.lose_next_reply = True
    assert lossy.finish(job.id, last.token) == "ok"
    assert proxy.lost == 6

    done = await queue.get(job.id)
    assert done is not None
    assert (done.status, done.attempt, done.images) == (JobStatus.SUCCEEDED, 3, (image(),))
    names = [event.name for _, event in await queue.events(job.id)]
    again = ["queued", "started"]
    assert names == [*again, *again, "image", *again, "progress", "succeeded"]

    proxy.lose_next_reply = True
    assert await lossy_queue.delete(job.id) == done  # so that its caller can remove the files
    assert proxy.lost == 7
    assert await queue.get(job.id) is None
    lossy.close()
    await lossy_queue.aclose()


async def test_an_unanswered_lease_call_is_repeated_by_the_next_one(
    queue: RedisJobQueue, proxy: LossyProxy, redis_prefix: str, settings: QueueSettings
) -> None:
    lossy = RedisLeases(
        f"unix://{proxy.path}", worker="w", prefix=redis_prefix, settings=settings, retries=0
    )
    assert lossy.lease(MODELS, 1) == []
    job = await queue.submit(new_job())
    proxy.lose_next_reply = True
    with pytest.raises(Unavailable):
        lossy.lease(MODELS, 1)
    (lease,) = lossy.lease(MODELS, 1)
    assert (lease.job.id, lease.job.attempt) == (job.id, 1)
    assert lossy.renew([(job.id, lease.token, 1)]) == {job.id: "ok"}
    lossy.close()


QueueCall = Callable[[RedisJobQueue], Awaitable[object]]
WorkerCall = Callable[[RedisLeases], object]


@pytest.mark.parametrize("url", ["unix:///nowhere/redis.sock", "redis://127.0.0.1:1/0"])
@pytest.mark.parametrize(
    "call",
    [
        lambda queue: queue.submit(new_job()),
        lambda queue: queue.get(new_job_id()),
        lambda queue: queue.list("default"),
        lambda queue: queue.cancel(new_job_id(), "x"),
        lambda queue: queue.events(new_job_id()),
        lambda queue: anext(queue.follow(new_job_id())),
        lambda queue: queue.wait(new_job_id(), 1),
        lambda queue: place_of(queue, new_job_id()),
        lambda queue: queue.workers(),
        lambda queue: queue.backlog("scenes"),
        lambda queue: queue.tenant("default"),
        lambda queue: queue.set_tenant("default", weight=2.0, concurrency=1),
        lambda queue: queue.delete(new_job_id()),
        lambda queue: queue.ping(),
    ],
)
async def test_the_api_hears_that_redis_is_down(url: str, call: QueueCall) -> None:
    queue = RedisJobQueue(url)
    with pytest.raises(Unavailable) as unavailable:
        await call(queue)
    assert unavailable.value.retry_after_s
    await queue.aclose()


@pytest.mark.parametrize(
    "call",
    [
        lambda worker: worker.lease(MODELS, 1),
        lambda worker: worker.wait(MODELS, 0.01),
        lambda worker: worker.renew([("job", "token", 1)]),
        lambda worker: worker.finish("job", "token"),
        lambda worker: worker.fail("job", "token", OOM, None),
        lambda worker: worker.release("job", "token"),
        lambda worker: worker.image("job", "token", image()),
        lambda worker: worker.announce(WorkerPresence(id="w", models=MODELS)),
        lambda worker: worker.abandon("w"),
        lambda worker: worker.ping(),
    ],
)
def test_a_worker_hears_that_redis_is_down(call: WorkerCall) -> None:
    worker = RedisLeases("unix:///nowhere/redis.sock", worker="w", retries=1)
    with pytest.raises(Unavailable) as unavailable:
        call(worker)
    assert unavailable.value.retry_after_s
    worker.close()


def test_a_url_of_no_redis_is_a_clear_error() -> None:
    for make in (lambda: RedisJobQueue("http://x"), lambda: RedisLeases("http://x", worker="w")):
        with pytest.raises(ServiceError, match="Redis URL"):
            make()


async def test_a_killed_redis_is_unavailable_until_it_is_back_and_loses_nothing(
    tmp_path: Path,
) -> None:
    # A lease shorter than the outage, and a heartbeat that gives its owner time to come back.
    settings = QueueSettings(lease_s=1, heartbeat_s=5)
    with EmbeddedRedis(tmp_path) as server:
        queue = RedisJobQueue(server.url, settings=settings)
        owner = RedisLeases(server.url, worker="owner", settings=settings, retries=1)
        other = RedisLeases(server.url, worker="other", settings=settings, retries=1)
        running = await queue.submit(new_job())
        (lease,) = owner.lease(MODELS, 1)
        waiting = await queue.submit(new_job())
        following = asyncio.create_task(queue.wait(waiting.id, 60))
        await asyncio.sleep(0.05)

        os.kill(server.pid, signal.SIGKILL)
        while server.is_alive:
            await pause()
        with pytest.raises(Unavailable):
            await queue.get(running.id)
        with pytest.raises(Unavailable):
            owner.renew([(running.id, lease.token, 1)])
        with pytest.raises(Unavailable):
            await following
        await asyncio.sleep(1.0)
        server.start()

        # The lease ran out while nobody could renew it; its owner lives and keeps the job.
        assert [taken.job.id for taken in other.lease(MODELS, 9)] == [waiting.id]
        assert owner.renew([(running.id, lease.token, 2)]) == {running.id: "ok"}
        assert owner.finish(running.id, lease.token) == "ok"
        done = await queue.get(running.id)
        assert done is not None
        assert (done.status, done.attempt) == (JobStatus.SUCCEEDED, 1)
        await queue.aclose()
        owner.close()
        other.close()


async def test_a_full_redis_refuses_submissions_and_lets_running_jobs_end(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path, maxmemory_mb=4) as server:
        queue = RedisJobQueue(server.url)
        worker = RedisLeases(server.url, worker="w", retries=1)
        accepted: list[Job] = []

        async def submit_until_refused() -> None:
            while True:
                accepted.append(await queue.submit(new_job(negative_prompt="x" * 30_000)))

        with pytest.raises(Unavailable, match="full"):
            await submit_until_refused()
        leases = worker.lease(MODELS, len(accepted) + 1)
        assert [lease.job.id for lease in leases] == [job.id for job in accepted]
        held = [(lease.job.id, lease.token, 3) for lease in leases]
        assert set(worker.renew(held).values()) == {"ok"}
        assert worker.image(held[0][0], held[0][1], image()) == "ok"
        assert worker.finish(held[0][0], held[0][1]) == "ok"
        assert worker.fail(held[1][0], held[1][1], OOM, None) == "ok"
        assert worker.release(held[2][0], held[2][1]) == "ok"
        canceled = await queue.cancel(held[2][0], "x")
        assert canceled is not None
        assert canceled.status is JobStatus.CANCELED
        await queue.aclose()
        worker.close()

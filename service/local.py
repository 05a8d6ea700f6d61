"""`glide serve`: the embedded Redis, the API, a worker and webhooks of one machine, supervised.

Each part is a process of its own, so that a crash of one leaves the others alone; one that dies is
started again after a pause, and a dead worker's jobs go back to the queue at once. Never loads
torch.
"""

import contextlib
import ctypes
import json
import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from service.errors import ServiceError, Unavailable
from service.queue.embedded import EmbeddedRedis
from service.settings import Settings
from service.wiring import build_leases, require_redis

PAUSE_S = 0.1
FIRST_RESTART_S, LONGEST_RESTART_S = 0.5, 30.0
STEADY_S = 60.0
"""Who lived for this long gets the shortest pause again."""
API_STOP_S = 10.0
WEBHOOKS_STOP_S = 10.0
_PR_SET_PDEATHSIG = 1
_PACKAGE_ROOT = Path(__file__).parent.parent

logger = logging.getLogger(__name__)


class StartFailed(ServiceError):
    """A part gave up before the service was ready; it has said why on standard error."""

    code = "start_failed"
    title = "The service could not start"


@dataclass(slots=True)
class _Part:
    """A supervised process; `worker_id` is set for workers."""

    name: str
    process: subprocess.Popen[bytes]
    started_at_s: float
    worker_id: str | None = None


class LocalService:
    """Everything that one machine needs to serve, as a context manager.

    Args:
        settings: of the whole; children get the same through their environment.
        clock: seconds that never go back.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._asked = settings
        self._settings = settings
        self._clock = clock
        self._resources = contextlib.ExitStack()
        self._socket: socket.socket | None = None
        self._redis: EmbeddedRedis | None = None
        self._parts: dict[str, _Part] = {}
        self._restarts: dict[str, float] = {}
        self._pauses: dict[str, float] = {}
        self._stopping = False  # no Event: its lock is not safe in a signal handler
        self._lock = threading.Lock()  # `close` waits for a tick, and no tick follows it
        self._ready = False

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def url(self) -> str:
        """Where the API answers."""
        assert self._socket is not None
        host, port = self._socket.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        return f"http://{shown}:{port}"

    def pid(self, part: str) -> int | None:
        """Process id of `api`, `worker` or `webhooks`, or None while there is none."""
        found = self._parts.get(part)
        return None if found is None else found.process.pid

    def start(self) -> None:
        """Binds the port, then starts Redis, API, worker and webhooks.

        Raises:
            ServiceError: the port is in use, or Redis can't be started or reached.
        """
        settings = self._asked
        self._socket = self._resources.enter_context(bind(settings.api.host, settings.api.port))
        if settings.redis.url is None:
            self._redis = self._resources.enter_context(EmbeddedRedis(settings.data))
            redis = settings.redis.model_copy(update={"url": self._redis.url})
            settings = settings.model_copy(update={"redis": redis})
        self._settings = settings
        self._http = self._resources.enter_context(httpx.Client(timeout=2.0, trust_env=False))
        require_redis(settings)
        self._start("api")
        self._start("worker")
        self._start("webhooks")

    def wait_ready(self) -> bool:
        """Supervises until a job could be finished; False when `stop` came first.

        Raises:
            StartFailed: a part gave up.
        """
        while not self._stopping:
            self.tick()
            if self._ready:
                return True
            time.sleep(PAUSE_S)
        return False

    def run(self) -> None:
        """Supervises until `stop`."""
        while not self._stopping:
            self.tick()
            time.sleep(PAUSE_S)

    def stop(self) -> None:
        """Ends `run` and `wait_ready`; safe to call from a signal handler and from any thread."""
        self._stopping = True

    def tick(self) -> None:
        """Buries the dead, starts again what is due, and notices when the service is ready.

        Raises:
            StartFailed: a part gave up before the service was ever ready.
            ServiceError: the embedded Redis died and can't be started again.
        """
        with self._lock:
            if not self._stopping:
                self._look_after_all()

    def close(self) -> None:
        """Stops the worker, which drains, then webhooks, which tell of that, the API and Redis."""
        self._stopping = True
        with self._lock:
            self._end("worker", self._settings.worker.drain_s + 10)
            self._end("webhooks", WEBHOOKS_STOP_S)
            self._end("api", API_STOP_S)
            self._resources.close()

    def _look_after_all(self) -> None:
        if self._redis is not None and not self._redis.is_alive:
            logger.error("part died", extra={"part": "redis"})
            self._redis.start()  # at the same address, with its data
        for part in list(self._parts.values()):
            status = part.process.poll()
            if status is not None:
                self._bury(part, status)
        for name, due_s in list(self._restarts.items()):
            if self._clock() >= due_s:
                del self._restarts[name]
                self._start(name)
        self._ready = self._ready or self._answers_ready()

    def _start(self, name: str) -> None:
        worker_id = f"local-{secrets.token_hex(4)}" if name == "worker" else None
        arguments = [sys.executable, "-m", "service.cli.main", name, "--parent", str(os.getpid())]
        pass_fds: tuple[int, ...] = ()
        if worker_id is not None:
            arguments += ["--id", worker_id]
        if name == "api":
            assert self._socket is not None
            pass_fds = (self._socket.fileno(),)
            arguments += ["--fd", str(self._socket.fileno())]
        process = subprocess.Popen(
            arguments,
            env=environment(self._settings),
            stdin=subprocess.DEVNULL,
            pass_fds=pass_fds,
            start_new_session=True,  # Ctrl-C reaches the supervisor alone, which ends all in order
        )
        self._parts[name] = _Part(name, process, self._clock(), worker_id)

    def _bury(self, part: _Part, status: int) -> None:
        del self._parts[part.name]
        if status > 0 and not self._ready:
            raise StartFailed(f"The {part.name} gave up with status {status}.")
        if part.worker_id is not None:
            self._abandon(part.worker_id)
        steady = self._clock() - part.started_at_s > STEADY_S
        pause_s = FIRST_RESTART_S if steady else self._pauses.get(part.name, FIRST_RESTART_S)
        self._pauses[part.name] = min(2 * pause_s, LONGEST_RESTART_S)
        self._restarts[part.name] = self._clock() + pause_s
        logger.error("part died", extra={"part": part.name, "status": status, "restart_s": pause_s})

    def _abandon(self, worker_id: str) -> None:
        """Gives a dead worker's jobs back now; if Redis is away, their leases run out instead."""
        leases = build_leases(self._settings, "supervisor")
        with contextlib.suppress(Unavailable):
            leases.abandon(worker_id)
        leases.close()

    def _end(self, name: str, patience_s: float) -> None:
        part = self._parts.pop(name, None)
        if part is None:
            return
        with contextlib.suppress(ProcessLookupError):
            part.process.send_signal(signal.SIGTERM)
        try:
            part.process.wait(patience_s)
        except subprocess.TimeoutExpired:
            logger.error("part does not end", extra={"part": name})
            part.process.kill()
            part.process.wait()

    def _answers_ready(self) -> bool:
        try:
            return self._http.get(f"{self.url}/readyz").status_code == 200
        except httpx.HTTPError:
            return False


def bind(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        ServiceError: the address is in use or not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        hint = ": choose another with --port" if port else ""
        reason = (error.strerror or str(error)).lower()
        raise ServiceError(f"Port {port} of {host} can't be opened, {reason}{hint}.") from error


def with_data_folder(settings: Settings, data: Path) -> Settings:
    """Settings whose Redis and images live below `data`."""
    store = settings.store.model_copy(update={"path": data / "images"})
    return settings.model_copy(update={"data": data, "store": store})


def environment(settings: Settings) -> dict[str, str]:
    """This process's environment, with every setting spelled out."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GLIDE_")}
    paths = [str(_PACKAGE_ROOT), *filter(None, [kept.get("PYTHONPATH")])]
    return {**kept, "PYTHONPATH": os.pathsep.join(paths), **dict(_variables(settings))}


def _variables(settings: Settings) -> Iterator[tuple[str, str]]:
    record: Mapping[str, Any] = settings.model_dump(mode="json")
    for group, value in record.items():
        members = value.items() if isinstance(value, dict) else ((None, value),)
        for name, member in members:
            if member is None:
                continue
            variable = f"GLIDE_{group}" if name is None else f"GLIDE_{group}__{name}"
            yield variable.upper(), member if isinstance(member, str) else json.dumps(member)


def die_with(parent_pid: int) -> None:
    """Asks Linux to end this process when its parent is killed and can't end it in good order."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent_pid:
        sys.exit("glide: the parent has gone")

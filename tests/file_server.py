"""A real HTTP server of a folder, which can break off, change a file or refuse, as servers do."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread


@dataclass
class FileServer:
    """What it serves, how it misbehaves, and what it was asked.

    Attributes:
        folder: its files.
        url: where it listens.
        cuts: after so many bytes of a file it breaks off, once for each number.
        claims: sizes that it claims for files that are not so large.
        statuses: answers to give before it serves a file, by its name.
        marked: whether it says which version a file is of.
        requests: every request's method, name and range.
    """

    folder: Path
    url: str = ""
    cuts: dict[str, list[int]] = field(default_factory=dict)
    claims: dict[str, int] = field(default_factory=dict)
    statuses: dict[str, list[int]] = field(default_factory=dict)
    marked: bool = True
    requests: list[tuple[str, str, str]] = field(default_factory=list)

    def fetched(self, name: str) -> list[str]:
        """The range of every GET of a file; empty for the whole."""
        return [span for method, asked, span in self.requests if (method, asked) == ("GET", name)]


@contextmanager
def file_server(folder: Path) -> Iterator[FileServer]:
    """Serves a folder on a free port of this machine."""
    server = FileServer(folder)

    class Handler(_Handler):
        files = server

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.url = f"http://127.0.0.1:{listener.server_port}"
    thread = Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        listener.shutdown()
        listener.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    files: FileServer

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        files, name = self.files, self.path.rpartition("/")[2]
        span = self.headers.get("Range", "")
        files.requests.append((self.command, name, span))
        path = files.folder / name
        if files.statuses.get(name) and body:
            self.send_error(files.statuses[name].pop(0))
        elif path.is_file():
            self._send(path, span, body=body)
        else:
            self.send_error(404)

    def _send(self, path: Path, span: str, *, body: bool) -> None:
        stat = path.stat()
        size = self.files.claims.get(path.name, stat.st_size)
        mark = f'"{stat.st_mtime_ns:x}-{stat.st_size:x}"'
        match = re.fullmatch(r"bytes=(\d+)-", span)
        start = int(match[1]) if match and self.headers.get("If-Range") == mark else 0
        if start >= size > 0:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{size}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        if self.files.marked:
            self.send_header("ETag", mark)
        self.send_header("Content-Length", str(size - start))
        self.end_headers()
        if body:
            self._send_body(path, start)

    def _send_body(self, path: Path, start: int) -> None:
        cuts = self.files.cuts.get(path.name, [])
        end = cuts.pop(0) if cuts else path.stat().st_size
        with path.open("rb") as file:
            file.seek(start)
            while (left := end - file.tell()) > 0:
                chunk = file.read(min(left, 1 << 18))
                if not chunk:
                    break
                self.wfile.write(chunk)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing: a test's output is the test's."""

"""A way to a server on which answers get lost and connections break, as a test says."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit


class FlakyProxy:
    """Passes bytes on between clients and one server.

    Attributes:
        lose: so many answers get lost from now on: the server has done what was asked, its
            client's connection ends, and nobody hears of it.
        cut_after: the next connections end after so many bytes of answers each.
        connections: made so far.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.port is not None
        self._server = (parts.hostname, parts.port)
        self.lose = 0
        self.cut_after: list[int] = []
        self.connections = 0

    @contextlib.contextmanager
    def serve(self) -> Iterator[str]:
        """Serves until the block ends, and gives the address."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            accepting = threading.Thread(target=self._accept, args=(listener,))
            accepting.start()
            try:
                yield f"http://127.0.0.1:{listener.getsockname()[1]}"
            finally:
                listener.shutdown(socket.SHUT_RDWR)
                accepting.join()

    def _accept(self, listener: socket.socket) -> None:
        threads = []
        with contextlib.ExitStack() as stack:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    break
                self.connections += 1
                server = stack.enter_context(socket.create_connection(self._server))
                stack.enter_context(client)
                for work in ((self._pass_requests, client, server), (self._pass, server, client)):
                    threads.append(threading.Thread(target=work[0], args=work[1:]))
                    threads[-1].start()
                stack.callback(_end, client)
                stack.callback(_end, server)
        for thread in threads:
            thread.join()

    def _pass_requests(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(1 << 16):
                server.sendall(data)
        _end(server)

    def _pass(self, server: socket.socket, client: socket.socket) -> None:
        left = self.cut_after.pop(0) if self.cut_after else None
        with contextlib.suppress(OSError):
            while data := server.recv(1 << 16):
                if self.lose:
                    self.lose -= 1
                    break
                client.sendall(data if left is None else data[:left])
                if left is not None:
                    left -= len(data)
                    if left <= 0:
                        break
        _end(client)
        _end(server)


def _end(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)

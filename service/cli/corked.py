"""A transport that sends what is written in one turn of the event loop with one system call.

uvicorn writes the head of a response and its body apart; that costs a second system call, and a
second packet, for every answer. Knows no HTTP.
"""

import asyncio
from typing import Any


class CorkedTransport:
    """Stands for `transport`, and holds back what is written until the loop's turn ends."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._held: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Sends `data` with whatever else is written before the loop goes on."""
        if not self._held:
            self._loop.call_soon(self._flush)
        self._held.append(data)

    def close(self) -> None:
        """Ends the connection once all that was written is sent."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        held, self._held = self._held, []
        if held and not self._transport.is_closing():
            self._transport.write(held[0] if len(held) == 1 else b"".join(held))

"""A TCP proxy on loopback that cuts connections on demand, as a bad network does."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

_BLOCK = 65_536


@dataclass
class CuttingProxy:
    """Passes bytes on to `target_port`; `cut()` resets all that is open."""

    target_port: int
    port: int = 0
    accepted: int = 0
    _open: set[asyncio.StreamWriter] = field(default_factory=set)
    _server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server:
            self._server.close()
        self.cut()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cut(self) -> int:
        """Reset every open connection; new ones are taken. Returns how many there were."""
        connections, self._open = self._open, set()
        for writer in connections:
            writer.transport.abort()
        return len(connections)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        try:
            upstream = await asyncio.open_connection("127.0.0.1", self.target_port)
        except OSError:
            writer.transport.abort()
            return
        self._open |= {writer, upstream[1]}
        try:
            await asyncio.gather(_pass_on(reader, upstream[1]), _pass_on(upstream[0], writer))
        finally:
            self._open -= {writer, upstream[1]}
            for each in (writer, upstream[1]):
                each.transport.abort()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while block := await reader.read(_BLOCK):
            writer.write(block)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()

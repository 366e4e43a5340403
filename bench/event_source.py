"""A browser's `EventSource` without the browser: thousands of them in one process.

As the HTML standard has it: keeps the last event id, and after a connection is lost it waits and
comes back with `Last-Event-ID`; any answer but a 200 with events ends it for good.
"""

import asyncio
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import cast

# What Chromium waits, unless the server sends `retry`.
DEFAULT_RETRY_S = 3.0


class EventParser:
    """Bytes of an event stream, however they are split, into messages.

    `last_event_id` and `retry_s` are what the stream has set so far.
    """

    def __init__(self) -> None:
        self.last_event_id = ""
        self.retry_s: float | None = None
        self._rest = b""
        self._id = ""
        self._data: list[bytes] = []
        self._is_first = True
        self._ended_with_cr = False

    def feed(self, block: bytes) -> list[bytes]:
        """Return the data of each message that is complete, in order."""
        if self._is_first and block:
            # A byte order mark comes whole here: it is the first thing that a server writes.
            block = block.removeprefix(b"\xef\xbb\xbf")
            self._is_first = False
        if self._ended_with_cr and block:
            block = block.removeprefix(b"\n")
            self._ended_with_cr = False
        if b"\r" in block:
            self._ended_with_cr = block.endswith(b"\r")
            block = block.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, self._rest = (self._rest + block).split(b"\n")
        messages: list[bytes] = []
        for line in lines:
            if not line:
                self.last_event_id = self._id
                if self._data:
                    messages.append(b"\n".join(self._data))
                    self._data = []
            else:
                self._feed_line(line)
        return messages

    def reconnect(self) -> None:
        """Forget the message that the lost connection left unfinished."""
        self._rest = b""
        self._id = self.last_event_id
        self._data = []
        self._is_first = True
        self._ended_with_cr = False

    def _feed_line(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
        elif name == b"id" and b"\0" not in value:
            self._id = value.decode()
        elif name == b"retry" and value.isdigit():
            self.retry_s = int(value) / 1000


class ChunkedBody:
    """Takes the chunks of an HTTP body apart, however they are split."""

    def __init__(self) -> None:
        self.is_complete = False
        self._buffer = b""

    def feed(self, block: bytes) -> bytes:
        """Return what the chunks hold that are complete. Raises ValueError for other bodies."""
        buffer = self._buffer + block if self._buffer else block
        content: list[bytes] = []
        position = 0
        while (line_end := buffer.find(b"\r\n", position)) >= 0:
            size = int(buffer[position:line_end].partition(b";")[0], 16)
            chunk_end = line_end + 2 + size
            if len(buffer) < chunk_end + 2:
                break
            if size == 0:
                self.is_complete = True
            content.append(buffer[line_end + 2 : chunk_end])
            position = chunk_end + 2
        self._buffer = buffer[position:]
        return b"".join(content)


class State(StrEnum):
    CONNECTING = "connecting"
    OPEN = "open"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a request goes. `target` is path and query."""

    host: str
    port: int
    target: str


@dataclass(eq=False)
class EventSource:
    """Reads one stream until `close()`, or until the server says so; then calls `on_closed`.

    `find_address` is asked for every connection: a load balancer may send it elsewhere.
    """

    find_address: Callable[[], Address]
    on_message: Callable[[bytes], None] = lambda _: None
    on_closed: Callable[[], None] = lambda: None
    retry_s: float = DEFAULT_RETRY_S
    state: State = State.CONNECTING
    status: int | None = None  # of the last answer
    connections: int = 0
    _parser: EventParser = field(default_factory=EventParser)
    _transport: asyncio.Transport | None = None
    _task: asyncio.Task[None] | None = None

    def connect(self) -> None:
        self._task = asyncio.create_task(self._connect())

    async def _connect(self) -> None:
        address = self.find_address()
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(
                lambda: _Wire(self, address, self._parser), address.host, address.port
            )
        except OSError:
            self.lost()

    def opened(self, transport: asyncio.Transport) -> None:
        self.connections += 1
        self._transport = transport
        if self.state is State.CLOSED:
            transport.abort()

    def lost(self) -> None:
        """The connection ended, whoever ended it."""
        self._transport = None
        if self.state is State.CLOSED:
            return
        self.state = State.CONNECTING
        self._parser.reconnect()
        wait_s = self.retry_s if self._parser.retry_s is None else self._parser.retry_s
        asyncio.get_running_loop().call_later(wait_s, self._reconnect)

    def _reconnect(self) -> None:
        if self.state is not State.CLOSED:
            self.connect()

    def cut(self) -> bool:
        """Lose the connection as a bad network does. Returns whether there was one."""
        if self._transport is None:
            return False
        reset(self._transport)
        return True

    def close(self) -> None:
        if self.state is not State.CLOSED:
            self.state = State.CLOSED
            if self._transport is not None:
                self._transport.abort()
            self.on_closed()


class _Wire(asyncio.Protocol):
    """One HTTP connection of an EventSource."""

    def __init__(self, source: EventSource, address: Address, parser: EventParser) -> None:
        self._source = source
        self._address = address
        self._parser = parser
        self._head = b""
        self._body: ChunkedBody | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none by type.
        self._transport = cast(asyncio.Transport, transport)
        address = self._address
        lines = [
            f"GET {address.target} HTTP/1.1",
            f"Host: {address.host}:{address.port}",
            "Accept: text/event-stream",
            "Cache-Control: no-cache",
        ]
        if self._parser.last_event_id:
            lines.append(f"Last-Event-ID: {self._parser.last_event_id}")
        self._transport.write("\r\n".join([*lines, "", ""]).encode())
        self._source.opened(self._transport)

    def data_received(self, data: bytes) -> None:
        if self._body is None:
            self._head += data
            head, end, data = self._head.partition(b"\r\n\r\n")
            if not end:
                return
            self._source.status = int(head.split(b" ", 2)[1])
            if self._source.status != 200 or b"text/event-stream" not in head.lower():
                self._source.close()
                return
            self._body = ChunkedBody()
            self._source.state = State.OPEN
        for message in self._parser.feed(self._body.feed(data)):
            # Whoever reads a message may close.
            if self._source.state is State.OPEN:
                self._source.on_message(message)
        if self._body.is_complete and self._source.state is State.OPEN:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._source.lost()


def reset(transport: asyncio.Transport) -> None:
    """Close with RST instead of FIN."""
    linger = struct.pack("ii", 1, 0)
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    transport.abort()

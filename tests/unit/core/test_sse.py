"""The responses that send frames: as they are written, with pings, their end in every case."""

import asyncio
import time
from collections.abc import AsyncGenerator
from functools import partial
from typing import Any

import pytest
from sse_starlette.sse import AppStatus
from starlette.types import Message

from app.core.sse import (
    PING_COMMENT,
    Alarm,
    Drain,
    EncodedStream,
    Frame,
    FrameStream,
    StreamTiming,
    encode_error,
    to_json_line,
    write_frames,
)

FAST = StreamTiming(ping_s=0.01, send_timeout_s=0.05)


class Source:
    """Gives what it was made of, and then waits for the interruption or ends."""

    def __init__(self, *chunks: bytes, ends: bool = True) -> None:
        self._chunks = list(chunks)
        self._ends = ends
        self._interrupted = asyncio.Event()
        self.closed = 0

    async def take(self, timeout_s: float) -> bytes | None:
        if self._chunks:
            return self._chunks.pop(0)
        if self._ends:
            return None
        try:
            async with asyncio.timeout(timeout_s):
                await self._interrupted.wait()
        except TimeoutError:
            return b""
        return None

    def interrupt(self) -> None:
        self._interrupted.set()

    async def aclose(self) -> None:
        self.closed += 1


class Client:
    """The other side: keeps what is sent, and leaves when it is told to."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.leaves = asyncio.Event()

    async def receive(self) -> Message:
        await self.leaves.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self.sent.append(message)

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)

    async def get(self, stream: EncodedStream | FrameStream, method: str = "GET") -> None:
        async with asyncio.timeout(5):
            await stream({"type": "http", "method": method}, self.receive, self.send)


async def test_chunks_are_sent_as_they_are_and_the_end_is_told() -> None:
    client, source = Client(), Source(b"id: 1\ndata: {}\n\n", b"id: 2\ndata: {}\n\n")
    await client.get(EncodedStream(source, FAST))
    start, *bodies = client.sent
    headers = dict(start["headers"])
    assert headers[b"content-type"].startswith(b"text/event-stream")
    assert headers[b"cache-control"] == b"no-cache, no-transform"
    assert headers[b"x-accel-buffering"] == b"no"
    assert b"content-length" not in headers
    assert [body["more_body"] for body in bodies] == [True, True, False]
    assert client.body == b"id: 1\ndata: {}\n\nid: 2\ndata: {}\n\n"
    assert source.closed == 1


async def test_a_reader_is_told_how_soon_to_come_back() -> None:
    client = Client()
    await client.get(EncodedStream(Source(b"x"), FAST, retry_ms=1000))
    assert client.body == b"retry: 1000\n\nx"


async def test_silence_is_covered_by_pings_until_the_reader_leaves() -> None:
    client, source = Client(), Source(ends=False)
    asking = asyncio.create_task(client.get(EncodedStream(source, FAST)))
    async with asyncio.timeout(5):
        while client.body.count(b'data: {"type":"ping"}\n\n') < 3:
            await asyncio.sleep(0.001)
    assert b"id:" not in client.body
    client.leaves.set()
    await asking
    assert source.closed == 1


async def test_pings_are_what_the_reader_can_skip() -> None:
    client, source = Client(), Source(ends=False)
    asking = asyncio.create_task(client.get(EncodedStream(source, FAST, ping=PING_COMMENT)))
    async with asyncio.timeout(5):
        while client.body.count(b": ping\n\n") < 2:
            await asyncio.sleep(0.001)
    client.leaves.set()
    await asking
    assert client.body.replace(b": ping\n\n", b"") == b""


async def test_who_drains_is_interrupted_once_the_server_stops(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    interrupted, too_late = asyncio.Event(), asyncio.Event()
    drain, closed = Drain(interrupted.set, 0.01), Drain(too_late.set, 0.0)
    monkeypatch.setattr(AppStatus, "should_exit", True)
    closed.close()
    async with asyncio.timeout(5):
        await interrupted.wait()
    drain.close()
    assert not too_late.is_set()


async def test_a_head_request_gets_the_headers_alone() -> None:
    client, source = Client(), Source(b"x", ends=False)
    await client.get(EncodedStream(source, FAST, retry_ms=1000), "HEAD")
    assert client.body == b""
    assert client.sent[-1]["more_body"] is False
    assert source.closed == 1


async def test_a_reader_that_does_not_read_is_dropped() -> None:
    class Stuck(Client):
        async def send(self, message: Message) -> None:
            await super().send(message)
            if message.get("body"):
                await asyncio.Event().wait()

    client, source = Stuck(), Source(b"x", ends=False)
    await client.get(EncodedStream(source, FAST))
    assert client.sent[-1]["more_body"] is True
    assert source.closed == 1


async def test_the_source_is_closed_when_the_response_is_cancelled() -> None:
    client, source = Client(), Source(ends=False)
    asking = asyncio.create_task(client.get(EncodedStream(source, StreamTiming())))
    while not client.sent:
        await asyncio.sleep(0)
    asking.cancel()
    await asyncio.wait([asking])
    assert source.closed == 1
    tasks = [task for task in asyncio.all_tasks() if "EncodedStream" in repr(task.get_coro())]
    await asyncio.wait(tasks) if tasks else None
    assert all(task.done() for task in tasks)


async def test_an_alarm_that_is_put_off_rings_once_and_late_enough() -> None:
    rung: list[float] = []
    alarm = Alarm(lambda: rung.append(time.monotonic()))
    began = time.monotonic()
    for step in range(20):
        alarm.set(began + 0.005 * step)
    async with asyncio.timeout(5):
        while not rung:
            await asyncio.sleep(0.001)
    assert rung[0] >= began + 0.095
    alarm.set(time.monotonic() + 60)
    alarm.set(time.monotonic() + 0.01)  # sooner
    async with asyncio.timeout(5):
        while len(rung) < 2:
            await asyncio.sleep(0.001)
    alarm.set(time.monotonic() + 0.005)
    alarm.clear()
    alarm.set(time.monotonic() + 0.005)
    alarm.close()
    await asyncio.sleep(0.02)
    assert len(rung) == 2


async def test_a_source_that_fails_is_closed_and_its_error_known() -> None:
    class Broken(Source):
        async def take(self, timeout_s: float) -> bytes | None:
            raise TimeoutError("of its own")

    source: Any = Broken()
    with pytest.raises(TimeoutError, match="of its own"):
        await Client().get(EncodedStream(source, FAST))
    assert source.closed == 1


class Frames:
    """Two frames; between them silence until the reader leaves, or `goes_on` is set."""

    def __init__(self) -> None:
        self.goes_on = asyncio.Event()
        self.closed = 0

    async def frames(self) -> AsyncGenerator[Frame]:
        yield {"type": "token", "token": "a\n"}
        await self.goes_on.wait()
        yield {"type": "done"}

    def interrupt(self) -> None:
        self.goes_on.set()

    async def aclose(self) -> None:
        self.closed += 1


async def test_frames_are_numbered_from_where_the_reader_left() -> None:
    for after, ids in ((0, (1, 2)), (41, (42, 43))):
        client, source = Client(), Frames()
        source.goes_on.set()
        await client.get(FrameStream(source, FAST, write=partial(write_frames, after=after)))
        first, last = ids
        assert client.body == (
            b'id: %d\ndata: {"type":"token","token":"a\\n"}\n\n'
            b'id: %d\ndata: {"type":"done"}\n\n' % (first, last)
        )
        assert source.closed == 1


async def test_frames_can_be_written_in_another_way_with_other_pings() -> None:
    closed = False

    async def write(frames: AsyncGenerator[Frame]) -> AsyncGenerator[bytes]:
        nonlocal closed
        try:
            async for frame in frames:
                yield b"data: %b\n\n" % frame["type"].encode()
        finally:
            closed = True

    for stream_of, ping in (
        (partial(FrameStream, ping=PING_COMMENT), b": ping\n\n"),
        (FrameStream, b'data: {"type":"ping"}\n\n'),
    ):
        client, source = Client(), Frames()
        getting = asyncio.create_task(client.get(stream_of(source, FAST, write=write)))
        async with asyncio.timeout(5):
            while client.body.count(ping) < 2:
                await asyncio.sleep(0.001)
        source.goes_on.set()
        await getting
        assert client.body.replace(ping, b"") == b"data: token\n\ndata: done\n\n"
        assert closed
        assert source.closed == 1


def test_json_is_one_line_of_ascii() -> None:
    line = to_json_line({"type": "token", "token": "a\r\n\u2028\x85\x00🌀", "offset": 0})
    assert line.isascii()
    assert len(line.splitlines()) == 1
    assert line.startswith('{"type":"token","token":"a')


def test_an_error_of_the_stream_has_no_id() -> None:
    frame = encode_error("token_revoked", "Gone.", is_retryable=False)
    assert frame.startswith(b'data: {"type":"error","code":"token_revoked"')
    assert frame.endswith(b'"retryable":false}\n\n')

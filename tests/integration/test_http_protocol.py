"""What comes over a socket and is no decent request: it ends with 400, and is not gathered."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterable

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from app.core.http_protocol import MAX_HEADER_BYTES, BoundedHttpProtocol

# More than the limit and than what a socket delivers at once.
_MUCH = 4 * 1024 * 1024
_CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


async def _count_body(scope: Scope, receive: Receive, send: Send) -> None:
    assert scope["type"] == "http"
    size = 0
    while True:
        message = await receive()
        size += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    body = str(size).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture(scope="module")
async def port() -> AsyncIterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(
            _count_body, http=BoundedHttpProtocol, lifespan="off", log_config=None
        )
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server._serve([listener]))
        while not server.started:
            await asyncio.sleep(0.01)
        yield listener.getsockname()[1]
        server.should_exit = True
        await serving


async def _send(port: int, pieces: Iterable[bytes]) -> bytes:
    """Send until the other end has had enough. Returns the answer up to the end of its headers."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
    except ConnectionError:
        pass
    try:
        return await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    except (ConnectionError, asyncio.IncompleteReadError):
        return b""
    finally:
        writer.close()


def _pieces(start: bytes, filler: bytes) -> Iterable[bytes]:
    yield start
    for _ in range(_MUCH // len(filler)):
        yield filler


@pytest.mark.parametrize(
    "pieces",
    [
        _pieces(b"GET /", b"a" * 8192),
        _pieces(b"GET / HTTP/1.1\r\nHost: a\r\nX-Long: ", b"a" * 8192),
        _pieces(b"GET / HTTP/1.1\r\nHost: a\r\n", b"X-Some: " + b"a" * 100 + b"\r\n"),
        _pieces(b"GET / HTTP/1.1\r\nHost: a\r\n", b"a" * 8192),
        _pieces(_CHUNKED + b"1;x=", b"a" * 8192),
        _pieces(_CHUNKED + b"1\r\na\r\n0\r\nX-Long: ", b"a" * 8192),
        _pieces(_CHUNKED + b"1\r\na\r\n0\r\n", b"X-Some: " + b"a" * 100 + b"\r\n"),
    ],
    ids=["path", "header", "headers", "name", "extension", "trailer", "trailers"],
)
async def test_what_does_not_end_is_cut_off(port: int, pieces: Iterable[bytes]) -> None:
    answer = await _send(port, pieces)

    # A client that is still sending may see the reset before the answer.
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400 ")
    assert (await _send(port, [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"])).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("size", [MAX_HEADER_BYTES - 100, MAX_HEADER_BYTES + 1])
async def test_headers_within_the_limit_are_taken(port: int, size: int) -> None:
    answer = await _send(port, [b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * size + b"\r\n\r\n"])

    is_taken = size < MAX_HEADER_BYTES
    assert answer.startswith(b"HTTP/1.1 200 " if is_taken else b"HTTP/1.1 400 ")


async def test_garbage_behind_a_request_does_not_take_its_answer(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody" + b"x" * 5_000)
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()

    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"4")


async def test_a_long_body_in_small_chunks_and_many_requests_are_taken(port: int) -> None:
    chunks = [b"1\r\na\r\n" * 10_000] * 10
    for _ in range(2):
        assert (await _send(port, [_CHUNKED, *chunks, b"0\r\n\r\n"])).startswith(b"HTTP/1.1 200 ")

    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    request = b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 10_000 + b"\r\n\r\n"
    for _ in range(20):
        writer.write(request)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        await reader.readexactly(1)
    writer.close()

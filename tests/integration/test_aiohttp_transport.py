"""What the OpenAI adapter's transport promises beyond the contract of all adapters."""

import asyncio
import datetime
import ipaddress
import socket
import ssl
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from app.core.errors import ProviderError, ProviderErrorKind
from app.llm.base import ChatRequest, Finish, Message, Role, TextDelta, Timeouts
from app.llm.providers.openai import OpenAIProvider
from tests.provider_server import DEFAULT_ANSWER, Failure, ProviderServer, Reply

KEY = "sk-test-key"
PATIENT = Timeouts(first_content_s=20, idle_s=20, total_s=40)
REQUEST = ChatRequest("m", (Message(Role.USER, "Hi there?"),), temperature=0.5, max_tokens=256)
PIECE = b'data: {"choices":[{"delta":{"content":"%s"},"finish_reason":%s}]}\n\n'

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    try:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def asking(url: str, timeouts: Timeouts = PATIENT) -> AsyncIterator[OpenAIProvider]:
    provider = OpenAIProvider(api_key=KEY, base_url=f"{url}/v1", timeouts=timeouts)
    try:
        yield provider
    finally:
        await provider.aclose()


async def read(provider: OpenAIProvider) -> str:
    items = [item async for item in provider.stream(REQUEST)]
    assert isinstance(items.pop(), Finish)
    return "".join(item.text for item in items if isinstance(item, TextDelta))


async def error_of(url: str, timeouts: Timeouts = PATIENT) -> ProviderErrorKind:
    async with asking(url, timeouts) as provider:
        with pytest.raises(ProviderError) as caught:
            await read(provider)
    return caught.value.kind


@pytest.mark.parametrize(("coding", "wbits"), [("gzip", 31), ("deflate", 15)])
async def test_compressed_stream_comes_piece_by_piece(coding: str, wbits: int) -> None:
    is_read = asyncio.Event()

    async def handle(request: web.Request) -> web.StreamResponse:
        packer = zlib.compressobj(wbits=wbits)

        async def write(data: bytes) -> None:
            await response.write(packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH))

        response = web.StreamResponse(headers={"Content-Encoding": coding})
        await response.prepare(request)
        await write(PIECE % (b"first ", b"null"))
        await is_read.wait()
        await write(PIECE % (b"second", b'"stop"') + b"data: [DONE]\n\n")
        return response

    async with serving(handle) as url, asking(url) as provider:
        texts = []
        async with aclosing(provider.stream(REQUEST)) as stream:  # type: ignore[type-var]  # a generator
            async for item in stream:
                is_read.set()
                texts.append(item.text if isinstance(item, TextDelta) else "")

    assert texts == ["first ", "second", ""]


async def test_compressed_answer_that_is_no_stream_is_read_too() -> None:
    async def handle(_: web.Request) -> web.StreamResponse:
        response = web.json_response({"data": [{"id": "m"}]})
        response.enable_compression(web.ContentCoding.gzip)
        return response

    async with serving(handle) as url, asking(url) as provider:
        assert await provider.list_models() == ["m"]


async def test_only_encodings_that_can_be_read_are_asked_for(server: ProviderServer) -> None:
    async with asking(server.url) as provider:
        await read(provider)

    assert server.calls[0].headers["accept-encoding"] == "gzip, deflate"


async def test_handshake_without_end_is_a_timeout() -> None:
    async def say_nothing(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.wait_for(gone.wait(), 20)
        writer.close()

    gone = asyncio.Event()
    listener = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    try:
        impatient = Timeouts(connect_s=0.2, first_content_s=1000, total_s=1000)
        async with asyncio.timeout(15):
            kind = await error_of(f"https://127.0.0.1:{port}", impatient)
        assert kind is ProviderErrorKind.TIMEOUT
    finally:
        gone.set()
        listener.close()
        await listener.wait_closed()


async def test_unknown_host_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", fail, raising=False)
    monkeypatch.setattr(socket, "getaddrinfo", fail)

    assert await error_of("http://models.invalid") is ProviderErrorKind.UNREACHABLE


async def test_certificate_of_nobody_is_unreachable(tmp_path: Path) -> None:
    seen: list[str] = []

    async def handle(request: web.Request) -> web.StreamResponse:
        seen.append(request.path)
        return web.Response()

    async with serving(handle, own_certificate(tmp_path)) as url:
        assert await error_of(url) is ProviderErrorKind.UNREACHABLE

    assert not seen


async def test_more_streams_than_a_pool_usually_holds_are_open_at_once(
    server: ProviderServer,
) -> None:
    server.default = Reply(failure=Failure.STALL)
    async with asking(server.url) as provider:
        readers = [asyncio.create_task(read(provider)) for _ in range(150)]
        await server.wait_until(lambda: server.open_streams == 150)
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
        await server.wait_until(lambda: server.open_streams == 0)


@pytest.mark.parametrize("path", ["/v1/chat/completions", ""])
async def test_redirect_is_followed_within_its_origin(server: ProviderServer, path: str) -> None:
    location = "/v1/chat/completions" if not path else f"{server.url}{path}"
    server.script(Reply(failure=Failure.STATUS, status=307, location=location))
    async with asking(server.url) as provider:
        assert await read(provider) == DEFAULT_ANSWER
    assert [call.headers["authorization"] for call in server.calls] == [f"Bearer {KEY}"] * 2


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_prompt_goes_where_another_host_sends_it(
    server: ProviderServer, status: int
) -> None:
    async with ProviderServer() as other:
        for location in (
            f"{other.url}/v1/chat/completions",
            f"//127.0.0.1:{other.port}/v1/chat/completions",
            f"http://localhost:{server.port}/v1/chat/completions",
        ):
            server.script(Reply(failure=Failure.STATUS, status=status, location=location))
            async with asking(server.url) as provider:
                with pytest.raises(ProviderError) as caught:
                    await read(provider)
            assert caught.value.kind is ProviderErrorKind.PROTOCOL
        assert other.calls == []
    assert len(server.calls) == 3


async def test_cookies_are_not_kept() -> None:
    cookies: list[str | None] = []

    async def handle(request: web.Request) -> web.StreamResponse:
        cookies.append(request.headers.get("Cookie"))
        response = web.Response(body=PIECE % (b"text", b'"stop"') + b"data: [DONE]\n\n")
        response.set_cookie("session", "a")
        return response

    # Cookies of bare addresses are refused by many jars: of a name they would be kept.
    async with serving(handle) as url, asking(url.replace("127.0.0.1", "localhost")) as provider:
        assert [await read(provider) for _ in range(2)] == ["text", "text"]

    assert cookies == [None, None]


@pytest.fixture
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return monkeypatch


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "ALL_PROXY"])
async def test_proxy_of_the_environment_is_used(
    variable: str, server: ProviderServer, no_proxies: pytest.MonkeyPatch
) -> None:
    no_proxies.setenv(variable, server.url)

    async with asking("http://models.invalid") as provider:
        assert await read(provider) == DEFAULT_ANSWER

    assert server.calls[0].headers["host"] == "models.invalid"


async def test_hosts_of_no_proxy_are_called_directly(
    server: ProviderServer, no_proxies: pytest.MonkeyPatch
) -> None:
    no_proxies.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    no_proxies.setenv("NO_PROXY", "127.0.0.1")

    async with asking(server.url) as provider:
        assert await read(provider) == DEFAULT_ANSWER


async def test_passwords_of_netrc_are_not_sent(
    server: ProviderServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))

    async with asking(server.url) as provider:
        await read(provider)

    assert server.calls[0].headers["authorization"] == f"Bearer {KEY}"


async def test_name_and_password_in_the_url_reach_the_server(server: ProviderServer) -> None:
    async with asking(server.url.replace("//", "//user:secret@")) as provider:
        assert await read(provider) == DEFAULT_ANSWER

    assert server.calls[0].headers["authorization"].startswith("Basic ")


def own_certificate(folder: Path) -> ssl.SSLContext:
    """Return a server's context with a certificate for 127.0.0.1 that nobody has signed."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .sign(key, hashes.SHA256())
    )
    path = folder / "server.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(path)
    return context

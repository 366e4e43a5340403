"""docs/clients.md: every block of code is run, as it stands there, against the real product."""

import asyncio
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest
from playwright.async_api import ConsoleMessage, async_playwright

from tests.cutting_proxy import CuttingProxy
from tests.e2e.product import Product, running_product
from tests.pdfs import text_pdf
from tests.people import register
from tests.stack_process import WAIT_S
from tests.tools import find_tool

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

DOCUMENT = Path(__file__).parents[2] / "docs" / "clients.md"
# All that the blocks are changed in.
ADDRESS, EMAIL = "http://127.0.0.1:8000", "ada@example.com"
FILE = "report.pdf"
FACT = "Net sales were 32,765 million dollars in 2018."
CITED = f'report.pdf, page 2: "{FACT}"'
PAGES = (
    "The company was founded in 1902 beside a lake.",
    f"{FACT} Costs were 25,558 million dollars.",
    "The board met nine times and approved the plan for the plant.",
)

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass
class Shears(CuttingProxy):
    """Cuts every other stream of an answer by itself, in the middle of a `token` frame."""

    cuts: int = 0
    _streams: int = 0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream = await asyncio.open_connection("127.0.0.1", self.target_port)
        self._open |= {writer, upstream[1]}
        asking = asyncio.create_task(self._ask(reader, upstream[1]))
        try:
            await self._answer(upstream[0], writer)
        finally:
            asking.cancel()
            self._open -= {writer, upstream[1]}
            for each in (writer, upstream[1]):
                each.transport.abort()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while block := await reader.read(65_536):
                writer.write(block)
                await writer.drain()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while block := await reader.read(65_536):
                if (token := block.find(b'"type":"token"')) >= 0:
                    self._streams += 1
                    if self._streams % 2:
                        self.cuts += 1
                        writer.write(block[: token + 20])
                        writer.write_eof()  # so that all of it arrives
                        return
                writer.write(block)
                await writer.drain()


@pytest.fixture(scope="module")
async def app_origin() -> AsyncIterator[str]:
    """Where somebody's app has its page: on another origin than the API."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n")
        writer.write(b"<!doctype html><title>App</title><input type=file>")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield f"http://localhost:{server.sockets[0].getsockname()[1]}"
    server.close()


@pytest.fixture(scope="module")
async def product(
    tmp_path_factory: pytest.TempPathFactory, app_origin: str
) -> AsyncIterator[Product]:
    data_dir = tmp_path_factory.mktemp("product") / "data"
    async with running_product(data_dir, CORS_ORIGINS=app_origin) as product:
        yield product


@pytest.fixture
def email() -> str:
    return f"{uuid4().hex}@example.com"


@pytest.fixture
async def registered(product: Product, email: str) -> str:
    await register(product.client, email)
    return email


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the programs run: the file lies there."""
    (tmp_path / FILE).write_bytes(text_pdf(PAGES))
    return tmp_path


def blocks_of(heading: str, language: str, *, url: str, email: str) -> list[str]:
    """The blocks of a section, for this server and this person."""
    section = DOCUMENT.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    found = _BLOCK.findall(section)
    assert found
    assert {name for name, _ in found} == {language}
    return [block.replace(ADDRESS, url).replace(EMAIL, email) for _, block in found]


async def run(command: list[str], program: str, folder: Path) -> str:
    """Return what a program prints that is read from its standard input; it must succeed."""

    def run_it() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            input=program,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=2 * WAIT_S,
            check=False,
        )

    ended = await asyncio.to_thread(run_it)
    assert ended.returncode == 0, f"{ended.stdout}\n{ended.stderr}"
    return ended.stdout


def test_every_block_is_run_by_one_of_these_tests() -> None:
    text = DOCUMENT.read_text()
    sections = ("curl", "JavaScript in a browser", "Python", "The openai SDK")
    run_here = [
        block
        for heading in sections
        for block in _BLOCK.findall(text.split(f"\n## {heading}\n")[1].split("\n## ")[0])
    ]
    assert run_here == _BLOCK.findall(text)
    assert text.count("```") == 2 * len(run_here)


async def test_curl(product: Product, email: str, folder: Path) -> None:
    find_tool("curl", "curl")
    blocks = blocks_of("curl", "bash", url=product.stack.url, email=email)
    printed = await run(["bash", "-euo", "pipefail"], "\n".join(blocks), folder)
    assert '{"type":"done","done":true,"status":"ready"}' in printed
    assert f'"quote": "{FACT}"' in printed
    assert '"page_start": 2' in printed
    streams, _, rest = printed.partition("The rest behind frame 2:\n")
    assert streams.count('"type":"start"') == 2
    assert rest.startswith("retry: 1000\n\nid: 3\n")
    assert '"done":true,"status":"completed"' in rest
    assert FACT.removesuffix(".") in rest.split("\n\n")[-1]
    assert f'"email":"{email}"' in printed.splitlines()[-1]


async def test_python(product: Product, registered: str, folder: Path) -> None:
    async with Shears(product.stack.port) as shears:
        first, *others = blocks_of("Python", "python", url=shears.url, email=registered)
        # The sign-in has to be refreshed on the way.
        program = "\n".join([first, 'tokens["access_token"] = "expired"', *others])
        printed = await run([sys.executable, "-W", "error", "-"], program, folder)
    assert shears.cuts == 1
    assert printed.count(CITED) == 2
    assert f"streamed: {FACT.removesuffix('.')}" in printed


async def test_the_openai_sdk(product: Product, registered: str, folder: Path) -> None:
    url = product.stack.url
    first, *others = blocks_of("The openai SDK", "python", url=url, email=registered)
    program = "\n".join([first, 'signed_in["until"] = 0', *others])
    printed = await run([sys.executable, "-W", "error", "-"], program, folder)
    assert printed.count(CITED) == 2
    assert "completed None\nfound: report.pdf 0." in printed
    assert f"response: {FACT.removesuffix('.')}" in printed
    assert "[1] report.pdf, page 2\n" in printed
    assert f"streamed: {FACT.removesuffix('.')}" in printed


async def test_javascript_in_a_browser(
    product: Product, app_origin: str, registered: str, folder: Path
) -> None:
    heading, language = "JavaScript in a browser", "javascript"
    chromium = find_tool("chromium", "chromium")
    printed: list[str] = []
    async with Shears(product.stack.port) as shears, async_playwright() as playwright:
        first, *others = blocks_of(heading, language, url=shears.url, email=registered)
        program = "\n".join([first, 'tokens.access_token = "expired";', *others])
        # Tests may run as root, for whom Chromium has no sandbox.
        browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = await browser.new_page()
        ended = asyncio.get_running_loop().create_future()

        def read(message: ConsoleMessage) -> None:
            printed.append(message.text)
            if message.text == "the end" and not ended.done():
                ended.set_result(None)

        def fail(error: Exception) -> None:
            if not ended.done():
                ended.set_exception(AssertionError(f"{error}\n{printed}"))

        page.on("console", read)
        page.on("pageerror", fail)
        await page.goto(app_origin)
        await page.set_input_files("input", folder / FILE)
        await page.add_script_tag(type="module", content=f'{program}\nconsole.log("the end");')
        async with asyncio.timeout(2 * WAIT_S):
            await ended
        await browser.close()
    assert shears.cuts == 2
    assert "ready: 100 %" in printed
    assert printed.count(f"[1] {CITED}") == 2
    texts = [line.partition(": ")[2] for line in printed if re.match("streamed|fetched", line)]
    assert len(texts) == 2
    assert texts[0] == texts[1]
    assert texts[0].startswith(FACT.removesuffix("."))

"""The web app on the whole product, as people use it: in a browser, by roles and labels."""

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from playwright.async_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    FilePayload,
    Locator,
    Page,
    Request,
    async_playwright,
    expect,
)
from pypdf import PdfWriter

from tests.e2e.librarian import Librarian
from tests.e2e.product import Product, running_product
from tests.e2e.report_pdf import report_pdf
from tests.people import PASSWORD
from tests.tools import find_tool

WAIT_MS = 30_000
PDF = "application/pdf"
# By it the app learns that nobody is signed in yet.
NO_SESSION = r"401 .*/api/v1/session/refresh"
CUT = r"net::ERR_"

_MAX_TABS = 60
# What is no request of the network.
_LOCAL_SCHEMES = frozenset({"blob", "data"})

expect.set_options(timeout=WAIT_MS)


@dataclass
class Watch:
    """All that a browser complains of, and every request to another origin."""

    origin: str
    expected: list[str] = field(default_factory=lambda: [NO_SESSION])
    _seen: list[str] = field(default_factory=list)

    def expect(self, *patterns: str) -> None:
        """What matches one of these patterns is no trouble from now on, nor was it before."""
        self.expected.extend(patterns)

    def check(self) -> None:
        troubles = [
            line for line in self._seen if not any(re.search(p, line) for p in self.expected)
        ]
        assert troubles == [], "\n".join(troubles)

    def begin(self, context: BrowserContext) -> None:
        context.on("console", self._on_console)
        context.on("weberror", lambda error: self._seen.append(f"page error: {error.error}"))
        context.on("request", self._on_request)

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning", "assert"):
            url = message.location.get("url", "")
            self._seen.append(f"console {message.type}: {message.text} {url}")

    def _on_request(self, request: Request) -> None:
        url = urlsplit(request.url)
        if url.scheme not in _LOCAL_SCHEMES and f"{url.scheme}://{url.netloc}" != self.origin:
            self._seen.append(f"request to another origin: {request.url}")


@dataclass(frozen=True, slots=True)
class WebApp:
    """The product with its language model, and a browser to open it in."""

    product: Product
    librarian: Librarian
    browser: Browser

    @property
    def url(self) -> str:
        return self.product.stack.url

    @asynccontextmanager
    async def visit(self, *, url: str = "", **options: Any) -> AsyncIterator["Visitor"]:
        """A browser of somebody's own, without a page yet. Fails at the end if it saw trouble.

        `url` is that of a proxy before the product; `options` are those of Playwright's contexts.
        """
        origin = url or self.url
        context = await self.browser.new_context(
            base_url=origin, **{"locale": "en-GB", "reduced_motion": "reduce"} | options
        )
        context.set_default_timeout(WAIT_MS)
        watch = Watch(origin)
        watch.begin(context)
        try:
            yield Visitor(self, context, await context.new_page(), watch)
        finally:
            await context.close()
        watch.check()


@asynccontextmanager
async def running_web_app(data_dir: Path) -> AsyncIterator[WebApp]:
    chromium = find_tool("chromium", "chromium")
    async with Librarian() as librarian, async_playwright() as playwright:
        # Tests may run as root, for whom Chromium has no sandbox.
        browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        settings = {
            "OPENAI_API_KEY": "sk-test",
            "OPENAI_BASE_URL": librarian.openai_url,
            "DEFAULT_MODEL": f"openai/{librarian.openai_models[0]}",
            # Its second call to the model would be a question that nobody asked.
            "QUERY_REWRITING": "false",
            "MAX_UPLOAD_MB": "4",
        }
        async with running_product(data_dir, **settings) as product:
            yield WebApp(product, librarian, browser)
        await browser.close()


@dataclass
class Visitor:
    """Somebody at the web app. `page` is the tab in front."""

    app: WebApp
    context: BrowserContext
    page: Page
    watch: Watch
    email: str = field(default_factory=lambda: f"{uuid4().hex}@example.com")

    # Parts of every view

    def button(self, name: str | re.Pattern[str], *, exact: bool = True) -> Locator:
        return self.page.get_by_role("button", name=name, exact=exact)

    def link(self, name: str) -> Locator:
        return self.page.get_by_role("link", name=name, exact=True)

    def heading(self, name: str) -> Locator:
        return self.page.get_by_role("heading", name=name, exact=True)

    @property
    def dialog(self) -> Locator:
        return self.page.get_by_role("dialog")

    @property
    def composer(self) -> Locator:
        return self.page.get_by_role("textbox", name="Your question").last

    @property
    def answers(self) -> Locator:
        return self.page.get_by_role("log", name="Messages").get_by_role("article")

    @property
    def viewer(self) -> Locator:
        return self.page.get_by_role("complementary", name=re.compile("^Document: "))

    def chip(self, number: int = 1) -> Locator:
        """The first citation of a source, by its number in the answer."""
        return self.answers.get_by_role("button", name=re.compile(f"^Source {number}: ")).first

    def row(self, filename: str) -> Locator:
        """Of the table of documents."""
        link = self.page.get_by_role("link", name=filename, exact=True)
        return self.page.get_by_role("table", name="Documents").get_by_role("row").filter(has=link)

    # What people do

    async def register(self, name: str = "") -> None:
        await self.page.goto("/")
        await self.button("Create an account").click()
        if name:
            await self.page.get_by_label("Name", exact=True).fill(name)
        await self.page.get_by_label("E-mail address").fill(self.email)
        await self.page.get_by_label("Password", exact=True).fill(PASSWORD)
        await self.button("Create account").click()
        await expect(self.composer).to_be_visible()

    async def sign_in(self, password: str = PASSWORD) -> None:
        """Where the form is, at whatever address."""
        await self.page.get_by_label("E-mail address").fill(self.email)
        await self.page.get_by_label("Password", exact=True).fill(password)
        await self.button("Sign in").click()
        await expect(self.heading("Sign in")).to_be_hidden()

    async def open_documents(self) -> None:
        """Go there, and wait for the list or what stands in its place."""
        await self.page.goto("/documents")
        table = self.page.get_by_role("table", name="Documents")
        await expect(table.or_(self.heading("Add your first documents"))).to_be_visible()

    async def upload(self, *files: FilePayload) -> None:
        """Choose files behind the button that is shown; they are on their way then."""
        async with self.page.expect_file_chooser() as choosing:
            await self.button("Add PDFs").click()
        await (await choosing.value).set_files(list(files))

    async def upload_until_ready(self, *files: FilePayload) -> None:
        await self.open_documents()
        await self.upload(*files)
        for file in files:
            await self.wait_until_ready(file["name"])

    async def wait_until_ready(self, name: str) -> None:
        """The worker takes its time on a busy machine."""
        try:
            await self.row(name).filter(has_text="Ready").wait_for(timeout=3 * WAIT_MS)
        except TimeoutError as error:
            known = await self.call("/api/v1/documents")
            error.add_note(f"The API says {[(d['filename'], d['status']) for d in known['items']]}")
            raise

    async def ask(self, question: str) -> Locator:
        """Ask, and return the answer, which begins then."""
        number = await self.answers.count()
        await self.composer.fill(question)
        await self.composer.press("Enter")
        await expect(self.answers).to_have_count(number + 1)
        return self.answers.nth(number)

    async def ask_to_end(self, question: str) -> Locator:
        answer = await self.ask(question)
        await self.wait_for_end(answer)
        return answer

    async def wait_for_end(self, answer: Locator) -> None:
        await expect(answer.get_by_role("button", name="Answer again")).to_be_enabled()

    async def open_tab(self, path: str) -> "Visitor":
        """A second tab of the same browser, with the same person."""
        page = await self.context.new_page()
        await page.goto(path)
        return Visitor(self.app, self.context, page, self.watch, self.email)

    async def choose(self, menu: Locator, item: str) -> None:
        await menu.click()
        await self.page.get_by_role("menuitem", name=item, exact=True).click()

    async def tab_to(self, target: Locator, *, backwards: bool = False) -> None:
        """Press Tab until it has the focus. Fails if it cannot be reached so."""
        for _ in range(_MAX_TABS):
            if await target.evaluate("element => element === document.activeElement"):
                return
            await self.page.keyboard.press("Shift+Tab" if backwards else "Tab")
        raise AssertionError(f"Tab does not reach {target}")

    async def call(self, path: str) -> Any:
        """What the API answers to this person, read beside the app."""
        client = self.app.product.client
        form = {"username": self.email, "password": PASSWORD}
        tokens = (await client.post("/api/v1/auth/login", data=form)).json()
        headers = {"Authorization": f"Bearer {tokens['access_token']}"}
        response = await client.get(path, headers=headers)
        assert response.status_code == 200, response.text
        return response.json()


def file(name: str, content: bytes, media_type: str = PDF) -> FilePayload:
    return {"name": name, "mimeType": media_type, "buffer": content}


def report_part(first: int, last: int) -> bytes:
    """Pages of the report, from 1, as a file of their own."""
    writer = PdfWriter()
    writer.append(BytesIO(report_pdf()), pages=(first - 1, last))
    buffer = BytesIO()
    writer.write(buffer)
    return buffer.getvalue()


async def words_in_boxes(sheet: Locator) -> list[str]:
    """The words of pdf.js' text layer whose middle lies in a box of the highlight, in order."""
    found: Sequence[str] = await sheet.evaluate(_WORDS_IN_BOXES)
    return list(found)


_WORDS_IN_BOXES = r"""
sheet => {
    const placeOf = element => element.getBoundingClientRect();
    const boxes = [...sheet.querySelectorAll(".quote-boxes > div")].map(placeOf);
    const isInBox = (x, y) =>
        boxes.some(b => b.left <= x && x <= b.right && b.top <= y && y <= b.bottom);
    const layer = sheet.querySelector(".textLayer");
    const walker = document.createTreeWalker(layer, NodeFilter.SHOW_TEXT);
    const words = [];
    while (walker.nextNode()) {
        for (const match of walker.currentNode.data.matchAll(/\S+/g)) {
            const range = new Range();
            range.setStart(walker.currentNode, match.index);
            range.setEnd(walker.currentNode, match.index + match[0].length);
            const { left, right, top, bottom } = placeOf(range);
            if (isInBox((left + right) / 2, (top + bottom) / 2)) words.push(match[0]);
        }
    }
    return words;
}
"""

"""The web app in Chromium in front of the API alone: pages of somebody signed in, under guard.

What they see is stored beforehand, so that a page has all of it at once.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web
from playwright.async_api import Browser, Frame, Page, Request, async_playwright

from tests.people import PASSWORD, Person
from tests.tools import find_tool

_GUARD = Path(__file__).with_name("page_guard.js")
HAND_FED = Path(__file__).with_name("hand_fed.js")
_SIGN_IN = """
async ([email, password]) => (await fetch("/api/v1/session", {
    method: "POST",
    headers: {"Content-Type": "application/json", "X-Footnote-Web": "1"},
    body: JSON.stringify({email, password}),
})).status
"""


@dataclass
class GuardedPage:
    """`reports` says in words whatever happened that must not: empty is good."""

    page: Page
    url: str
    reports: list[str] = field(default_factory=list)

    def take(self, report: str) -> None:
        self.reports.append(report)

    async def open(self, path: str) -> None:
        """Go there within the app, as a link does, or for the first time."""
        if self.page.url.startswith(self.url):
            await self.page.evaluate(
                "path => { history.pushState(null, '', path);"
                " dispatchEvent(new PopStateEvent('popstate')); }",
                path,
            )
        else:
            await self.page.goto(self.url + path)

    async def settle(self) -> None:
        """Let what has begun show itself."""
        await self.page.evaluate("() => new Promise(done => setTimeout(done, 100))")

    def watch(self, *, is_own: bool = True) -> None:
        page = self.page
        page.on("dialog", lambda dialog: self.reports.append(f"dialog {dialog.message}"))
        page.on("popup", lambda popup: self.reports.append(f"popup {popup.url}"))
        page.on("download", lambda each: self.reports.append(f"download {each.url}"))
        if is_own:
            page.on("pageerror", lambda error: self.reports.append(f"error {error}"))
            page.on("request", self._see_request)
            page.on("framenavigated", self._see_navigation)

    def _see_request(self, request: Request) -> None:
        if not request.url.startswith((f"{self.url}/", f"blob:{self.url}/")):
            self.reports.append(f"request {request.url}")

    def _see_navigation(self, frame: Frame) -> None:
        is_main = frame == self.page.main_frame
        if not is_main or not frame.url.startswith(f"{self.url}/"):
            self.reports.append(f"navigation {frame.url}")


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    path = find_tool("chromium", "chromium")
    async with async_playwright() as playwright:
        # Tests may run as root, for whom Chromium has no sandbox.
        browser = await playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        await browser.close()


@asynccontextmanager
async def guarded_page(
    browser: Browser, url: str, *, scripts: tuple[Path, ...] = (), **options: Any
) -> AsyncIterator[GuardedPage]:
    """A page of a browser context of its own, not opened yet."""
    context = await browser.new_context(**options)
    page = await context.new_page()
    page.set_default_timeout(20_000)
    guarded = GuardedPage(page, url)
    await context.expose_function("__report", guarded.take)
    for script in (_GUARD, *scripts):
        await context.add_init_script(path=script)
    try:
        yield guarded
    finally:
        await context.close()


async def sign_in(guarded: GuardedPage, person: Person) -> None:
    """Leave the browser signed in, with no page open."""
    page = guarded.page
    await page.goto(f"{guarded.url}/favicon.svg")
    assert await page.evaluate(_SIGN_IN, [person.email, PASSWORD]) == 200
    await page.goto("about:blank")
    # The page of a picture is none of the app's.
    guarded.reports.clear()


@dataclass(slots=True)
class ForeignSite:
    """Somebody else's site: pages by path, and a list of everything that it was asked for."""

    port: int = 0
    pages: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def url(self, host: str = "localhost") -> str:
        return f"http://{host}:{self.port}"

    async def _answer(self, request: web.Request) -> web.Response:
        self.asked.append(request.path)
        headers = {"Access-Control-Allow-Origin": "*"}
        page = self.pages.get(request.path, "")
        return web.Response(text=page, content_type="text/html", headers=headers)


@asynccontextmanager
async def foreign_site() -> AsyncIterator[ForeignSite]:
    site = ForeignSite()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", site._answer)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        site.port = runner.addresses[0][1]
        yield site
    finally:
        await runner.cleanup()

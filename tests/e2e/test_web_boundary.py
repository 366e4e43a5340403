"""What a browser makes of the app's headers, cookie and origin: no foreign page gets in or out."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, Response, expect

from tests.api_process import ApiProcess
from tests.e2e.web_pages import ForeignSite, GuardedPage, foreign_site, guarded_page, sign_in
from tests.people import Person

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="starts Debian's Chromium")

COOKIE = "__Host-footnote"
ATTEMPTS = Path(__file__).with_name("attempts.js")


@pytest.fixture
async def site() -> AsyncIterator[ForeignSite]:
    async with foreign_site() as site:
        yield site


@pytest.fixture
async def tried(
    browser: Browser, api_alone: ApiProcess, person: Person
) -> AsyncIterator[GuardedPage]:
    """The app with somebody signed in, and what a script that got in would try."""
    async with guarded_page(browser, api_alone.url, scripts=(ATTEMPTS,)) as guarded:
        await sign_in(guarded, person)
        await guarded.open("/")
        await expect(guarded.page.get_by_label("Your question")).to_be_visible()
        yield guarded


@pytest.mark.parametrize("kind", ["scripts", "loads"])
async def test_what_a_script_that_got_in_would_try_is_refused(
    tried: GuardedPage, site: ForeignSite, kind: str
) -> None:
    made = await tried.page.evaluate("args => window.__try(...args)", [kind, site.url()])
    await tried.settle()
    assert made == []
    assert site.asked == []
    assert tried.page.url == f"{tried.url}/"
    assert any(report.startswith("policy ") for report in tried.reports)


async def test_a_page_without_a_policy_lets_all_of_that_happen(
    browser: Browser, site: ForeignSite
) -> None:
    """Else the test above could not fail."""
    site.pages["/"] = "<!doctype html><body>"
    async with (
        foreign_site() as other,
        guarded_page(browser, site.url(), scripts=(ATTEMPTS,)) as page,
    ):
        await page.open("/")
        await page.page.evaluate("args => window.__try(...args)", ["loads", other.url()])
        assert {"/image", "/fetch", "/frame", "/css"} <= set(other.asked)


@pytest.mark.parametrize("path", ["/", "/sign-in", "/documents", "/favicon.svg", "/api/v1/models"])
async def test_no_page_can_show_the_app_in_a_frame(
    browser: Browser, api_alone: ApiProcess, site: ForeignSite, path: str
) -> None:
    page = await browser.new_page()
    site.pages["/"] = f"<!doctype html><iframe src='{api_alone.url}{path}'></iframe>"
    await page.goto(site.url())
    frame = page.frames[1]
    await frame.wait_for_load_state()
    assert frame.url == "chrome-error://chromewebdata/"
    await page.close()


async def test_no_token_can_be_read_by_a_script_or_stays_in_an_address(
    guarded: GuardedPage, person: Person
) -> None:
    page, tokens = guarded.page, Tokens()
    page.on("response", tokens.see)
    await guarded.page.goto(f"{guarded.url}/documents")
    await expect(page.get_by_role("button", name="Add PDFs").first).to_be_visible()
    for path in ("/", "/settings/security", "/documents"):
        await guarded.open(path)
        await guarded.settle()
    (cookie,) = await page.context.cookies()
    assert cookie["name"] == COOKIE
    assert cookie["httpOnly"]
    assert cookie["secure"]
    assert cookie["sameSite"] == "Strict"
    assert cookie["path"] == "/"
    assert tokens.access
    secrets = {*tokens.access, cookie["value"]}
    assert all(len(secret) > 30 for secret in secrets)
    kept = await page.evaluate(KEPT)
    assert kept["cookie"] == ""
    assert kept["databases"] == kept["caches"] == []
    history = await (await page.context.new_cdp_session(page)).send("Page.getNavigationHistory")
    addresses = [entry["url"] for entry in history["entries"]]
    assert len(addresses) > 3
    assert not any("token" in address or "?" in address for address in addresses)
    told = repr([kept, addresses])
    assert not any(secret in told for secret in secrets)


class Tokens:
    """The access tokens that the app was given."""

    def __init__(self) -> None:
        self.access: set[str] = set()

    async def see(self, response: Response) -> None:
        if response.url.endswith("/api/v1/session/refresh") and response.ok:
            self.access.add((await response.json())["access_token"])


KEPT = """
async () => ({
    cookie: document.cookie,
    local: {...localStorage},
    session: {...sessionStorage},
    databases: await indexedDB.databases(),
    caches: await caches.keys(),
    name: window.name,
    state: JSON.stringify(history.state),
    html: document.documentElement.outerHTML,
    workers: (await navigator.serviceWorker.getRegistrations()).length,
})
"""


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_another_origin_can_do_nothing_with_the_sign_in(
    guarded: GuardedPage, site: ForeignSite, host: str
) -> None:
    """By the same host another port is the same site: the cookie is sent from there."""
    page = guarded.page
    await guarded.open("/")
    await expect(page.get_by_label("Your question")).to_be_visible()
    before = await page.context.cookies()
    site.pages["/"] = "<!doctype html><body>"
    foreign = await page.context.new_page()
    await foreign.goto(site.url(host))
    outcomes = await foreign.evaluate(ATTACK, guarded.url)
    assert outcomes == dict.fromkeys(outcomes, "refused")
    assert len(outcomes) == 18
    for path in ("", "/refresh", "/register", "/password"):
        for content_type in ("text/plain", "application/x-www-form-urlencoded"):
            action = f"{guarded.url}/api/v1/session{path}"
            assert await submit(foreign, site.url(host), action, content_type) in {401, 403}
    await foreign.close()
    # What the foreign page did was reported too.
    guarded.reports.clear()
    assert await page.context.cookies() == before
    await page.reload()
    await expect(page.get_by_label("Your question")).to_be_visible()


ATTACK = """
async url => {
    const outcomes = {};
    const attempt = async (method, path, mode, headers) => {
        const body = method === "POST" ? "{}" : undefined;
        const options = {method, mode, headers, body, credentials: "include"};
        const name = `${method} ${path} ${mode} ${Object.keys(headers)}`;
        try {
            const response = await fetch(`${url}/api/v1/session${path}`, options);
            outcomes[name] = (await response.text()) === "" ? "refused" : "read";
        } catch {
            outcomes[name] = "refused";
        }
    };
    const json = {"Content-Type": "application/json"};
    for (const [method, path] of [["POST", "/refresh"], ["POST", "/register"], ["DELETE", ""]]) {
        for (const mode of ["cors", "no-cors"]) {
            for (const headers of [{}, {"X-Footnote-Web": "1"}, json]) {
                await attempt(method, path, mode, headers);
            }
        }
    }
    return outcomes;
}
"""


async def submit(page: Page, origin: str, action: str, content_type: str) -> int:
    """Send a form from a foreign page, as a navigation. Returns the status of the answer."""
    await page.goto(origin)
    async with page.expect_navigation(url=action) as navigation:
        await page.evaluate(SUBMIT, [action, content_type])
    response = await navigation.value
    assert response is not None
    return response.status


SUBMIT = """
([action, enctype]) => {
    const form = Object.assign(document.createElement("form"), {action, enctype, method: "post"});
    const body = {email: "mallory@example.com", password: "correct horse", current_password: "x"};
    for (const [name, value] of Object.entries(body)) {
        form.append(Object.assign(document.createElement("input"), {name, value}));
    }
    document.body.append(form);
    form.submit();
}
"""

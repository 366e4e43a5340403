"""axe finds nothing wrong with any view and state of the web app: light, dark, and on a phone."""

import json
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx2
import pytest
from playwright.async_api import Browser, FilePayload, Page, Route, ViewportSize, expect
from sqlalchemy import text

from app.chat.events import Failure, UnreadyDocument
from app.models.usage import NO_KEY
from app.resources import Resources
from tests.api_process import ApiProcess
from tests.e2e.stored_content import (
    DocumentRow,
    Exchange,
    StoredDocument,
    store_conversation,
    store_documents,
    store_ready_document,
)
from tests.e2e.web_pages import GuardedPage, guarded_page, sign_in
from tests.pdfs import text_pdf
from tests.people import Person
from tests.provider_server import ProviderServer, Reply
from tests.stored import PageRow, change_document
from tests.web_build import WEB, run_npm

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="starts Debian's Chromium")

AXE = WEB / "node_modules" / "axe-core" / "axe.min.js"
PHONE: ViewportSize = {"width": 360, "height": 740}
QUOTE = "Either side may end the lease with three months' notice."
PAGES = (
    PageRow(1, QUOTE),
    PageRow(2, "The tenant pays the rent of 1,240 euros by the third working day.", source="ocr"),
    PageRow(3, "", source="none", warnings=("This page has no text.",)),
)
ANSWER = """The lease ends after **three months' notice** [1].

## What follows

- The rent is 1,240 euros [1], see [the law](https://example.com/law).
- `notice` is given in writing.

| When | What |
|---|---|
| day 3 | rent |

> Quoted words.

```python
print("x")
```

Nothing supports this sentence."""
RUN = """
async rules => {
    // Whoever looks at colors in the middle of a transition sees none that stay.
    const drawn = () => new Promise(done => requestAnimationFrame(done));
    await drawn();
    const changing = document.getAnimations().filter(each => each instanceof CSSTransition);
    await Promise.all(changing.map(each => each.finished.catch(() => null)));
    await drawn();
    const tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
    const runOnly = rules ? {type: "rule", values: rules} : {type: "tag", values: tags};
    const { violations } = await axe.run(document, {runOnly, resultTypes: ["violations"]});
    const describe = ({ target, html, any, all, none }) => {
        const why = [...any, ...all, ...none].map(({ message }) => message).join(" ");
        return `${target}: ${html.slice(0, 200)} ${why}`;
    };
    return violations.flatMap(({ id, help, nodes }) =>
        nodes.map(node => `${id} (${help}) at ${describe(node)}`));
}
"""


@dataclass
class Examined:
    """A page whose states are looked at one by one; `found` is what axe has against them."""

    page: Page
    found: list[str] = field(default_factory=list)

    async def look(self, state: str) -> None:
        """Examine the page as it is, in light and in dark."""
        self._take(state, await self.page.evaluate(RUN, None))
        await self.page.emulate_media(color_scheme="dark")
        # What else is wrong would be so in both.
        self._take(f"{state}, dark", await self.page.evaluate(RUN, ["color-contrast"]))
        await self.page.emulate_media(color_scheme="light")

    async def look_on_phone(self, state: str) -> None:
        """Examine it, and whether it can be scrolled sideways."""
        await self.look(f"{state}, phone")
        width = await self.page.evaluate("document.documentElement.scrollWidth")
        if width > PHONE["width"]:
            self._take(f"{state}, phone", [f"{width} px wide"])

    def _take(self, state: str, violations: list[str]) -> None:
        self.found += [f"{state}: {violation}" for violation in violations]


@pytest.fixture(scope="module")
def axe() -> Path:
    """Installed as `make web` does. Without a registry the tests are skipped, and fail in CI."""
    if not AXE.is_file() and run_npm("ci", "--no-audit", "--no-fund") != 0:
        message = "axe-core is not installed: make web"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return AXE


@pytest.fixture
async def local_person(api_alone: ApiProcess, person: Person) -> AsyncIterator[Person]:
    """The person with a client of the API alone, which has the files that they upload."""
    async with httpx2.AsyncClient(base_url=api_alone.url, timeout=30) as client:
        yield replace(person, client=client)


@pytest.fixture
async def stranger_page(
    browser: Browser, api_alone: ApiProcess, axe: Path
) -> AsyncIterator[GuardedPage]:
    async with guarded_page(browser, api_alone.url, scripts=(axe,)) as guarded:
        yield guarded


@pytest.fixture
async def opened(
    stranger_page: GuardedPage, local_person: Person
) -> AsyncIterator[tuple[GuardedPage, Examined]]:
    """The app with somebody signed in. In the end axe has found nothing in what was looked at."""
    await sign_in(stranger_page, local_person)
    examined = Examined(stranger_page.page)
    yield stranger_page, examined
    assert examined.found == []


@pytest.fixture
async def lease(resources: Resources, local_person: Person) -> StoredDocument:
    content = text_pdf([page.text for page in PAGES])
    document = await store_ready_document(
        resources, local_person, "lease.pdf", PAGES, content=content
    )
    await change_document(
        resources,
        str(document.id),
        "tags = :tags, metadata = CAST(:metadata AS jsonb)",
        tags=["contracts", "2024", "home", "signed"],
        metadata='{"author": "Ada", "pages read": 3}',
    )
    return document


@pytest.fixture
async def failed(resources: Resources, person: Person) -> list[str]:
    """The ids of documents in every state but ready."""
    rows = [
        DocumentRow("broken.pdf", tags=("contracts",)),
        DocumentRow("in work.pdf", status="processing"),
        DocumentRow("waiting.pdf", status="queued"),
        DocumentRow("n" * 250 + ".pdf"),
    ]
    return [str(id_) for id_ in await store_documents(resources, person, rows)]


@pytest.fixture
async def conversation(resources: Resources, person: Person, lease: StoredDocument) -> str:
    unready = (UnreadyDocument(lease.id, lease.filename, "processing"),)
    failure = Failure("provider_error", "The model did not answer. Try again.", is_retryable=True)
    span = (len(ANSWER) - len("Nothing supports this sentence."), len(ANSWER))
    exchanges = [
        Exchange("How does the lease end?", ANSWER, page=1, unsupported=(span,)),
        Exchange("Is it so?", "It is so [1].", page=1, is_verified=False, unready=unready),
        Exchange("And then?", "It begins", page=1, failure=failure),
    ]
    stored = await store_conversation(resources, person, lease, exchanges)
    return f"/chat/{stored}"


async def test_sign_in(stranger_page: GuardedPage) -> None:
    page, examined = stranger_page.page, Examined(stranger_page.page)
    await stranger_page.open("/sign-in")
    await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    await examined.look("sign-in")
    await page.get_by_label("E-mail address").fill("ada@example.com")
    await page.get_by_label("Password", exact=True).fill("not my password")
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("alert")).not_to_be_empty()
    await examined.look("wrong password")
    await page.get_by_role("button", name="Create an account").click()
    await expect(page.get_by_role("heading", name="Create your account")).to_be_visible()
    await examined.look("register")
    await page.set_viewport_size(PHONE)
    await examined.look_on_phone("register")
    assert examined.found == []


async def test_first_minute(
    opened: tuple[GuardedPage, Examined], resources: Resources, person: Person
) -> None:
    guarded, examined = opened
    page = guarded.page
    await page.route("**/api/v1/models", say_extractive)
    await guarded.open("/")
    await expect(page.get_by_text("Drop PDFs or a whole folder here")).to_be_visible()
    await expect(page.get_by_role("note")).to_be_visible()
    await examined.look("first minute")
    await page.set_viewport_size(PHONE)
    await examined.look_on_phone("first minute")
    await page.get_by_role("button", name="Menu", exact=True).click()
    await examined.look_on_phone("sidebar")


async def say_extractive(route: Route) -> None:
    answer = await (await route.fetch()).json()
    hint = {"name": "ollama", "state": "unconfigured", "hint": "Start Ollama and load a model."}
    await route.fulfill(json=answer | {"answers": "extractive", "providers": [hint]})


async def test_chat(opened: tuple[GuardedPage, Examined], conversation: str) -> None:
    guarded, examined = opened
    page = guarded.page
    await guarded.open("/")
    await expect(page.get_by_role("list", name="Sample questions")).to_be_visible()
    await examined.look("sample questions")
    await guarded.open(conversation)
    articles = page.get_by_role("article")
    await expect(articles).to_have_count(3)
    await articles.nth(1).locator("summary").first.click()
    await examined.look("answers")
    await articles.nth(1).locator(".chip").hover()
    await expect(page.get_by_role("tooltip")).to_be_visible()
    await examined.look("unverified quote")
    await articles.first.locator(".sources summary").click()
    await expect(articles.first.locator(".source").first).to_be_visible()
    await examined.look("sources")
    await articles.first.get_by_role("button", name="Copy", exact=True).click()
    await expect(page.get_by_role("menuitem").first).to_be_visible()
    await examined.look("copy menu")
    await page.keyboard.press("Escape")
    await articles.first.get_by_role("button", name="Bad answer").click()
    await examined.look("comment")
    await articles.first.get_by_role("button", name="About this answer").click()
    await expect(page.get_by_role("dialog")).to_be_visible()
    await examined.look("details")
    await page.keyboard.press("Escape")
    await page.get_by_role("button", name="Edit and ask again").first.click()
    await examined.look("edited question")


async def test_scope_and_refusal(opened: tuple[GuardedPage, Examined], conversation: str) -> None:
    guarded, examined = opened
    page = guarded.page
    await guarded.open(conversation)
    await page.locator(".scope-opener").click()
    await expect(page.get_by_role("dialog")).to_be_visible()
    await examined.look("scope")
    await page.get_by_role("radio", name="Documents with tags").check()
    await page.get_by_role("button", name="contracts").click()
    await examined.look("tags to search")
    await page.get_by_role("radio", name="Chosen documents").check()
    await page.get_by_role("checkbox", name="lease.pdf").check()
    await examined.look("documents to search")
    await page.get_by_role("button", name="Done").click()
    await page.route("**/api/v1/chat/runs", refuse)
    await page.get_by_label("Your question").last.fill("Why?")
    await page.get_by_role("button", name="Ask", exact=True).click()
    await expect(page.locator(".refusal")).to_be_visible()
    await examined.look("refused question")


async def refuse(route: Route) -> None:
    error = {"code": "too_many", "message": "Too many questions. Ask again in a minute."}
    await route.fulfill(status=429, headers={"Retry-After": "60"}, json={"error": error})


async def test_answer_that_is_being_written(
    opened: tuple[GuardedPage, Examined], model_server: ProviderServer
) -> None:
    guarded, examined = opened
    page = guarded.page
    await page.route("**/api/v1/chat/runs", ask_without_documents)
    model_server.script(Reply(text="word " * 2000, chunk_delay_s=0.02))
    await guarded.open("/")
    await page.get_by_label("Your question").fill("Go on.")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("article")).to_contain_text("word word")
    await examined.look("answer being written")
    await page.get_by_role("button", name="Stop the answer").click()
    await expect(page.get_by_text("Stopped")).to_be_visible()


async def ask_without_documents(route: Route) -> None:
    body = json.loads(route.request.post_data or "{}") | {"use_rag": False}
    await route.continue_(post_data=json.dumps(body))


async def test_viewer(opened: tuple[GuardedPage, Examined], conversation: str) -> None:
    guarded, examined = opened
    page = guarded.page
    await guarded.open(conversation)
    await page.locator(".chip").first.click()
    viewer = page.get_by_role("complementary")
    await expect(viewer.locator(".quote-boxes > div").first).to_be_visible()
    await examined.look("viewer")
    await page.set_viewport_size(PHONE)
    await examined.look_on_phone("viewer")
    await page.get_by_role("button", name="Close the document").click()
    await examined.look_on_phone("answers")


async def test_documents(
    opened: tuple[GuardedPage, Examined], failed: list[str], lease: StoredDocument
) -> None:
    guarded, examined = opened
    page = guarded.page
    await guarded.open("/documents")
    rows = page.get_by_role("row")
    await expect(rows).to_have_count(6)
    await examined.look("documents")
    await page.get_by_role("checkbox", name="Select lease.pdf").check()
    await page.get_by_role("checkbox", name="Select broken.pdf").check()
    await examined.look("selected documents")
    await page.get_by_role("button", name="Add tags").click()
    await examined.look("tags dialog")
    await page.keyboard.press("Escape")
    await page.get_by_role("button", name="Delete", exact=True).click()
    await examined.look("delete dialog")
    await page.keyboard.press("Escape")
    await page.get_by_role("button", name="Actions for lease.pdf").click()
    await examined.look("menu of a document")
    await page.keyboard.press("Escape")
    await page.set_viewport_size(PHONE)
    await examined.look_on_phone("documents")
    await page.get_by_label("Find by name").fill("nothing")
    await expect(page.get_by_text("No document matches")).to_be_visible()
    await examined.look_on_phone("no match")


async def test_uploads_and_errors_of_documents(opened: tuple[GuardedPage, Examined]) -> None:
    guarded, examined = opened
    page = guarded.page
    await guarded.open("/documents")
    await expect(page.get_by_text("Add your first documents")).to_be_visible()
    await examined.look("no documents")
    await page.route("**/api/v1/documents/upload", refuse_file)
    files = [FilePayload(name=f"{n}.pdf", mimeType="application/pdf", buffer=b"x") for n in "ab"]
    await page.get_by_label("PDFs and other files").first.set_input_files(files)
    await expect(page.get_by_text("Not uploaded")).to_have_count(2)
    await examined.look("refused files")
    await page.route("**/api/v1/documents?*", lambda route: route.fulfill(status=500, json={}))
    await page.reload()
    await expect(page.get_by_role("alert")).to_be_visible()
    await examined.look("list that can't be loaded")


async def refuse_file(route: Route) -> None:
    error = {"code": "corrupt", "message": "This file is damaged. Save it again."}
    await route.fulfill(status=422, json={"error": error})


async def test_document(
    opened: tuple[GuardedPage, Examined], failed: list[str], lease: StoredDocument
) -> None:
    guarded, examined = opened
    page = guarded.page
    await guarded.open(f"/documents/{lease.id}")
    await expect(page.get_by_role("slider", name="Page")).to_be_visible()
    await examined.look("document")
    await page.get_by_role("button", name="More actions").click()
    await examined.look("menu of a document")
    await page.keyboard.press("Escape")
    await page.set_viewport_size(PHONE)
    await examined.look_on_phone("document")
    for id_, state in zip(failed, ("failed", "processing", "queued", "long name"), strict=True):
        await guarded.open(f"/documents/{id_}")
        await expect(page.get_by_role("heading", level=1)).to_be_visible()
        await examined.look_on_phone(f"{state} document")
    await guarded.open("/documents/01890000-0000-7000-8000-000000000000")
    await expect(page.get_by_text("This document is not here")).to_be_visible()
    await examined.look_on_phone("missing document")


async def test_settings(opened: tuple[GuardedPage, Examined], lease: StoredDocument) -> None:
    guarded, examined = opened
    page = guarded.page
    for section, heading in (
        ("profile", "Appearance"),
        ("security", "Where you are signed in"),
        ("models", "Providers"),
        ("storage", "The largest documents"),
        ("api-keys", "API keys"),
        ("organization", "Delete the organization"),
        ("members", "Invite people"),
        ("usage", "By day"),
        ("budget", "Limits"),
        ("webhooks", "There are no webhooks yet"),
        ("audit", "Audit log"),
    ):
        await page.set_viewport_size({"width": 1280, "height": 800})
        await guarded.open(f"/settings/{section}")
        await expect(page.get_by_role("heading", name=heading)).to_be_visible()
        await expect(page.locator("main .spinner")).to_have_count(0)
        await examined.look(section)
        await page.set_viewport_size(PHONE)
        await examined.look_on_phone(section)
    await guarded.open("/settings/nothing")
    await examined.look_on_phone("no such settings")


async def test_invitation(
    opened: tuple[GuardedPage, Examined], browser: Browser, api_alone: ApiProcess, axe: Path
) -> None:
    guarded, examined = opened
    page = guarded.page
    await guarded.open("/settings/members")
    await page.get_by_label("E-mail address").fill("ada@example.com")
    await page.get_by_role("button", name="Invite", exact=True).click()
    link = page.get_by_text("/join#")
    await link.wait_for()
    await examined.look("link of an invitation")
    await page.get_by_role("button", name="Organization: ").click()
    await examined.look("menu of organizations")
    await page.get_by_role("menuitem", name="New organization").click()
    await examined.look("new organization")
    token = (await link.inner_text()).partition("#")[2]
    async with guarded_page(browser, api_alone.url, scripts=(axe,)) as stranger:
        invited = Examined(stranger.page)
        await stranger.open(f"/join#{token}")
        await stranger.page.get_by_role("button", name="Create account").wait_for()
        await invited.look("invitation")
        await stranger.page.set_viewport_size(PHONE)
        await invited.look_on_phone("invitation")
    assert invited.found == []


async def test_api_keys(opened: tuple[GuardedPage, Examined]) -> None:
    guarded, examined = opened
    page = guarded.page
    await guarded.open("/settings/api-keys")
    await page.get_by_role("button", name="New key").click()
    await page.get_by_label("Name", exact=True).fill("nightly import")
    await page.get_by_text("Limits of its own").click()
    await examined.look("new key")
    await page.set_viewport_size(PHONE)
    await examined.look_on_phone("new key")
    await page.get_by_role("button", name="Create key").click()
    await page.get_by_role("group", name="API key").wait_for()
    await examined.look_on_phone("key that is shown once")
    await page.get_by_role("button", name="Done").click()
    await page.get_by_role("button", name="Actions for nightly import").click()
    await page.get_by_role("menuitem", name="Rotate").click()
    await examined.look_on_phone("rotation of a key")


async def test_used_numbers(
    opened: tuple[GuardedPage, Examined], resources: Resources, person: Person
) -> None:
    await store_usage(resources, person)
    await person.client.put("/api/v1/budget", headers=person.headers, json={"monthly_limit_usd": 0})
    guarded, examined = opened
    page = guarded.page
    await guarded.open("/settings/usage")
    await page.get_by_text("and that of 84 calls without a known price").wait_for()
    await expect(page.get_by_role("table", name="Usage by model")).to_contain_text("Unknown")
    plot = page.get_by_role("slider", name="Tokens by day")
    await plot.focus()
    await examined.look("plots")
    await page.get_by_role("button", name="Table: by day").click()
    await examined.look("table behind a plot")
    await page.set_viewport_size(PHONE)
    await examined.look_on_phone("table behind a plot")
    await page.get_by_role("button", name="Table: by day").click()
    await plot.hover()
    await examined.look_on_phone("plots")
    await guarded.open("/settings/budget")
    await page.get_by_role("meter").wait_for()
    await examined.look_on_phone("spent budget")


async def test_webhooks(opened: tuple[GuardedPage, Examined]) -> None:
    guarded, examined = opened
    page = guarded.page
    await page.set_viewport_size(PHONE)
    await guarded.open("/settings/webhooks")
    await page.get_by_role("button", name="New webhook").click()
    await page.get_by_label("URL").fill(f"http://127.0.0.1:9/{'long' * 60}")
    await page.get_by_label("A document is ready").check()
    await examined.look_on_phone("new webhook")
    await page.get_by_role("button", name="Add webhook").click()
    await page.get_by_role("group", name="Secret").wait_for()
    await examined.look_on_phone("secret that is shown once")
    await page.get_by_role("button", name="Done").click()
    await page.get_by_role("button", name="Actions for").click()
    await page.get_by_role("menuitem", name="Send a test").click()
    await page.get_by_role("button", name="Details: webhook.test").wait_for()
    await examined.look_on_phone("delivery log")
    await page.get_by_role("button", name="Details: webhook.test").click()
    await page.get_by_role("group", name="Data").wait_for()
    await examined.look_on_phone("delivery")


async def test_operators_pages(
    stranger_page: GuardedPage, local_person: Person, resources: Resources
) -> None:
    async with resources.db.system_transaction() as session:
        await session.execute(
            text("UPDATE users SET is_operator = true, name = repeat('W', 100) WHERE id = :id"),
            {"id": local_person.user_id},
        )
    await sign_in(stranger_page, local_person)
    page = stranger_page.page
    examined = Examined(page)
    for section, heading, dialog in (
        ("users", "All users", f"Actions for {local_person.email}"),
        ("organizations", "All organizations", "Plan and limits of"),
        ("prices", "Prices set here", "Set a price"),
        ("aliases", "Model names", "New name"),
        ("providers", "Models in use", None),
        ("audit", "Audit log of the deployment", None),
    ):
        await page.set_viewport_size({"width": 1280, "height": 800})
        await stranger_page.open(f"/settings/admin-{section}")
        await page.get_by_role("heading", name=heading).wait_for()
        await expect(page.locator("main .spinner")).to_have_count(0)
        await examined.look(section)
        await page.set_viewport_size(PHONE)
        await examined.look_on_phone(section)
        if dialog:
            await page.get_by_role("button", name=dialog).first.click()
            await examined.look_on_phone(f"{section}: {dialog}")
            await page.keyboard.press("Escape")
    assert examined.found == []


async def store_usage(resources: Resources, person: Person) -> None:
    """Twelve days of two models, one of unknown price."""
    async with resources.db.system_transaction() as session:
        await session.execute(
            text("""
                INSERT INTO usage_daily
                SELECT :org_id, current_date - day, :user_id, :key_id, 'answer', 'openai', model,
                    7, 1, 900 * day, 100, 80 * day, 1000000 * day, price
                FROM generate_series(0, 11) day,
                    (VALUES ('a', 0), (repeat('b', 90), 7)) m (model, price)
            """),
            {"org_id": person.org_id, "user_id": person.user_id, "key_id": NO_KEY},
        )


async def test_sidebar(opened: tuple[GuardedPage, Examined], conversation: str) -> None:
    guarded, examined = opened
    page = guarded.page
    await guarded.open(conversation)
    more = page.get_by_role("button", name="More about").first
    await more.click()
    await examined.look("menu of a chat")
    await page.get_by_role("menuitem", name="Rename").click()
    await examined.look("title being changed")
    await page.keyboard.press("Escape")
    await more.click()
    await page.get_by_role("menuitem", name="Delete").click()
    await examined.look("deletion of a chat")
    await page.keyboard.press("Escape")
    await page.get_by_role("button", name="Account of").click()
    await examined.look("menu of the account")
    await page.keyboard.press("Escape")
    await page.get_by_label("Search your chats").fill("lease")
    await expect(page.locator("mark").first).to_be_visible()
    await examined.look("found chats")
    await page.get_by_label("Search your chats").fill("zebra")
    await expect(page.get_by_text("Nothing found")).to_be_visible()
    await examined.look("nothing found")
    await page.route("**/api/v1/auth/me", refuse)
    await guarded.open("/settings")
    await page.get_by_label("Name", exact=True).fill("Ada")
    await page.get_by_role("button", name="Save").click()
    await expect(page.get_by_text("Too many questions")).to_be_visible()
    await examined.look("refused name")

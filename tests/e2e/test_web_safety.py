"""The web app and hostile text: names, documents, titles and answers run nothing and load nothing.

Each payload is put wherever text comes from people, documents, models and the API, many on one
page; the guard of the page looks at every node that is made. `test_web_boundary.py` has the rest.
"""

import json
import re
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeVar
from uuid import uuid4

import pytest
from playwright.async_api import Browser, FilePayload, Route, expect
from sqlalchemy import text

from app.chat.events import Failure, UnreadyDocument
from app.core.ids import new_id
from app.core.text import storable
from app.documents.filenames import clean_filename
from app.resources import Resources
from tests.api_process import ApiProcess
from tests.data.xss import PAYLOADS, Payload
from tests.e2e.stored_content import (
    DocumentRow,
    Exchange,
    StoredDocument,
    store_conversation,
    store_documents,
    store_ready_document,
)
from tests.e2e.web_pages import (
    HAND_FED,
    GuardedPage,
    foreign_site,
    guarded_page,
    sign_in,
)
from tests.people import Person
from tests.provider_server import ProviderServer, Reply
from tests.stored import PageRow, change_document

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="starts Debian's Chromium")

TEXTS = tuple(storable(payload.text) for payload in PAYLOADS)
EVERYTHING = " ".join(TEXTS)
# A thread of more answers is slow to draw.
_THREAD = 75
# Each piece of an answer draws the thread anew.
_FED = 25
_TAG = re.compile(r"<[a-z]+(?=[\s/>])")
# Their tags are shown as they are; elsewhere Markdown may make a link or code of them.
_HTML_KINDS = frozenset({"script", "handler", "embed", "style", "clobbering"})
# Within words, and before and after each other character: all places where a frame may end.
_PART = re.compile(r"[A-Za-z]{1,3}|\d+|.", re.DOTALL)


T = TypeVar("T")


def in_parts(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))


@pytest.fixture
async def hand_fed(
    browser: Browser, api_alone: ApiProcess, person: Person
) -> AsyncIterator[GuardedPage]:
    """The same, with event streams that the test feeds."""
    async with guarded_page(browser, api_alone.url, scripts=(HAND_FED,)) as guarded:
        await sign_in(guarded, person)
        guarded.watch()
        yield guarded
        await guarded.settle()
        assert guarded.reports == []


async def test_the_guard_sees_what_a_careless_page_does(
    browser: Browser, api_alone: ApiProcess
) -> None:
    """Else nothing below could fail."""
    async with foreign_site() as site, guarded_page(browser, site.url()) as careless:
        careless.watch(is_own=False)
        await careless.page.goto(site.url())
        # The others lead the page away in the middle of the test.
        staying = [each for each in TEXTS if "http-equiv" not in each]
        missed: list[str] = await careless.page.evaluate(CARELESS, staying)
    assert missed == []
    assert any("a script ran" in report for report in careless.reports)
    assert any("element <script" in report for report in careless.reports)
    assert any("attribute href=javascript:" in report for report in careless.reports)


CARELESS = """
async texts => {
    const missed = [];
    // Some payloads take its place.
    const create = document.createElement.bind(document);
    const box = create("div");
    document.body.append(box);
    for (const text of texts) {
        const parsed = create("template");
        parsed.innerHTML = text;
        if (!parsed.content.querySelector("*")) continue;
        const before = window.__reported;
        box.innerHTML = text;
        await new Promise(done => setTimeout(done));
        if (window.__reported === before) missed.push(text);
    }
    const link = create("a");
    link.href = "javascript:0";
    box.replaceChildren(link);
    await new Promise(done => setTimeout(done, 300));
    return missed;
}
"""


async def test_names_tags_and_errors_of_documents_are_text(
    guarded: GuardedPage, resources: Resources, person: Person
) -> None:
    names = [clean_filename(payload.text) for payload in PAYLOADS]
    rows = [
        DocumentRow(name, error_message=each, tags=(each,), title=each)
        for name, each in zip(names, TEXTS, strict=True)
    ]
    ids = await store_documents(resources, person, rows)
    await change_document(
        resources, str(ids[0]), "title = :title, tags = :tags", title=EVERYTHING, tags=list(TEXTS)
    )
    page = guarded.page
    await guarded.open("/documents")
    for shown in range(50, len(rows), 50):
        await expect(page.get_by_role("row")).to_have_count(shown + 1)
        await page.get_by_role("button", name="Load more").click()
    await expect(page.get_by_role("row")).to_have_count(len(rows) + 1)
    table = page.get_by_role("table", name="Documents")
    assert sorted(await table.locator(".document-link").all_text_contents()) == sorted(names)
    assert sorted(await table.locator(".row-error").all_text_contents()) == sorted(TEXTS)
    assert set(TEXTS[1:]) <= set(await table.locator(".tag-chip").all_text_contents())
    options = await page.get_by_label("Tag", exact=True).locator("option").all_text_contents()
    assert set(options[1:]) <= set(TEXTS)
    assert len(options) > 100
    await guarded.open(f"/documents/{ids[0]}")
    await expect(page.get_by_role("heading", level=1)).to_have_text(
        EVERYTHING, use_inner_text=False
    )
    tags = page.get_by_role("list", name="Tags").get_by_role("listitem")
    assert await tags.all_text_contents() == list(TEXTS)
    await page.get_by_role("button", name="More actions").click()
    await page.get_by_role("menuitem", name="Delete").click()
    await expect(page.get_by_role("dialog")).to_contain_text(names[0])
    await guarded.open("/settings/storage")
    largest = page.get_by_role("region", name="The largest documents").get_by_role("link")
    await expect(largest.first).to_be_visible()
    assert set(await largest.all_text_contents()) <= set(names)


async def test_files_that_are_chosen_and_refused_are_text(
    guarded: GuardedPage, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Their names are the browser's own here: nothing has cleaned them."""
    page = guarded.page
    await page.route("**/api/v1/documents/upload", lambda route: refuse(route, EVERYTHING))
    await guarded.open("/documents")
    await expect(page.get_by_role("button", name="Add PDFs").first).to_be_visible()
    shown = 0
    # The list shows 40 at most.
    for part in in_parts(TEXTS, 40):
        names = [f"{each}.txt" for each in part if "/" not in each]
        files = [FilePayload(name=each, mimeType="text/plain", buffer=b"x") for each in names]
        await page.get_by_label("PDFs and other files").first.set_input_files(files)
        rows = page.get_by_role("region", name="Uploads").get_by_role("listitem")
        await expect(rows.get_by_text("Not uploaded")).to_have_count(len(names))
        assert set(await rows.locator(".upload-name .clip").all_text_contents()) == set(names)
        assert set(await rows.locator("p.status-note").all_text_contents()) == {EVERYTHING}
        shown += len(names)
        await page.get_by_role("button", name="Dismiss failed ones").click()
        await expect(rows).to_have_count(0)
    assert shown > 60


async def refuse(route: Route, message: str, *, status: int = 422) -> None:
    error = {"code": message, "message": message, "type": "x", "param": None}
    body = {"status": "error", "error": error, "metadata": {"request_id": message}}
    await route.fulfill(status=status, json=body)


@pytest.fixture
async def quoted(resources: Resources, person: Person) -> StoredDocument:
    """A document with a payload as the text, the label and the warning of each page."""
    pages = [
        PageRow(number, each, label=each, warnings=(each,))
        for number, each in enumerate(TEXTS, start=1)
    ]
    document = await store_ready_document(resources, person, "report.txt", pages)
    name = clean_filename(EVERYTHING.replace("/", "|").replace("\\", "|"))
    values = "filename = :name, ready_filename = :name"
    await change_document(resources, str(document.id), values, name=name)
    return replace(document, filename=name)


async def test_stored_answers_quotes_and_their_errors_are_text(
    guarded: GuardedPage, resources: Resources, person: Person, quoted: StoredDocument
) -> None:
    page = guarded.page
    names = [UnreadyDocument(quoted.id, quoted.filename, "failed")]
    for part in in_parts(PAYLOADS, _THREAD):
        exchanges = [hostile_exchange(payload, names) for payload in part]
        conversation_id = await store_conversation(resources, person, quoted, exchanges)
        await guarded.open(f"/chat/{conversation_id}")
        await expect(page.get_by_role("article")).to_have_count(len(part))
        seen = await page.evaluate(READ_ANSWERS)
        for payload, answer in zip(part, seen, strict=True):
            check_answer(payload, answer)
            assert answer["question"] == TEXTS[payload.number]
            assert TEXTS[payload.number] in answer["error"]
            assert answer["quote"] == TEXTS[payload.number]
            assert TEXTS[payload.number] in answer["missing"]
        expected = [TEXTS[payload.number] for payload in part[::6]]
        assert await page.evaluate(OPEN_QUOTES, 6) == expected
        await page.locator("article .sources summary").last.click()
        await expect(page.locator("article .source .name").last).to_have_text(quoted.filename)
        await page.get_by_role("button", name="Close the document").click()


def hostile_exchange(payload: Payload, unready: list[UnreadyDocument]) -> Exchange:
    words = TEXTS[payload.number]
    answer = framed(words)
    return Exchange(
        question=words,
        answer=answer,
        page=payload.number + 1,
        is_verified=False,
        missing_numbers=(words,),
        unsupported=((12, len(answer) // 2), (len(answer) // 2 + 3, len(answer))),
        unready=tuple(unready),
        failure=Failure("x", words, is_retryable=True),
    )


def framed(words: str) -> str:
    """An answer with a citation before the payload, and words behind it."""
    return f"It begins [1].\n\n{words}\n\nIt ends."


def check_answer(payload: Payload, answer: dict[str, Any]) -> None:
    """Assert that what was not made Markdown of is there as text, and no citation was forged."""
    shown = answer["text"]
    assert "It begins" in shown, payload
    assert "It ends." in shown, payload
    if payload.kind in _HTML_KINDS:
        assert all(tag in shown for tag in _TAG.findall(payload.text)), payload
    assert 1 <= answer["chips"] <= framed(payload.text).count("[1]"), payload


READ_ANSWERS = """
async () => {
    const until = async find => {
        for (let tries = 0; tries < 200; tries += 1) {
            const found = find();
            if (found) return found;
            await new Promise(done => setTimeout(done, 5));
        }
        return null;
    };
    const questions = [...document.querySelectorAll(".question .bubble")];
    const answers = [...document.querySelectorAll("article.answer")];
    const seen = [];
    for (const [index, answer] of answers.entries()) {
        const chips = answer.querySelectorAll("button.chip");
        const name = chips[0].getAttribute("aria-label");
        chips[0].dispatchEvent(new MouseEvent("mouseenter"));
        await until(() => chips[0].hasAttribute("aria-describedby"));
        const popover = document.querySelector("#citation-quote");
        seen.push({
            text: answer.querySelector(".markdown").textContent,
            question: questions[index].textContent,
            error: answer.querySelector(".failure").textContent,
            chips: chips.length,
            name,
            quote: popover?.querySelector("blockquote").textContent,
            missing: popover?.querySelector(".not-verified").textContent,
        });
    }
    return seen;
}
"""
OPEN_QUOTES = """
async step => {
    const answers = document.querySelectorAll("article.answer");
    const marked = [];
    for (let index = 0; index < answers.length; index += step) {
        const answer = answers[index];
        const before = document.querySelector("aside.viewer mark");
        answer.querySelector("button.chip").click();
        let mark = null;
        for (let tries = 0; tries < 400 && (!mark || mark === before); tries += 1) {
            await new Promise(done => setTimeout(done, 10));
            mark = document.querySelector("aside.viewer mark");
        }
        marked.push(mark?.textContent);
    }
    return marked;
}
"""


async def test_report_warnings_and_metadata_are_text(
    guarded: GuardedPage, resources: Resources, quoted: StoredDocument
) -> None:
    page = guarded.page
    metadata = json.dumps({each: each for each in TEXTS if "\x00" not in each})
    await change_document(
        resources, str(quoted.id), "metadata = CAST(:metadata AS jsonb)", metadata=metadata
    )
    await guarded.open(f"/documents/{quoted.id}")
    facts = page.get_by_label("Facts").locator("dl.facts").last
    await expect(facts.locator("dt")).to_have_count(len(TEXTS))
    assert set(await facts.locator("dd").all_text_contents()) == set(TEXTS)
    await expect(page.get_by_role("button", name="The next page")).to_be_enabled()
    assert await page.evaluate(READ_WARNINGS) == list(TEXTS)


READ_WARNINGS = """
async () => {
    const next = document.querySelector(".page-steps button:last-child");
    const warnings = [];
    for (;;) {
        warnings.push(document.querySelector(".page-warned").textContent);
        if (next.disabled) return warnings;
        next.click();
        await new Promise(done => setTimeout(done));
    }
}
"""


async def test_titles_and_found_words_are_text(
    guarded: GuardedPage, resources: Resources, person: Person, quoted: StoredDocument
) -> None:
    page = guarded.page
    await store_titles(resources, person)
    exchanges = [
        Exchange(f"Zebra{number // 30} {each}", framed(each), page=1)
        for number, each in enumerate(TEXTS)
    ]
    for part in in_parts(exchanges, _THREAD):
        await store_conversation(resources, person, quoted, part)
    await guarded.open("/")
    sidebar = page.get_by_role("navigation", name="Your chats")
    links = sidebar.get_by_role("link")
    for shown in range(40, len(TEXTS), 40):
        await expect(links).to_have_count(shown)
        await page.get_by_role("button", name="Show older chats").click()
    await expect(page.get_by_role("button", name="Show older chats")).to_have_count(0)
    assert set(TEXTS) <= set(await links.all_text_contents())
    found = page.get_by_role("navigation", name="Search results")
    snippets: list[str] = []
    for group in range(len(TEXTS) // 30):
        await page.get_by_label("Search your chats").fill(f"Zebra{group}")
        await expect(found.locator("mark").first).to_have_text(f"Zebra{group}")
        await expect(found.get_by_role("link")).to_have_count(30)
        snippets.extend(await found.locator(".found-snippet").all_text_contents())
    assert len(snippets) == 30 * (len(TEXTS) // 30)
    assert all(snippet.startswith("Zebra") for snippet in snippets)


async def store_titles(resources: Resources, person: Person) -> None:
    rows = [
        {"org_id": person.org_id, "id": new_id(), "user_id": person.user_id, "title": each}
        for each in TEXTS
    ]
    insert = text("""
        INSERT INTO conversations (org_id, id, user_id, title)
        VALUES (:org_id, :id, :user_id, :title)
    """)
    async with resources.db.system_transaction() as session:
        await session.execute(insert, rows)


async def test_names_of_people_and_organizations_are_text(
    guarded: GuardedPage, resources: Resources, person: Person
) -> None:
    page = guarded.page
    async with resources.db.system_transaction() as session:
        for table, id_ in (("users", person.user_id), ("organizations", person.org_id)):
            await session.execute(
                text(f"UPDATE {table} SET name = :name WHERE id = :id"),
                {"name": EVERYTHING, "id": id_},
            )
    await guarded.open("/settings/profile")
    await expect(page.get_by_label("Name", exact=True)).to_have_value(re.compile("<script>"))
    assert EVERYTHING in await page.locator("dl.facts dd").all_text_contents()
    assert await page.locator(".account-names .clip").first.text_content() == EVERYTHING
    assert await page.locator(".organization-opener .clip").text_content() == EVERYTHING
    await guarded.open("/settings/members")
    await expect(page.locator(".who .clip").first).to_have_text(EVERYTHING, use_inner_text=False)
    await page.get_by_role("button", name=re.compile("^Organization: ")).click()
    here = page.get_by_role("menuitemradio")
    await expect(here).to_have_text(EVERYTHING, use_inner_text=False)
    address = f"{uuid4().hex}@example.com"
    invited = await person.post("/api/v1/organization/invitations", json={"email": address})
    await guarded.open(f"/join#{invited.json()['link'].partition('#')[2]}")
    await expect(page.get_by_role("heading", level=1)).to_have_text(
        EVERYTHING, use_inner_text=False
    )


async def test_names_of_keys_are_text(
    guarded: GuardedPage, resources: Resources, person: Person
) -> None:
    page = guarded.page
    created = await person.post("/api/v1/api-keys", json={"name": "key", "scope": "read"})
    async with resources.db.system_transaction() as session:
        await session.execute(
            text("UPDATE api_keys SET name = :name WHERE id = :id"),
            {"name": EVERYTHING, "id": created.json()["id"]},
        )
    await guarded.open("/settings/api-keys")
    await expect(page.locator(".who .clip").first).to_have_text(EVERYTHING, use_inner_text=False)
    await page.get_by_role("button", name="Actions for").click()
    await page.get_by_role("menuitem", name="Revoke").click()
    await expect(page.get_by_role("dialog")).to_contain_text("<script>")


async def test_answers_that_come_in_pieces_are_text_at_every_moment(hand_fed: GuardedPage) -> None:
    """The stream's frames are made here: nothing but the app itself stands before the page."""
    page = hand_fed.page
    await page.route("**/api/v1/chat/runs", begin_hand_fed_run)
    await page.route("**/api/v1/conversations/*/messages?*", OnceEmpty().answer)
    for part in in_parts(PAYLOADS, _FED):
        await hand_fed.open(f"/chat/{uuid4()}")
        await expect(page.get_by_label("Your question")).to_be_visible()
        feeds = [frames_of(payload) for payload in part]
        seen = await page.evaluate(FEED, feeds)
        for payload, answer in zip(part, seen, strict=True):
            check_answer(payload, answer)


async def begin_hand_fed_run(route: Route) -> None:
    conversation_id = json.loads(route.request.post_data or "{}")["conversation_id"]
    run = {"run_id": str(uuid4()), "message_id": str(uuid4()), "conversation_id": conversation_id}
    more = {"status": "queued", "events_url": "/hand-fed", "expires_at": "2099-01-01T00:00:00Z"}
    await route.fulfill(status=201, json=run | more)


class OnceEmpty:
    """Each conversation has no messages at first, and can't be loaded again: its page is as fed."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    async def answer(self, route: Route) -> None:
        url = route.request.url
        if url in self._seen:
            return await route.fulfill(status=503, json={})
        self._seen.add(url)
        return await route.fulfill(json={"items": [], "next_cursor": None})


def frames_of(payload: Payload) -> list[dict[str, Any]]:
    answer = framed(payload.text)
    source = {"document_id": str(uuid4()), "chunk_id": str(uuid4()), "filename": payload.text}
    place = {"n": 1, "page_start": 1, "page_end": 1, "score": 0.8}
    start = {"type": "start", "model": payload.text, "sources": [source | place]}
    quote = {"quote": payload.text, "quote_start": 0, "quote_end": 1, "verified": True}
    citations = [
        {"type": "citation", "answer_start": match.start(), "missing_numbers": []}
        | (source | place | quote)
        for match in re.finditer(r"\[1\]", answer)
    ]
    tokens = [
        {"type": "token", "token": match[0], "offset": match.start()}
        for match in _PART.finditer(answer)
    ]
    error = {"type": "error", "code": "x", "message": payload.text, "retryable": False}
    spans = [{"start": start, "end": start + 9} for start in range(12, len(answer), 13)]
    done = {"type": "done", "done": True, "status": "failed", "finish_reason": "error"}
    ending = {"usage": None, "cost_usd": None, "model_version": payload.text, "degraded": False}
    return [start, *citations, *tokens, error, done | ending | {"unsupported": spans}]


FEED = """
async feeds => {
    const until = async find => {
        for (let tries = 0; tries < 1000; tries += 1) {
            const found = find();
            if (found) return found;
            await new Promise(done => setTimeout(done, 5));
        }
        throw new Error(`waited for ${find}`);
    };
    const seen = [];
    for (const frames of feeds) {
        const area = await until(() => document.querySelector(".composer textarea"));
        area.value = "What is it?";
        area.dispatchEvent(new InputEvent("input", {bubbles: true}));
        (await until(() => document.querySelector(".send:not(:disabled):not(.stop)"))).click();
        // Another stream is that of the documents.
        const stream = await until(() => window.__streams.find(({url}) => url === "/hand-fed"));
        window.__streams.length = 0;
        await stream.feed(frames);
        const { message } = frames.find(({type}) => type === "error");
        const isThis = answer => answer.textContent.includes(message);
        const answer = await until(() =>
            [...document.querySelectorAll("article.answer:has(.failure)")].findLast(isThis));
        seen.push({
            text: answer.querySelector(".markdown").textContent,
            chips: answer.querySelectorAll("button.chip").length,
        });
    }
    return seen;
}
"""


async def test_answers_of_a_model_are_text_as_they_come(
    guarded: GuardedPage, model_server: ProviderServer
) -> None:
    """Through the server's own filter, which takes some of it away."""
    page = guarded.page
    await page.route("**/api/v1/chat/runs", ask_without_documents)
    await guarded.open("/")
    for number, part in enumerate(in_parts(PAYLOADS, 30), start=1):
        answer = "\n\n".join(payload.text for payload in part)
        model_server.script(Reply(text=f"It begins. {storable(answer)} It ends."))
        await page.get_by_label("Your question").last.fill("What is it?")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("article")).to_have_count(number)
        article = page.get_by_role("article").last
        await expect(article.get_by_role("button", name="Answer again")).to_be_enabled()
        await expect(article).to_contain_text("It ends.")


async def ask_without_documents(route: Route) -> None:
    body = json.loads(route.request.post_data or "{}") | {"use_rag": False}
    await route.continue_(post_data=json.dumps(body))


async def test_errors_hints_and_suggestions_of_the_api_are_text(guarded: GuardedPage) -> None:
    page = guarded.page
    await page.route("**/api/v1/documents/suggestions?*", suggest_everything)
    await page.route("**/api/v1/models", hint_everything)
    await page.route("**/api/v1/documents?*", lambda route: refuse(route, EVERYTHING))
    await page.route("**/api/v1/chat/runs", lambda route: refuse(route, EVERYTHING))
    await page.route("**/api/v1/auth/me", lambda route: refuse(route, EVERYTHING))
    await page.route("**/api/v1/session/password", lambda route: refuse(route, EVERYTHING))
    await guarded.open("/")
    questions = page.get_by_role("list", name="Sample questions").locator(".text")
    await expect(questions).to_have_count(len(TEXTS))
    assert await questions.all_text_contents() == list(TEXTS)
    hints = page.get_by_role("note").get_by_role("listitem")
    assert await hints.all_text_contents() == list(TEXTS)
    await page.get_by_label("Your question").fill("What is it?")
    await page.keyboard.press("Enter")
    alert = page.get_by_role("alert")
    await expect(alert).to_have_text(EVERYTHING, use_inner_text=False)
    await guarded.open("/documents")
    await expect(alert).to_contain_text("<script>")
    await guarded.open("/settings/profile")
    await page.get_by_label("Name", exact=True).fill("Ada")
    await page.get_by_role("button", name="Save").click()
    await expect(page.locator(".field-note.error")).to_have_text(EVERYTHING, use_inner_text=False)
    await guarded.open("/settings/security")
    await page.get_by_label("Present password", exact=True).fill("x")
    await page.get_by_label("New password", exact=True).fill("x")
    await page.get_by_role("button", name="Change password").click()
    await expect(page.get_by_role("alert")).to_have_text(EVERYTHING, use_inner_text=False)
    await page.route("**/api/v1/auth/sign-ins", lambda route: refuse(route, EVERYTHING))
    await page.get_by_role("button", name="Sign out everywhere else").click()
    await expect(page.locator(".toast")).to_have_text(EVERYTHING, use_inner_text=False)


async def suggest_everything(route: Route) -> None:
    document_id = str(uuid4())
    items = [
        {"question": each, "document_id": document_id, "filename": each, "heading": each}
        for each in TEXTS
    ]
    await route.fulfill(json={"items": items})


async def hint_everything(route: Route) -> None:
    state = {"state": "unconfigured"}
    providers = [state | {"name": f"a {each}", "hint": each} for each in TEXTS]
    more = {"is_default": False, "context_window": None}
    models = [state | more | {"id": f"a/{each}", "provider": f"a {each}"} for each in TEXTS]
    embedding_model = {"id": EVERYTHING, "state": "ok"}
    catalog = {"models": models, "answers": "extractive", "providers": providers}
    await route.fulfill(json=catalog | {"embedding_model": embedding_model})


async def test_errors_at_the_sign_in_are_text(browser: Browser, api_alone: ApiProcess) -> None:
    async with guarded_page(browser, api_alone.url) as guarded:
        guarded.watch()
        page = guarded.page
        await page.route("**/api/v1/session", lambda route: refuse(route, EVERYTHING, status=401))
        await guarded.open("/sign-in")
        await page.get_by_label("E-mail address").fill("ada@example.com")
        await page.get_by_label("Password", exact=True).fill("x")
        await page.get_by_role("button", name="Sign in").click()
        await expect(page.get_by_role("alert")).to_have_text(EVERYTHING, use_inner_text=False)
        await guarded.settle()
    assert guarded.reports == []


@pytest.mark.parametrize("name", ["constructor", "__proto__", "toString", "%E0%A4%A", "%00", "<x>"])
async def test_strange_addresses_show_the_app(guarded: GuardedPage, name: str) -> None:
    """Names that every object has, and what is no UTF-8."""
    for path in ("settings", "chat", "documents"):
        await guarded.page.goto(f"{guarded.url}/{path}/{name}")
        await guarded.page.get_by_role("link", name="New chat", exact=True).wait_for()

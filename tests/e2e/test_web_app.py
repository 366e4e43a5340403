"""Journeys through the web app in Chromium, on the real product with a worker of its own."""

import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Locator, Route, expect

from tests.cutting_proxy import CuttingProxy
from tests.e2e.product import wait_until_whole
from tests.e2e.report_pdf import FACT, FACT_PAGE
from tests.e2e.web_app import (
    CUT,
    Visitor,
    WebApp,
    file,
    report_part,
    words_in_boxes,
)
from tests.pdfs import encrypted_pdf, truncated_pdf
from tests.people import PASSWORD
from tests.stack_process import free_port

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

API = "-m app api"
# A run belongs to its process until the lease ends; then another may say that it was interrupted.
LEASE_MS = 60_000
FIRST, LAST = 105, 124
PAGE = FACT_PAGE - FIRST + 1
REPORT = file("report.pdf", report_part(FIRST, LAST))
QUESTION = "How many gearboxes did the Brno plant produce in 2021?"
ANSWER = (
    "In 2021 the plant in Brno produced 48,213 gearboxes [[The Brno plant produced]]. "
    "The report says so once, and it gives no other figure for that plant."
)
NOTE = file("note.txt", b"The spare key hangs behind the clock in the hall.", "text/plain")
WHERE = "Where is the spare key?"
THERE = "The spare key hangs behind the clock [[behind the clock]]."
TALE = "Tell me a long story of the spare key behind the clock."
BEGINNING = "Once there was a word, and word after word came"
STORY = " ".join([BEGINNING, *(f"number {n}" for n in range(80)), "until the last of them."])


@pytest.fixture(autouse=True)
def told(web_app: WebApp) -> None:
    web_app.librarian.answers = {QUESTION: ANSWER, WHERE: THERE, TALE: STORY}
    web_app.librarian.word_delay_s = 0.005
    web_app.librarian.go_on()


@pytest.fixture
async def reader(member: Visitor) -> Visitor:
    """Somebody with a short note, in a new chat."""
    await read_note(member)
    return member


async def read_note(member: Visitor) -> None:
    await member.upload_until_ready(NOTE)
    await member.link("New chat").click()


async def begin_story(web_app: WebApp, reader: Visitor) -> Locator:
    """An answer that stands still in its middle until the librarian goes on."""
    web_app.librarian.hold()
    answer = await reader.ask(TALE)
    await expect(answer).to_contain_text(BEGINNING)
    return answer


async def stored_answer(reader: Visitor) -> dict[str, str]:
    """The newest answer of the conversation in front, as the API has it."""
    path = reader.page.url.removeprefix(reader.app.url).replace("/chat/", "/api/v1/conversations/")
    messages: list[dict[str, str]] = (await reader.call(f"{path}/messages"))["items"]
    return messages[-1]


# The first minute


async def test_the_first_minute(web_app: WebApp, visitor: Visitor) -> None:
    streams: list[str] = []
    visitor.page.on(
        "request",
        lambda r: streams.append(r.url) if r.resource_type == "eventsource" else None,
    )
    await visitor.register("Ada Example")
    await expect(visitor.heading("Ask your documents")).to_be_visible()
    await visitor.upload(REPORT)
    uploads = visitor.page.get_by_role("region", name="Uploads")
    await expect(uploads.get_by_role("progressbar", name="Progress of report.pdf")).to_be_visible()
    await expect(uploads).to_contain_text(re.compile(r"\d+ of 20 pages, \d+\s?%"))
    samples = visitor.page.get_by_role("list", name="Sample questions").get_by_role("button")
    await expect(samples.first).to_contain_text("report.pdf")

    web_app.librarian.word_delay_s = 0.05
    await visitor.page.evaluate(KEEP_LENGTHS)
    answer = await visitor.ask_to_end(QUESTION)
    lengths = await visitor.page.evaluate("window.lengths")
    assert lengths == sorted(lengths)
    assert len(lengths) > 5
    assert any(re.search(r"/api/v1/chat/runs/[^/]+/events\?", url) for url in streams)
    await expect(answer).to_contain_text("In 2021 the plant in Brno produced 48,213 gearboxes")
    await check_quote_is_shown(visitor)
    await check_quote_is_highlighted(visitor)


async def check_quote_is_shown(visitor: Visitor) -> None:
    """To who points at the number, and to who comes to it by the keyboard."""
    quote = visitor.page.get_by_role("tooltip")
    await visitor.chip().hover()
    await expect(quote).to_contain_text(FACT)
    await expect(quote).to_contain_text(f"page {PAGE}")
    await visitor.page.mouse.move(0, 0)
    await expect(quote).to_be_hidden()
    await visitor.composer.focus()
    await visitor.tab_to(visitor.chip(), backwards=True)
    await expect(quote).to_contain_text(FACT)


async def check_quote_is_highlighted(visitor: Visitor) -> None:
    """The boxes on the right page of the document lie over the quote's words, and no others."""
    await visitor.chip().click()
    await expect(visitor.viewer).to_contain_text(f"Quote highlighted on page {PAGE}")
    await expect(visitor.viewer.get_by_label("Page, of 20")).to_have_value(str(PAGE))
    sheet = visitor.viewer.get_by_role("group", name=f"Page {PAGE}", exact=True)
    await expect(sheet.locator(".textLayer .endOfContent")).to_be_attached()
    await expect(sheet.locator(".quote-boxes > div").first).to_be_visible()
    await expect(sheet.locator(".quote-boxes > div").first).to_be_in_viewport()
    assert await words_in_boxes(sheet) == FACT.split()


# How long the answer's text is, each time it changes.
KEEP_LENGTHS = """
window.lengths = [];
new MutationObserver(() => {
    const length = document.querySelector("article.answer .markdown")?.textContent.length ?? 0;
    if (length && length !== window.lengths.at(-1)) window.lengths.push(length);
}).observe(document.body, { childList: true, subtree: true, characterData: true });
"""


async def test_back_closes_the_document_and_a_reload_opens_it_again(reader: Visitor) -> None:
    await reader.ask_to_end(WHERE)
    chat = reader.page.url
    await reader.chip().click()
    await expect(reader.viewer).to_contain_text("Quote highlighted on page 1")
    await reader.page.reload()
    await expect(reader.viewer).to_contain_text("Quote highlighted on page 1")
    await reader.page.go_back()
    await expect(reader.viewer).to_be_hidden()
    await expect(reader.answers).to_have_count(1)
    assert reader.page.url == chat
    await reader.page.go_forward()
    await expect(reader.viewer).to_contain_text("Quote highlighted on page 1")
    await reader.viewer.get_by_role("button", name="Close the document").click()
    await expect(reader.viewer).to_be_hidden()
    assert reader.page.url == chat


async def test_a_sample_question_is_asked_by_a_click(reader: Visitor) -> None:
    samples = reader.page.get_by_role("list", name="Sample questions").get_by_role("button")
    await samples.first.click()
    await reader.wait_for_end(reader.answers.first)
    await expect(reader.answers.first).to_contain_text("I was not told.")


async def test_how_soon_the_first_page_can_be_used(
    visitor: Visitor, capsys: pytest.CaptureFixture[str]
) -> None:
    await visitor.page.add_init_script(KEEP_WHEN_USABLE)
    await visitor.page.goto("/")
    await expect(visitor.page.get_by_label("E-mail address")).to_be_editable()
    usable_ms = await visitor.page.evaluate("window.usableAt")
    assert usable_ms > 0
    with capsys.disabled():
        sys.stdout.write(f"\nthe sign-in form can be used after {usable_ms:.0f} ms\n")


KEEP_WHEN_USABLE = """
new MutationObserver((_, observer) => {
    if (!document.querySelector("input[type=email]")) return;
    observer.disconnect();
    window.usableAt = performance.now();
}).observe(document, { childList: true, subtree: true });
"""


# Answers that survive


async def test_a_reload_in_mid_answer_loses_nothing(web_app: WebApp, reader: Visitor) -> None:
    await begin_story(web_app, reader)
    await reader.page.reload()
    answer = reader.answers.first
    await expect(answer).to_contain_text(BEGINNING)
    await expect(reader.button("Stop the answer")).to_be_visible()
    web_app.librarian.go_on()
    await reader.wait_for_end(answer)
    await expect(answer.locator(".markdown")).to_have_text(STORY)
    assert (await stored_answer(reader))["content"] == STORY


async def test_a_second_tab_in_mid_answer_reads_along(web_app: WebApp, reader: Visitor) -> None:
    first = await begin_story(web_app, reader)
    tab = await reader.open_tab(reader.page.url)
    second = tab.answers.first
    await expect(second).to_contain_text(BEGINNING)
    await expect(tab.button("Stop the answer")).to_be_visible()
    web_app.librarian.go_on()
    for visitor, answer in ((reader, first), (tab, second)):
        await visitor.wait_for_end(answer)
        await expect(answer.locator(".markdown")).to_have_text(STORY)
    assert (await stored_answer(reader))["content"] == STORY


async def test_what_was_written_when_it_was_stopped_is_kept(
    web_app: WebApp, reader: Visitor
) -> None:
    answer = await begin_story(web_app, reader)
    await reader.button("Stop the answer").click()
    await expect(answer).to_contain_text("Stopped")
    text = await answer.locator(".markdown").inner_text()
    assert text.startswith(BEGINNING)
    assert STORY.startswith(text)
    await reader.page.reload()
    await expect(reader.answers.first).to_contain_text("Stopped")
    await expect(reader.answers.first.locator(".markdown")).to_have_text(text)
    assert (await stored_answer(reader))["content"].strip() == text


async def test_a_cut_network_is_told_and_loses_nothing(web_app: WebApp) -> None:
    port = web_app.product.stack.port
    async with CuttingProxy(port) as proxy, web_app.visit(url=proxy.url) as visitor:
        await visitor.register()
        await read_note(visitor)
        answer = await begin_story(web_app, visitor)
        visitor.watch.expect(CUT)
        proxy.target_port = free_port()
        proxy.cut()
        await expect(visitor.page.get_by_text("Connection lost, trying again")).to_be_visible()
        web_app.librarian.go_on()
        proxy.target_port = port
        await visitor.wait_for_end(answer)
        await expect(answer.locator(".markdown")).to_have_text(STORY)
        await expect(visitor.page.get_by_text("Connection lost")).to_be_hidden()


@pytest.fixture
async def restarted(web_app: WebApp) -> AsyncIterator[None]:
    """After the test the product is whole again, for the next one."""
    yield
    await wait_until_whole(web_app.product)


@pytest.mark.usefixtures("restarted")
async def test_the_api_is_killed_in_mid_answer(web_app: WebApp, reader: Visitor) -> None:
    answer = await begin_story(web_app, reader)
    reader.watch.expect(CUT)
    kill_api(web_app)
    web_app.librarian.go_on()
    told = answer.get_by_role("alert").filter(has_text="What was written so far is kept.")
    await expect(told).to_be_visible(timeout=LEASE_MS)
    # The last words may have died with the process.
    kept = await answer.locator(".markdown").inner_text()
    assert kept.startswith("Once there was")
    assert STORY.startswith(kept)
    await answer.get_by_role("button", name="Try again").click()
    again = reader.answers.first
    await expect(again.locator(".markdown")).to_have_text(STORY)
    await reader.wait_for_end(again)


async def test_an_upload_goes_on_after_the_api_was_killed(web_app: WebApp, member: Visitor) -> None:
    member.watch.expect(CUT)
    await member.page.goto("/documents")
    await expect(member.heading("Add your first documents")).to_be_visible()
    os.kill(web_app.product.stack.pid_of(API), signal.SIGSTOP)
    try:
        async with member.page.expect_request("**/documents/upload"):
            await member.upload(NOTE)
    finally:
        kill_api(web_app)
    await member.wait_until_ready("note.txt")
    assert [d["filename"] for d in (await member.call("/api/v1/documents"))["items"]] == [
        "note.txt"
    ]


def kill_api(web_app: WebApp) -> None:
    os.kill(web_app.product.stack.pid_of(API), signal.SIGKILL)


# Other people


async def test_a_second_user_sees_nothing_of_the_first(web_app: WebApp, reader: Visitor) -> None:
    await reader.ask_to_end(WHERE)
    document_id = (await reader.call("/api/v1/documents"))["items"][0]["id"]
    async with web_app.visit() as stranger:
        await stranger.register()
        await expect(stranger.page.get_by_text("Your chats will be listed here.")).to_be_visible()
        await expect(stranger.heading("Ask your documents")).to_be_visible()
        await stranger.link("Documents").click()
        await expect(stranger.heading("Add your first documents")).to_be_visible()

        stranger.watch.expect(r"404 .*/api/v1/(documents|conversations)/")
        await stranger.page.goto(f"/documents/{document_id}")
        await expect(stranger.heading("This document is not here")).to_be_visible()
        await stranger.page.goto(reader.page.url)
        await expect(stranger.page.get_by_text("This chat is not here")).to_be_visible()
        page = stranger.page.locator("body")
        await expect(page).not_to_contain_text("spare key")
        await expect(page).not_to_contain_text("note.txt")


# A conversation


async def test_edit_answer_again_and_switch_between_branches(reader: Visitor) -> None:
    await reader.ask_to_end(WHERE)
    answer = reader.answers.first
    await reader.button("Edit and ask again").click()
    editor = reader.page.get_by_role("textbox", name="Your question").first
    await editor.fill(TALE)
    await reader.button("Ask again").click()
    await expect(answer.locator(".markdown")).to_have_text(STORY)
    questions = reader.page.get_by_role("group", name="Versions of this question")
    await expect(questions).to_contain_text("2 / 2")

    await reader.button("Answer again").click()
    answers = reader.page.get_by_role("group", name="Versions of this answer")
    await expect(answers).to_contain_text("2 / 2")
    await reader.wait_for_end(answer)
    await reader.button("Previous answer").click()
    await expect(answers).to_contain_text("1 / 2")

    await reader.button("Previous question").click()
    await expect(answer).to_contain_text("behind the clock")
    await expect(answers).to_be_hidden()
    await reader.page.reload()
    await expect(answer).to_contain_text("behind the clock")
    await expect(questions).to_contain_text("1 / 2")


async def test_thumbs_are_kept(reader: Visitor) -> None:
    await reader.ask_to_end(WHERE)
    good, bad = reader.button("Good answer"), reader.button("Bad answer")
    await good.click()
    await expect(good).to_have_attribute("aria-pressed", "true")
    await bad.click()
    await expect(good).to_have_attribute("aria-pressed", "false")
    await reader.page.get_by_label("What was wrong?").fill("It does not say which clock.")
    await reader.button("Send").click()
    await expect(reader.page.get_by_text("Your comment is kept.")).to_be_visible()
    await reader.page.reload()
    await expect(bad).to_have_attribute("aria-pressed", "true")
    feedback = (await stored_answer(reader))["feedback"]
    assert feedback["comment"] == "It does not say which clock."  # type: ignore[index]


async def test_an_answer_is_copied_with_its_citations(reader: Visitor) -> None:
    await reader.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await reader.ask_to_end(WHERE)
    await reader.choose(reader.button("Copy"), "Copy with citations")
    await expect(reader.page.get_by_text("Copied", exact=True)).to_be_visible()
    copied: str = await reader.page.evaluate("navigator.clipboard.readText()")
    answer, sources = copied.split("\n\n")
    assert answer == "The spare key hangs behind the clock [1]."
    assert sources.startswith('[1] note.txt, p. 1: "The spare key hangs behind the clock')


async def test_a_conversation_is_renamed_found_exported_and_deleted(reader: Visitor) -> None:
    await reader.ask_to_end(WHERE)
    chats = reader.page.get_by_role("navigation", name="Your chats")
    await reader.choose(chats.get_by_role("button", name="More about"), "Rename")
    title = reader.page.get_by_label("Title of the chat")
    await title.fill("Keys of the house")
    await title.press("Enter")
    await expect(chats.get_by_role("link")).to_have_text("Keys of the house")

    await reader.link("New chat").click()
    search = reader.page.get_by_role("searchbox", name="Search your chats")
    await search.fill("clock")
    found = reader.page.get_by_role("navigation", name="Search results").get_by_role("link")
    await expect(found.first.get_by_text("clock", exact=True)).to_be_visible()
    await found.first.click()
    await expect(reader.answers.first).to_contain_text("behind the clock")
    await search.fill("")

    more = chats.get_by_role("button", name="More about")
    async with reader.page.expect_download() as downloading:
        await reader.choose(more, "Export as Markdown")
    download = await downloading.value
    assert download.suggested_filename == "Keys of the house.md"
    exported = (await download.path()).read_text()
    assert WHERE in exported
    assert "behind the clock" in exported

    await reader.choose(more, "Delete")
    await expect(reader.dialog).to_contain_text("Keys of the house")
    await reader.dialog.get_by_role("button", name="Delete").click()
    await expect(reader.page.get_by_text("Your chats will be listed here.")).to_be_visible()
    await expect(reader.page).to_have_url(f"{reader.app.url}/")


# Documents


async def test_documents_are_filtered_sorted_and_tagged(member: Visitor) -> None:
    texts = {"apples.txt": 30, "bananas.txt": 10, "cherries.txt": 20}
    files = [
        file(name, f"{name} are fruit. ".encode() * size, "text/plain")
        for name, size in texts.items()
    ]
    await member.upload_until_ready(*files)
    names = member.page.get_by_role("table", name="Documents").locator(".document-link")
    size = member.page.get_by_role("columnheader", name="Size")
    await size.get_by_role("button").click()
    await expect(names).to_have_text(["apples.txt", "cherries.txt", "bananas.txt"])
    await expect(size).to_have_attribute("aria-sort", "descending")
    await size.get_by_role("button").click()
    await expect(names).to_have_text(["bananas.txt", "cherries.txt", "apples.txt"])

    for name in ("apples.txt", "cherries.txt"):
        await member.page.get_by_role("checkbox", name=f"Select {name}").check()
    await member.button("Add tags").click()
    tags = member.dialog.get_by_role("combobox", name="Add a tag")
    await tags.fill("red")
    await tags.press("Enter")
    await member.dialog.get_by_role("button", name="Add", exact=True).click()
    await expect(member.row("cherries.txt").get_by_role("list", name="Tags")).to_have_text("red")

    await member.page.get_by_role("combobox", name="Tag", exact=True).select_option("red")
    await expect(names).to_have_text(["cherries.txt", "apples.txt"])
    await member.page.get_by_role("searchbox", name="Find by name").fill("app")
    await expect(names).to_have_text(["apples.txt"])
    await member.page.get_by_role("combobox", name="Status").select_option("Failed")
    await expect(member.heading("No document matches")).to_be_visible()
    await member.button("Show all documents").click()
    await expect(names).to_have_count(3)


async def test_a_broken_and_a_protected_pdf(member: Visitor) -> None:
    secret = encrypted_pdf("The vault opens at nine.", password="open sesame")
    await member.open_documents()
    await member.upload(file("broken.pdf", truncated_pdf()), file("secret.pdf", secret))
    broken, locked = member.row("broken.pdf"), member.row("secret.pdf")
    await expect(broken).to_contain_text("Failed")
    await expect(locked).to_contain_text("Failed")
    async with member.page.expect_response("**/retry") as retrying:
        await member.choose(broken.get_by_role("button", name="Actions"), "Try again")
    assert (await retrying.value).ok
    await expect(broken).to_contain_text("Failed")

    menu = locked.get_by_role("button", name="Actions")
    await member.choose(menu, "Enter the password")
    field = member.dialog.get_by_label("Password of the document", exact=True)
    await field.fill("wrong")
    await field.press("Enter")
    await expect(member.dialog).to_be_hidden()
    await expect(locked).to_contain_text("Failed")
    await member.choose(menu, "Enter the password")
    await expect(member.dialog).to_contain_text("The last password did not open it.")
    await field.fill("open sesame")
    await field.press("Enter")
    await expect(locked).to_contain_text("Ready")


async def test_what_is_being_processed_can_be_cancelled(member: Visitor) -> None:
    await member.open_documents()
    await member.upload(file("long.pdf", report_part(1, 100)))
    row = member.row("long.pdf")
    await expect(row).to_contain_text("of 100 pages")
    await member.choose(row.get_by_role("button", name="Actions"), "Cancel")
    await expect(row).to_contain_text("Cancelled")


async def test_a_new_version_is_served_and_the_bytes_come_back(member: Visitor) -> None:
    await member.upload_until_ready(NOTE)
    await member.row("note.txt").get_by_role("link", name="note.txt").click()
    menu = member.button("More actions")
    changed = b"The spare key lies under the mat."
    async with member.page.expect_file_chooser() as choosing:
        await member.choose(menu, "Upload a new version")
    await (await choosing.value).set_files(file("note2.txt", changed, "text/plain"))
    versions = member.page.get_by_role("table", name="Versions").get_by_role("row")
    await expect(versions).to_have_count(3)
    await expect(versions.nth(1)).to_contain_text("Ready, in use")
    async with member.page.expect_download() as downloading:
        await member.choose(menu, "Download the original")
    download = await downloading.value
    assert download.suggested_filename == "note2.txt"
    assert (await download.path()).read_bytes() == changed


async def test_a_deleted_document_leaves_a_receipt(reader: Visitor) -> None:
    await reader.ask_to_end(WHERE)
    chat = reader.page.url
    await reader.link("Documents").click()
    await reader.choose(reader.row("note.txt").get_by_role("button", name="Actions"), "Delete")
    await reader.dialog.get_by_role("button", name="Delete").click()
    await expect(reader.dialog).to_contain_text("nothing of it is left.")
    await reader.dialog.get_by_role("button", name="Done").click()
    await expect(reader.heading("Add your first documents")).to_be_visible()
    await reader.page.goto(chat)
    chip = reader.answers.get_by_role("button", name="Source 1, a deleted document")
    await expect(chip).to_have_attribute("aria-disabled", "true")


async def test_a_folder_and_a_file_that_is_there_already(member: Visitor, tmp_path: Path) -> None:
    folder = tmp_path / "papers"
    (folder / "old").mkdir(parents=True)
    for name, text in {
        "one.txt": "One.",
        "two.md": "# Two",
        "old/three.txt": "Three.",
        ".hidden": "",
        "program.exe": "MZ",
    }.items():
        (folder / name).write_text(text)
    await member.open_documents()
    async with member.page.expect_file_chooser() as choosing:
        await member.button("Add a folder").click()
    await (await choosing.value).set_files(folder)
    told = "Left out: 1 file of a type that can’t be read and 1 hidden file."
    await expect(member.page.get_by_text(re.compile(told.replace("’", ".")))).to_be_visible()
    for name in ("one.txt", "two.md", "three.txt"):
        await member.wait_until_ready(name)

    await member.upload(file("one again.txt", b"One.", "text/plain"))
    uploads = member.page.get_by_role("region", name="Uploads")
    await expect(uploads).to_contain_text("Already there")
    assert (await member.call("/api/v1/documents"))["total"] == 3


# Settings and sign-ins


async def test_name_password_and_other_sign_ins(web_app: WebApp, member: Visitor) -> None:
    await member.page.goto("/settings")
    await member.page.get_by_label("Name", exact=True).fill("Ada Example")
    await member.button("Save").click()
    await expect(member.button(re.compile("^Account.*Ada Example"))).to_be_visible()

    async with web_app.visit() as other:
        other.email = member.email
        other.watch.expect(r"401 ")
        await other.page.goto("/documents")
        await other.sign_in()
        await expect(other.heading("Add your first documents")).to_be_visible()

        await member.link("Password and sign-ins").click()
        sign_ins = member.page.get_by_role("region", name="Where you are signed in")
        rows = sign_ins.get_by_role("listitem")
        await expect(rows).to_have_count(2)
        others = rows.filter(has_not_text="This one")
        await others.get_by_role("button", name="Sign out").click()
        await expect(rows).to_have_count(1)
        await other.page.reload()
        await expect(other.heading("Sign in")).to_be_visible()

        await member.page.get_by_label("Present password", exact=True).fill(PASSWORD)
        await member.page.get_by_label("New password", exact=True).fill("another long sentence")
        await member.button("Change password").click()
        await expect(member.page.get_by_text("Your password is changed.")).to_be_visible()
        await other.page.get_by_label("E-mail address").fill(member.email)
        await other.page.get_by_label("Password", exact=True).fill(PASSWORD)
        await other.button("Sign in").click()
        await expect(other.page.get_by_role("alert")).not_to_be_empty()
        await other.page.get_by_label("Password", exact=True).fill("another long sentence")
        await other.button("Sign in").click()
        await expect(other.heading("Add your first documents")).to_be_visible()


async def test_models_and_storage_are_shown(reader: Visitor) -> None:
    await reader.page.goto("/settings/models")
    models = reader.page.get_by_role("region", name="Models that answer")
    await expect(models).to_contain_text("gpt-4.1-mini")
    await expect(models).to_contain_text("Ready")
    await reader.link("Storage").click()
    storage = reader.page.get_by_role("region", name="The largest documents")
    await expect(storage).to_contain_text("note.txt")


async def test_to_sign_out_in_one_tab_signs_out_the_other(member: Visitor) -> None:
    # What is on its way at that moment is refused.
    member.watch.expect(r"401 ")
    tab = await member.open_tab("/documents")
    await expect(tab.heading("Add your first documents")).to_be_visible()
    await member.choose(member.button(re.compile("^Account")), "Sign out")
    await expect(member.heading("Sign in")).to_be_visible()
    await expect(tab.heading("Sign in")).to_be_visible()
    await tab.page.reload()
    await expect(tab.heading("Sign in")).to_be_visible()


async def test_the_cookie_goes_on_when_the_access_token_has_expired(member: Visitor) -> None:
    async def spoil(route: Route) -> None:
        await route.continue_(headers={**route.request.headers, "authorization": "Bearer expired"})

    member.watch.expect(r"401 .*/api/v1/organization/storage")
    await member.page.route("**/api/v1/organization/storage", spoil, times=1)
    await member.link("Settings").click()
    async with member.page.expect_response("**/api/v1/session/refresh") as refreshing:
        await member.link("Storage").click()
    assert (await refreshing.value).ok
    storage = member.page.get_by_role("region", name="What your organization keeps here")
    await expect(storage).to_contain_text("Documents")


# Without a mouse, on a phone, from right to left


async def test_with_the_keyboard_alone(web_app: WebApp, reader: Visitor) -> None:
    async with web_app.visit() as typist:
        typist.email = reader.email
        await typist.page.goto("/")
        await typist.tab_to(typist.page.get_by_label("E-mail address"))
        await typist.page.keyboard.type(typist.email)
        await typist.tab_to(typist.page.get_by_label("Password", exact=True))
        await typist.page.keyboard.type(PASSWORD)
        await typist.page.keyboard.press("Enter")
        await expect(typist.composer).to_be_visible()
        await typist.tab_to(typist.composer)
        await typist.page.keyboard.type(WHERE)
        await typist.page.keyboard.press("Enter")
        await typist.wait_for_end(typist.answers.first)

        await typist.tab_to(typist.chip(), backwards=True)
        await typist.page.keyboard.press("Enter")
        await expect(typist.viewer).to_contain_text("Quote highlighted on page 1")
        await typist.page.keyboard.press("Escape")
        await expect(typist.viewer).to_be_hidden()
        await expect(typist.chip()).to_be_focused()

        more = typist.button(f"More about “{WHERE}”")
        await typist.tab_to(more, backwards=True)
        await typist.page.keyboard.press("Enter")
        await expect(typist.page.get_by_role("menuitem", name="Rename")).to_be_focused()
        await typist.page.keyboard.press("ArrowUp")
        await expect(typist.page.get_by_role("menuitem", name="Delete")).to_be_focused()
        await typist.page.keyboard.press("Enter")
        await expect(typist.dialog).to_contain_text("Delete this chat?")
        await typist.tab_to(typist.dialog.get_by_role("button", name="Delete"))
        await typist.page.keyboard.press("Enter")
        await expect(typist.page.get_by_text("Your chats will be listed here.")).to_be_visible()


PHONE = {"width": 360, "height": 740}
HEBREW = "המפתח הרזרבי תלוי מאחורי השעון במסדרון."
HEBREW_QUESTION = "איפה המפתח הרזרבי?"


async def test_no_view_scrolls_sideways_on_a_phone(web_app: WebApp) -> None:
    web_app.librarian.answers[HEBREW_QUESTION] = "המפתח תלוי מאחורי השעון [[מאחורי השעון]]."
    long_name = "x" * 200 + ".txt"
    async with web_app.visit(viewport=PHONE, has_touch=True, is_mobile=True) as visitor:
        await visitor.page.goto("/")
        await check_fits(visitor)
        await visitor.register()
        await check_fits(visitor)
        hebrew = file("מפתח.txt", HEBREW.encode(), "text/plain")
        await visitor.upload_until_ready(hebrew, file(long_name, b"Long.", "text/plain"))
        await check_fits(visitor)
        await visitor.row(long_name).get_by_role("link").click()
        await expect(visitor.page.get_by_role("table", name="Versions")).to_be_visible()
        await check_fits(visitor)
        sections = ("profile", "security", "models", "storage", "api-keys", "organization")
        for section in (*sections, "members"):
            await visitor.page.goto(f"/settings/{section}")
            await expect(visitor.page.get_by_role("heading", level=2).first).to_be_visible()
            await check_fits(visitor)
        await visitor.page.goto("/")
        answer = await visitor.ask_to_end(HEBREW_QUESTION)
        text = answer.get_by_text("המפתח תלוי מאחורי השעון")
        assert await text.evaluate("e => getComputedStyle(e).direction") == "rtl"
        await check_fits(visitor)
        await visitor.chip().click()
        await expect(visitor.viewer).to_contain_text("Quote highlighted on page 1")
        mark = visitor.viewer.locator("mark")
        assert await mark.evaluate("e => getComputedStyle(e).direction") == "rtl"
        assert " ".join((await mark.inner_text()).split()) == HEBREW
        await check_fits(visitor)
        await visitor.button("Close the document").click()
        await visitor.button("Menu").click()
        await expect(visitor.link("New chat")).to_be_in_viewport()
        await check_fits(visitor)


async def check_fits(visitor: Visitor) -> None:
    """Nothing lies beside the window, and no part but strips of links scrolls sideways."""
    await expect(visitor.page.get_by_text(re.compile("^Loading"))).to_have_count(0)
    wide: list[str] = await visitor.page.evaluate(FIND_WIDE)
    assert wide == [], visitor.page.url


FIND_WIDE = """
() => {
    const root = document.scrollingElement;
    const scrolls = e => ["auto", "scroll"].includes(getComputedStyle(e).overflowX);
    return [root, ...document.querySelectorAll("main, main :not(nav), .viewer")]
        .filter(e => e.scrollWidth > e.clientWidth + 1 && (e === root || scrolls(e)))
        .map(e => `${e.tagName}.${e.className}: ${e.scrollWidth} > ${e.clientWidth}`);
}
"""

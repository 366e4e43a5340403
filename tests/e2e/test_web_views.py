"""What the main views of the web app look like; with `--screenshots FOLDER` as pictures, too."""

import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image
from playwright.async_api import expect

from tests.e2e.report_pdf import report_pdf
from tests.e2e.sample_company import (
    ANNUAL_REPORT,
    ANSWER,
    ANSWER_START,
    MINUTES,
    QUESTION,
    annual_report,
    pier_lease,
    safety_handbook,
)
from tests.e2e.web_app import Visitor, WebApp, file
from tests.pdfs import encrypted_pdf

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

EMAIL = "ada@saltmarsh.example"
NAME = "Ada Lindqvist"
SIZE = {"width": 1440, "height": 900}
PHONE = {"width": 390, "height": 844}
# So many that nobody sees a difference, and so few that the README loads fast.
COLORS = 256

READABLE = [
    file(ANNUAL_REPORT, annual_report()),
    file("Safety handbook.pdf", safety_handbook()),
    file("Lease of pier 7.pdf", pier_lease()),
    file("Board minutes.md", MINUTES, "text/markdown"),
]
TAGS = {ANNUAL_REPORT: ("board", "2025"), "Lease of pier 7.pdf": ("contracts",)}
LONG = file("Tariff of the port authority.pdf", report_pdf())
SOME_PAGES = re.compile(r"[1-9]\d* of 160 pages")
LOCKED = file("Payroll 2025.pdf", encrypted_pdf("Who earns what.", password="secret"))


class Camera:
    """Takes pictures where a folder for them was named."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    async def take(self, visitor: Visitor, name: str) -> None:
        if self._folder is None:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        # Nothing is pointed at, and no letter is drawn in another font a moment later.
        await visitor.page.mouse.move(0, 0)
        await visitor.page.evaluate("document.fonts.ready")
        picture = await visitor.page.screenshot(animations="disabled", caret="hide")
        image = Image.open(BytesIO(picture)).convert("RGB")
        image.quantize(COLORS, dither=Image.Dither.NONE).save(
            self._folder / f"{name}.png", optimize=True
        )


@pytest.fixture(scope="module")
def camera(request: pytest.FixtureRequest) -> Camera:
    return Camera(request.config.getoption("--screenshots", default=None))


@pytest.fixture(scope="module")
async def ada(web_app: WebApp) -> AsyncIterator[Visitor]:
    """The one who works with the company's documents, in each of these tests."""
    web_app.librarian.answers = {QUESTION: ANSWER}
    web_app.librarian.go_on()
    async with web_app.visit(viewport=SIZE, color_scheme="light") as ada:
        ada.email = EMAIL
        await ada.register(NAME)
        await ada.upload_until_ready(*READABLE)
        for filename, tags in TAGS.items():
            await tag(ada, filename, tags)
        yield ada


async def tag(visitor: Visitor, filename: str, tags: tuple[str, ...]) -> None:
    menu = visitor.row(filename).get_by_role("button", name="Actions")
    await visitor.choose(menu, "Edit tags")
    field = visitor.dialog.get_by_role("combobox", name="Add a tag")
    for each in tags:
        await field.fill(each)
        await field.press("Enter")
    await visitor.dialog.get_by_role("button", name="Save").click()
    await expect(visitor.dialog).to_be_hidden()


async def open_answer(visitor: Visitor) -> None:
    """The answer with its citations, and the page that one of them quotes."""
    await expect(visitor.answers.first).to_contain_text(ANSWER_START)
    await visitor.wait_for_end(visitor.answers.first)
    await visitor.chip(1).click()
    await expect(visitor.viewer).to_contain_text("Quote highlighted on page 5")
    await expect(visitor.viewer.locator(".textLayer .endOfContent").first).to_be_attached()
    await expect(visitor.viewer.locator(".quote-boxes > div").first).to_be_in_viewport()


async def test_sign_in(web_app: WebApp, camera: Camera) -> None:
    async with web_app.visit(viewport=SIZE) as visitor:
        await visitor.page.goto("/")
        await expect(visitor.heading("Sign in")).to_be_visible()
        await camera.take(visitor, "sign-in")


async def test_first_minute(ada: Visitor, camera: Camera) -> None:
    await ada.page.goto("/")
    samples = ada.page.get_by_role("list", name="Sample questions").get_by_role("button")
    await expect(samples).to_have_count(4)
    await camera.take(ada, "first-minute")


async def test_uploading(web_app: WebApp, camera: Camera) -> None:
    async with web_app.visit(viewport=SIZE) as visitor:
        visitor.email = "grace@saltmarsh.example"
        await visitor.register("Grace Holm")
        await visitor.upload(LONG, *READABLE)
        uploads = visitor.page.get_by_role("region", name="Uploads")
        await expect(uploads).to_contain_text("4 of 5 documents are ready")
        await expect(uploads).to_contain_text(SOME_PAGES)
        await expect(
            visitor.page.get_by_text("1 document is still being processed")
        ).to_be_visible()
        with stopped_worker(web_app):
            await camera.take(visitor, "uploading")


@contextmanager
def stopped_worker(web_app: WebApp) -> Iterator[None]:
    """What is in work stays where it is."""
    children = web_app.product.pool_children()
    for pid in children:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in children:
            os.kill(pid, signal.SIGCONT)


async def test_chat(ada: Visitor, camera: Camera) -> None:
    await ada.page.goto("/")
    await ada.ask_to_end(QUESTION)
    await open_answer(ada)
    await camera.take(ada, "chat")
    await ada.page.emulate_media(color_scheme="dark", reduced_motion="reduce")
    await camera.take(ada, "chat-dark")
    await ada.page.emulate_media(color_scheme="light", reduced_motion="reduce")
    await ada.button("Close the document").click()


async def test_chat_on_a_phone(web_app: WebApp, ada: Visitor, camera: Camera) -> None:
    async with web_app.visit(
        viewport=PHONE, device_scale_factor=1.5, is_mobile=True, has_touch=True
    ) as phone:
        phone.email = ada.email
        await phone.page.goto("/")
        await phone.sign_in()
        answer = await phone.ask_to_end(QUESTION)
        await expect(answer).to_contain_text(ANSWER_START)
        await camera.take(phone, "chat-phone")


async def test_documents(web_app: WebApp, ada: Visitor, camera: Camera) -> None:
    await ada.page.goto("/documents")
    await expect(ada.row(ANNUAL_REPORT)).to_contain_text("board")
    # The tab that uploads has a list of that above the documents.
    tab = await ada.open_tab("/documents")
    await tab.open_documents()
    await tab.upload(LOCKED, LONG)
    await expect(ada.row(LOCKED["name"])).to_contain_text("Failed")
    await expect(ada.row(LONG["name"])).to_contain_text(SOME_PAGES)
    await tab.page.close()
    with stopped_worker(web_app):
        await camera.take(ada, "documents")


async def test_document(ada: Visitor, camera: Camera) -> None:
    await ada.page.goto("/documents")
    await ada.link(ANNUAL_REPORT).click()
    await expect(ada.heading("Annual report 2025")).to_be_visible()
    await expect(ada.page.get_by_role("slider", name="Page")).to_be_visible()
    await expect(ada.page.get_by_role("table", name="Versions")).to_be_visible()
    await camera.take(ada, "document")


async def test_settings(ada: Visitor, camera: Camera) -> None:
    await ada.page.goto("/settings/models")
    models = ada.page.get_by_role("region", name="Models that answer")
    await expect(models).to_contain_text("gpt-4.1-mini")
    await camera.take(ada, "settings")

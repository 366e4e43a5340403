"""The main job on the real product: a long report goes in, a cited answer comes out.

And nothing gets lost on the way, whatever is killed. The document of a killed worker comes back
when its lease has ended, half a minute later: so the fixtures do harm early and the tests look at
it late. The order saves that wait; each test can run alone.
"""

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import pypdfium2 as pdfium
import pytest
from pypdf import PdfReader

from app.llm.base import NOT_IN_DOCUMENTS
from tests.e2e.product import (
    Product,
    running_product,
    upload,
    wait_until_whole,
    watch,
    watch_to_end,
    watch_to_middle,
)
from tests.e2e.report_pdf import FACT, FACT_PAGE, PAGES, report_pdf
from tests.frames import Frame, check_stream, parse_frames
from tests.pdfs import encrypted_pdf, garbage_pdf, scanned_pdf, truncated_pdf
from tests.people import Person, register
from tests.provider_server import Failure, ProviderServer, Reply
from tests.stack_process import WAIT_S, wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

QUESTION = "How many gearboxes did the Brno plant produce in 2021?"
FIGURE = "48,213"
MEGABYTE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Upload:
    """Somebody and a document of theirs."""

    person: Person
    document_id: str

    @property
    def path(self) -> str:
        return f"/api/v1/documents/{self.document_id}"


@dataclass(frozen=True, slots=True)
class Report(Upload):
    """The report, ready: nothing was killed or wiped while it was ingested."""

    chunk_count: int


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of the product, which outlives its first process."""
    return tmp_path_factory.mktemp("product") / "data"


@pytest.fixture(scope="module")
async def product(home: Path) -> AsyncIterator[Product]:
    async with running_product(home, MAX_UPLOAD_MB="1") as product:
        yield product


@pytest.fixture(scope="module")
async def orphaned(product: Product) -> Upload:
    """The report, and the worker was killed in the middle of it."""
    person = await somebody(product)
    document_id = await upload(person, "report.pdf", report_pdf())
    await watch_to_middle(person, document_id)
    children = product.pool_children()
    for pid in children:
        os.kill(pid, signal.SIGKILL)
    await asyncio.to_thread(
        wait_until,
        lambda: (
            len(product.pool_children()) == len(children) and not children & product.pool_children()
        ),
    )
    return Upload(person, document_id)


@pytest.fixture(scope="module")
async def report(product: Product, orphaned: Upload) -> Report:
    person = await somebody(product)
    document_id = await upload(person, "report.pdf", report_pdf())
    document = await watch_to_end(person, document_id)
    assert document["status"] == "ready", document
    return Report(person, document_id, document["chunk_count"])


@pytest.fixture
async def stranger(product: Product) -> Person:
    return await somebody(product)


async def somebody(product: Product) -> Person:
    return await register(product.client, f"{uuid4().hex}@example.com")


def asking(question: str = QUESTION, **options: Any) -> dict[str, Any]:
    return {"messages": [{"content": question}]} | options


async def ask(person: Person, question: str = QUESTION, **options: Any) -> dict[str, Any]:
    response = await person.post("/api/v1/chat/", json=asking(question, **options))
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def stream(person: Person, **options: Any) -> list[Frame]:
    response = await person.post("/api/v1/chat/stream", json=asking(**options))
    assert response.status_code == 200, response.text
    return parse_frames(response.text)


def folded(text: str) -> str:
    return re.sub(r"\s+", " ", text)


def pages_as_read(number: int) -> list[str]:
    """The text of one page of the report, read by two programs that are not ours."""
    page = pdfium.PdfDocument(report_pdf())[number - 1]
    return [
        folded(page.get_textpage().get_text_range()),
        folded(PdfReader(BytesIO(report_pdf())).pages[number - 1].extract_text()),
    ]


async def check_is_cited(report: Report, citation: dict[str, Any]) -> None:
    """The citation names the report's page of the fact and quotes it word for word."""
    assert citation["document_id"] == report.document_id
    assert (citation["page_start"], citation["page_end"]) == (FACT_PAGE, FACT_PAGE)
    assert citation["verified"] is True
    quote = folded(citation["quote"])
    assert FACT in quote
    assert all(quote in page for page in pages_as_read(FACT_PAGE))


async def check_is_whole(product: Product, upload: Upload, report: Report) -> None:
    """Each chunk and page of a document that was interrupted is stored exactly once."""
    document = await watch_to_end(replace_client(upload.person, product), upload.document_id)
    assert document["status"] == "ready", document
    assert document["page_count"] == PAGES
    assert document["chunk_count"] == report.chunk_count
    ordinals = await product.stored_ordinals(upload.document_id)
    assert ordinals == list(range(report.chunk_count))
    assert await product.stored_pages(upload.document_id) == list(range(1, PAGES + 1))


def replace_client(person: Person, product: Product) -> Person:
    return replace(person, client=product.client)


# The main job


async def test_a_long_report_becomes_ready(report: Report) -> None:
    document = (await report.person.get(report.path)).json()
    assert document["page_count"] == PAGES
    assert document["chunk_count"] >= PAGES
    assert document["percent"] == 100
    assert document["title"] == "Annual report 2021"


async def test_the_answer_cites_the_page_and_quotes_it(report: Report) -> None:
    answer = await ask(report.person)
    assert FIGURE in answer["response"]
    assert answer["degraded"] is True  # no language model is connected
    citation = answer["citations"][0]
    assert f"[{citation['n']}]" in answer["response"]
    assert citation["filename"] == "report.pdf"
    await check_is_cited(report, citation)
    opened = await report.person.get(citation["url"])
    assert opened.content == report_pdf()
    assert citation["url"].endswith(f"#page={FACT_PAGE}")


async def test_the_file_comes_back_byte_for_byte(report: Report) -> None:
    response = await report.person.get(f"{report.path}/content")
    assert response.headers["content-type"] == "application/pdf"
    assert response.content == report_pdf()


async def test_the_stream_gives_the_same_answer(report: Report) -> None:
    frames = await stream(report.person)
    answer = await ask(report.person)
    assert check_stream(frames) == answer["response"]
    assert frames[0].data["sources"]
    cited = [frame.data for frame in frames if frame.type == "citation"]
    assert cited[0]["chunk_id"] == answer["citations"][0]["chunk_id"]
    await check_is_cited(report, cited[0])


async def test_what_no_document_answers_is_said_so_without_a_citation(report: Report) -> None:
    answer = await ask(report.person, "What is the boiling point of tungsten hexafluoride?")
    assert answer["response"] == NOT_IN_DOCUMENTS
    assert answer["citations"] == []


async def test_a_stranger_sees_nothing_of_it(report: Report, stranger: Person) -> None:
    assert (await stranger.get("/api/v1/documents")).json()["items"] == []
    assert (await stranger.get(report.path)).status_code == 404
    assert (await stranger.get(f"{report.path}/content")).status_code == 404
    assert (await stranger.delete(report.path)).status_code == 404
    found = await stranger.post("/api/v1/search", json={"query": FACT})
    assert found.json() == {"results": []}
    answer = await ask(stranger)
    assert (answer["response"], answer["citations"]) == (NOT_IN_DOCUMENTS, [])
    named = [report.document_id]
    for path, body in [
        ("/api/v1/search", {"query": FACT, "document_ids": named}),
        ("/api/v1/chat/", asking(document_ids=named)),
        ("/api/v1/chat/stream", asking(document_ids=named)),
    ]:
        assert (await stranger.post(path, json=body)).status_code == 404
    assert (await report.person.get(report.path)).json()["status"] == "ready"


# A worker that is killed


async def test_killed_workers_are_replaced_and_go_on(product: Product, orphaned: Upload) -> None:
    person = orphaned.person
    assert (await person.get(orphaned.path)).json()["status"] in ("queued", "processing")
    document_id = await upload(person, "note.txt", b"The spare key hangs behind the clock.")
    assert (await watch_to_end(person, document_id))["status"] == "ready"


# Files that cannot be read

REFUSED = {
    "empty": ("a.pdf", b"", 422, "empty_file"),
    "unsupported": ("a.exe", b"MZ" + bytes(100), 415, "unsupported_type"),
    "too large": ("a.txt", b"word " * (MEGABYTE // 4), 413, "payload_too_large"),
}
FAILED = {
    "encrypted": (encrypted_pdf("secret", password="secret"), "encrypted"),
    "without text": (scanned_pdf(), "no_text"),
    "garbage": (garbage_pdf(), "corrupt"),
    "truncated": (truncated_pdf(), "corrupt"),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_a_bad_file_is_refused_at_once(stranger: Person, case: str) -> None:
    filename, content, status, code = REFUSED[case]
    response = await stranger.upload(filename, content)
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)
    assert (await stranger.get("/api/v1/documents")).json()["items"] == []


@pytest.mark.parametrize("case", FAILED)
async def test_an_unreadable_pdf_fails_with_a_reason(stranger: Person, case: str) -> None:
    content, code = FAILED[case]
    document = await watch_to_end(stranger, await upload(stranger, "a.pdf", content))
    assert (document["status"], document["error_code"]) == ("failed", code)
    assert document["error_message"]
    assert document["chunk_count"] == 0


# A Redis that is wiped


async def test_documents_become_ready_though_redis_is_wiped(
    product: Product, report: Report
) -> None:
    first, second = await somebody(product), await somebody(product)
    long = [
        (person, await upload(person, "report.pdf", report_pdf())) for person in (first, second)
    ]
    notes = [
        (first, await upload(first, f"{n}.txt", f"Locker {n} holds {n * 7} keys.".encode()))
        for n in range(4)
    ]
    await watch_to_middle(*long[0])
    assert (await watch(*notes[-1], lambda _: True))["status"] == "queued"
    await product.flush_redis()
    ended = await asyncio.gather(*(watch_to_end(*pair) for pair in [*long, *notes]))
    assert [document["status"] for document in ended] == ["ready"] * 6
    assert [document["chunk_count"] for document in ended[:2]] == [report.chunk_count] * 2

    # And wake-ups go through again, though the wiped Redis no longer knew the queue.
    document_id = await upload(second, "late.txt", b"The late note names a lighthouse.")
    assert (await watch_to_end(second, document_id))["status"] == "ready"


async def test_the_document_of_a_killed_worker_becomes_ready(
    product: Product, orphaned: Upload, report: Report
) -> None:
    await check_is_whole(product, orphaned, report)


# Servers that are killed


@pytest.fixture(scope="module")
async def interrupted(product: Product, report: Report, orphaned: Upload) -> Upload:
    """The report again: Postgres and Redis were killed in the middle of it, and came back."""
    person = await somebody(product)
    document_id = await upload(person, "report.pdf", report_pdf())
    await watch_to_middle(person, document_id)
    for name in ("postgres -D", "redis-server"):
        pid = product.stack.pid_of(name)
        os.kill(pid, signal.SIGKILL)
        await asyncio.to_thread(product.stack.wait_for_other_than, pid, name)
    await wait_until_whole(product)
    return Upload(person, document_id)


async def test_killed_servers_come_back_with_everything(
    interrupted: Upload, report: Report
) -> None:
    await check_is_cited(report, (await ask(report.person))["citations"][0])
    assert (await interrupted.person.get(interrupted.path)).json()["status"] != "failed"
    document_id = await upload(interrupted.person, "note.txt", b"The attic ladder is in the shed.")
    assert (await watch_to_end(interrupted.person, document_id))["status"] == "ready"


# A stack that is killed, and its successor, which has a language model


@pytest.fixture(scope="module")
def default_reply() -> Reply:
    return Reply(text="The Brno plant made 48,213 gearboxes in 2021 [1].")


@pytest.fixture(scope="module")
async def abandoned(product: Product, report: Report, interrupted: Upload) -> Upload:
    """The report again: the supervisor was killed in the middle of it, and all ended."""
    person = await somebody(product)
    document_id = await upload(person, "report.pdf", report_pdf())
    await watch_to_middle(person, document_id)
    product.stack.process.kill()
    product.stack.process.wait()
    await asyncio.to_thread(wait_until, lambda: product.stack.pids() == [])
    return Upload(person, document_id)


@pytest.fixture(scope="module")
async def successor(
    home: Path, abandoned: Upload, provider: ProviderServer
) -> AsyncIterator[Product]:
    async with running_product(
        home, OPENAI_API_KEY="sk-test-0123456789", OPENAI_BASE_URL=provider.openai_url
    ) as product:
        yield product


@pytest.fixture
def author(successor: Product, report: Report) -> Person:
    """Who uploaded the report to the stack that was killed. The sign-in still holds."""
    return replace_client(report.person, successor)


async def test_what_was_there_before_the_kill_is_there(author: Person, report: Report) -> None:
    items = (await author.get("/api/v1/documents")).json()["items"]
    assert [item["id"] for item in items] == [report.document_id]
    assert (await author.get(f"{report.path}/content")).content == report_pdf()


async def test_a_language_models_marker_becomes_a_citation(
    author: Person, report: Report, provider: ProviderServer
) -> None:
    answer = await ask(author)
    assert answer["response"] == provider.default.text
    assert answer["degraded"] is False
    await check_is_cited(report, answer["citations"][0])
    assert check_stream(await stream(author)) == provider.default.text


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (Reply(failure=Failure.STATUS, status=429), 503),
        (Reply(failure=Failure.STATUS, status=500), 503),
        (Reply(failure=Failure.CUT), 502),
    ],
    ids=["429", "500", "cut"],
)
async def test_a_failing_model_is_an_error_that_says_so(
    author: Person, provider: ProviderServer, failure: Reply, status: int
) -> None:
    provider.script(failure)
    # Named: behind the default model there are quotes.
    asked = asking() | {"model": "openai/gpt-4.1-mini"}
    response = await author.post("/api/v1/chat/", json=asked)
    assert response.status_code == status, response.text
    assert response.json()["error"]["code"].startswith("provider_")
    assert ("retry-after" in response.headers) == (status == 503)


async def test_a_cut_stream_ends_with_an_error_and_done(
    author: Person, provider: ProviderServer
) -> None:
    provider.script(replace(provider.default, failure=Failure.CUT))
    frames = await stream(author)
    assert provider.default.text.startswith(check_stream(frames, status="failed"))
    assert frames[-2].data["code"] == "provider_truncated"


async def test_documents_interrupted_by_kills_become_whole(
    successor: Product, report: Report, interrupted: Upload, abandoned: Upload
) -> None:
    await check_is_whole(successor, interrupted, report)
    await check_is_whole(successor, abandoned, report)


# Stops in the middle of a document


async def test_a_stop_and_a_kill_of_the_whole_do_not_count_against_a_document(
    tmp_path: Path,
) -> None:
    async with ProviderServer(default=Reply(failure=Failure.HANG)) as provider:
        settings = {
            "OPENAI_API_KEY": "sk-test-0123456789",
            "OPENAI_BASE_URL": provider.openai_url,
            "EMBEDDING_MODEL": "openai/embed-test",
        }
        async with running_product(tmp_path / "data", **settings) as product:
            person = await somebody(product)
            document_id = await upload(person, "note.txt", b"The mill stands by the weir.")
            await check_first_attempt(product, provider, document_id)
            product.stack.process.send_signal(signal.SIGINT)
            assert await asyncio.to_thread(product.stack.process.wait, WAIT_S) == 0
        async with running_product(tmp_path / "data", **settings) as product:
            await check_first_attempt(product, provider, document_id)
            product.stack.process.kill()
            product.stack.process.wait()
            await asyncio.to_thread(wait_until, lambda: product.stack.pids() == [])
        async with running_product(tmp_path / "data", **settings) as product:
            await check_first_attempt(product, provider, document_id)


async def check_first_attempt(product: Product, provider: ProviderServer, document_id: str) -> None:
    """A worker takes the document, which is as good as new, and hangs."""
    await provider.wait_until(
        lambda: any(call.path.endswith("/embeddings") for call in provider.calls)
    )
    provider.calls.clear()
    assert await product.attempts(document_id) == 1

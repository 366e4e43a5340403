"""Pages -> batches of chunks, read in a thread, one batch ahead of whoever embeds them."""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Mapping
from dataclasses import replace
from itertools import islice

from app.core.metrics import INGESTION_STAGE_SECONDS
from app.ingestion.base import OCR_FAILED, Page, TextSource
from app.ingestion.checkpoints import Batch
from app.ingestion.chunking import MAX_CHUNK_TOKENS, chunk_pages
from app.ingestion.embedding import PREFIX_TOKENS
from app.ingestion.ocr import TOO_SLOW
from app.ingestion.outcomes import IngestErrorCode
from app.ingestion.parsers.base import DocumentUnreadable, has_letters
from app.ingestion.recognition import NO_OCR_WARNING
from app.ingestion.sandbox import SandboxedDocument
from app.llm.base import EmbeddingProvider
from app.models.documents import IngestionStage

CHUNKS_PER_BATCH = 100


class NoText(DocumentUnreadable):
    """There is not one letter in the document. `pages` are its pages all the same.

    The code is `timed_out` where recognizing text was given up: trying again can go better.
    """

    def __init__(self, pages: list[Page]) -> None:
        warnings = [warning for page in pages for warning in page.warnings]
        if any(w == OCR_FAILED or w.startswith(TOO_SLOW) for w in warnings):
            detail = "Recognizing the text in its pictures did not come to an end."
            super().__init__(IngestErrorCode.TIMED_OUT, detail=detail)
        else:
            super().__init__(IngestErrorCode.NO_TEXT)
        if NO_OCR_WARNING in warnings:
            self.message = (
                "The document holds only pictures, and text recognition is not installed or turned "
                "off: install Tesseract (tesseract-ocr), start the worker anew, and try again."
            )
        self.pages = pages


class OcrNeeded(Exception):
    """The text of these pages has to be recognized before the document can go on."""

    def __init__(self, numbers: tuple[int, ...]) -> None:
        super().__init__(f"{len(numbers)} pages")
        self.numbers = numbers


async def read_batches(
    document: SandboxedDocument,
    embedding: EmbeddingProvider,
    *,
    recognized: Mapping[int, Page],
    has_ocr: bool,
) -> AsyncGenerator[Batch]:
    """Yield the chunks of a document in batches, always the same ones for the same document.

    `recognized` holds the pages that text recognition has read, by number. Raises what parsing
    raises, OcrNeeded behind the batches that come before the first page without text, and NoText
    at the end. Closing it early kills the document, for which a thread may still be waiting.
    """
    pages = _with_recognized(document.pages(), recognized, has_ocr=has_ocr)
    batches = _iter_batches(pages, embedding)
    ahead = asyncio.create_task(asyncio.to_thread(_next_batch, batches))
    try:
        # Shielded: a cancelled task would say that it is done while its thread goes on.
        while (batch := await asyncio.shield(ahead)) is not None:
            ahead = asyncio.create_task(asyncio.to_thread(_next_batch, batches))
            yield batch
    finally:
        if not ahead.done():
            document.kill()
        await asyncio.wait([ahead])
        if not ahead.cancelled():
            ahead.exception()  # marks it as seen when nobody asks for the batch any more


def _next_batch(batches: Iterator[Batch]) -> Batch | None:
    with INGESTION_STAGE_SECONDS.labels(stage=IngestionStage.PARSING).time():
        return next(batches, None)


def _with_recognized(
    pages: Iterator[Page], recognized: Mapping[int, Page], *, has_ocr: bool
) -> Iterator[Page]:
    missing: list[int] = []
    for page in pages:
        if page.needs_ocr and page.number not in recognized and has_ocr:
            missing.append(page.number)
        # Behind a page that is missing nothing can be cut into chunks yet.
        if not missing:
            yield _complete(page, recognized.get(page.number)) if page.needs_ocr else page
    if missing:
        raise OcrNeeded(tuple(missing))


def _complete(page: Page, recognized: Page | None) -> Page:
    """Return the page with its recognized text, unless what it says itself is more."""
    if recognized is None:
        return replace(page, warnings=(*page.warnings, NO_OCR_WARNING))
    warnings = page.warnings + recognized.warnings
    if len(recognized.text) <= len(page.text):
        return replace(page, warnings=warnings)
    return replace(
        page,
        text=recognized.text,
        headings=recognized.headings,
        body_start=0,
        body_end=None,
        source=TextSource.OCR,
        warnings=warnings,
    )


def _iter_batches(pages: Iterator[Page], embedding: EmbeddingProvider) -> Iterator[Batch]:
    seen: list[Page] = []
    has_text = False

    def seen_pages() -> Iterator[Page]:
        nonlocal has_text
        for page in pages:
            seen.append(page)
            has_text = has_text or has_letters(page.text)
            yield page

    chunks = chunk_pages(
        seen_pages(),
        tokenizer=embedding.tokenizer,
        max_tokens=min(embedding.max_input_tokens - PREFIX_TOKENS, MAX_CHUNK_TOKENS),
    )
    # One batch is held back, so that the pages behind the last chunk go with the last batch.
    held: Batch | None = None
    while some := list(islice(chunks, CHUNKS_PER_BATCH)):
        if held is not None:
            yield held
        held = Batch(seen[:], some)
        seen.clear()
    if held is None or not has_text:
        raise NoText([*(held.pages if held else ()), *seen])
    yield Batch([*held.pages, *seen], held.chunks)

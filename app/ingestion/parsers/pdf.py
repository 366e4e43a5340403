"""PDF through pdfium, with pypdf as the second opinion on what pdfium can't read."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Lock

import pypdfium2 as pdfium
from pypdfium2 import raw as pdfium_c

from app.ingestion.base import Page
from app.ingestion.cleaning import clean_title
from app.ingestion.outcomes import IngestErrorCode
from app.ingestion.parsers.base import (
    MAX_CHARACTERS,
    DocumentUnreadable,
    ParsedDocument,
    check_page_count,
    has_letters,
    limit_text,
    too_large,
)
from app.ingestion.parsers.pdf_assembly import PageAssembler
from app.ingestion.parsers.pdf_forms import enable_forms
from app.ingestion.parsers.pdf_page import UNREADABLE, RawPage, read_page

# pdfium keeps a page's objects until the document is closed, so memory would grow with the file.
WINDOW_PAGES = 100
# pdfium is not thread-safe, not even for two different documents.
_PDFIUM_LOCK = Lock()


@contextmanager
def open_pdf(path: Path, password: str | None = None) -> Iterator[ParsedDocument]:
    """Open a PDF, with an empty user password if none is given.

    Holds no file open: pages are read in windows. Raises DocumentUnreadable: encrypted,
    wrong_password, corrupt, too_many_pages.
    """
    try:
        with _PDFIUM_LOCK, _open(path, password) as pdf:
            title, page_count = _read_title(pdf), len(pdf)
    except pdfium.PdfiumError as error:
        if error.err_code == pdfium_c.FPDF_ERR_PASSWORD:
            raise _locked(password) from error
        yield _open_with_pypdf(path, password)
        return
    check_page_count(page_count)
    yield ParsedDocument(
        title=title,
        page_count=page_count,
        pages=lambda: limit_text(_read_pages(path, password, page_count)),
    )


def _open(path: Path, password: str | None) -> pdfium.PdfDocument:
    _forget_last_error()
    return pdfium.PdfDocument(path, password=password)


def _forget_last_error() -> None:
    """Overwrite pdfium's last error, so that "password" is never left over from another file.

    A file without pages fails to load without setting an error of its own. Loading nothing always
    fails, and sets "format".
    """
    pdfium_c.FPDF_LoadMemDocument(None, 0, None)


def _locked(password: str | None) -> DocumentUnreadable:
    has_password = password is not None
    return DocumentUnreadable(
        IngestErrorCode.WRONG_PASSWORD if has_password else IngestErrorCode.ENCRYPTED
    )


def _read_title(pdf: pdfium.PdfDocument) -> str | None:
    try:
        return clean_title(pdf.get_metadata_value("Title"))
    except UnicodeDecodeError:
        return None


def _open_with_pypdf(path: Path, password: str | None) -> ParsedDocument:
    """Open a PDF that pdfium refuses, and read all of it at once. Raises DocumentUnreadable."""
    # Slow to import, and hardly ever needed.
    from app.ingestion.parsers.pypdf_reader import read_damaged  # noqa: PLC0415

    title, texts = read_damaged(path, password)
    blank = [RawPage("") for _ in texts]
    return ParsedDocument(
        title=title,
        page_count=len(texts),
        pages=lambda: limit_text(_assemble_with_texts(blank, texts)),
    )


def _read_pages(path: Path, password: str | None, page_count: int) -> Iterator[Page]:
    """Yield pdfium's pages; with pypdf's text, if there is not one letter in all of pdfium's."""
    textless: list[Page] = []
    has_text = False
    for page in _read_with_pdfium(path, password, page_count):
        if not has_text and not has_letters(page.text):
            textless.append(page)
            continue
        if not has_text:
            has_text = True
            yield from textless
        yield page
    if not has_text:
        yield from _try_pypdf(path, password, textless)


def _try_pypdf(path: Path, password: str | None, textless: list[Page]) -> Iterator[Page]:
    """Yield the pages with what text pypdf finds on them."""
    from app.ingestion.parsers.pypdf_reader import read_textless  # noqa: PLC0415

    raws = [
        RawPage(
            "",
            page.width,
            page.height,
            needs_ocr=page.needs_ocr,
            warnings=page.warnings,
            label=page.label,
        )
        for page in textless
    ]
    yield from _assemble_with_texts(raws, read_textless(path, password))


def _assemble_with_texts(raws: Sequence[RawPage], texts: Sequence[str | None]) -> Iterator[Page]:
    """Make pages of pypdf's texts; it may have read fewer than there are."""
    filled = list(raws)
    for index, (raw, text) in enumerate(zip(raws, texts, strict=False)):
        if text is None:
            filled[index] = replace(raw, warnings=raw.warnings or (UNREADABLE,))
        elif has_letters(text):
            filled[index] = replace(raw, text=text, needs_ocr=False, warnings=())
    assembler = PageAssembler()
    for start in range(0, len(filled), WINDOW_PAGES):
        yield from assembler.assemble(filled[start : start + WINDOW_PAGES], first_number=start + 1)


def _read_with_pdfium(path: Path, password: str | None, page_count: int) -> Iterator[Page]:
    assembler = PageAssembler()
    for start in range(0, page_count, WINDOW_PAGES):
        window = _read_window(path, password, start, min(start + WINDOW_PAGES, page_count))
        yield from assembler.assemble(window, first_number=start + 1)


def _read_window(path: Path, password: str | None, start: int, stop: int) -> list[RawPage]:
    """Read pages start to stop (0-based, stop exclusive). A page that fails is an empty page."""
    pages, characters = [], 0
    try:
        with _PDFIUM_LOCK, _open(path, password) as pdf:
            enable_forms(pdf)
            for index in range(start, stop):
                pages.append(read_page(pdf, index))
                characters += len(pages[-1].text)
                if characters > MAX_CHARACTERS:
                    raise too_large()
    except pdfium.PdfiumError as error:
        raise DocumentUnreadable(IngestErrorCode.CORRUPT) from error
    return pages

"""PDF through pdfium, with pypdf as the second opinion on what pdfium can't read."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import pypdfium2 as pdfium
from pypdfium2 import raw as pdfium_c

from app.ingestion.base import Page
from app.ingestion.cleaning import (
    Vocabulary,
    clean_extracted,
    clean_title,
    has_hyphen_marks,
    repair_hyphens,
)
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
from app.ingestion.parsers.pdf_lines import is_scattered, rebuild_lines
from app.ingestion.parsers.pypdf_reader import open_with_pypdf, read_with_pypdf

# pdfium keeps a page's objects until the document is closed, so memory would grow with the file.
WINDOW_PAGES = 100
# pdfium is not thread-safe, not even for two different documents.
_PDFIUM_LOCK = Lock()


@dataclass(frozen=True, slots=True)
class _RawPage:
    text: str
    width: float | None
    height: float | None


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
        yield open_with_pypdf(path, password)
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


def _read_pages(path: Path, password: str | None, page_count: int) -> Iterator[Page]:
    """Yield pdfium's pages; or pypdf's, if there is not one letter in all of pdfium's."""
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
        yield from read_with_pypdf(path, password) or textless


def _read_with_pdfium(path: Path, password: str | None, page_count: int) -> Iterator[Page]:
    vocabulary = Vocabulary()
    for start in range(0, page_count, WINDOW_PAGES):
        window = _read_window(path, password, start, min(start + WINDOW_PAGES, page_count))
        # All of the window's words before its first repair: a split word is often whole later on.
        vocabulary.add(raw.text for raw in window)
        for number, raw in enumerate(window, start + 1):
            text = raw.text
            if has_hyphen_marks(text):
                text = repair_hyphens(text, vocabulary)
            yield Page(number, clean_extracted(text), raw.width, raw.height)


def _read_window(path: Path, password: str | None, start: int, stop: int) -> list[_RawPage]:
    """Read pages start to stop (0-based, stop exclusive). A page that fails is an empty page."""
    pages, characters = [], 0
    try:
        with _PDFIUM_LOCK, _open(path, password) as pdf:
            for index in range(start, stop):
                pages.append(_read_page(pdf, index))
                characters += len(pages[-1].text)
                if characters > MAX_CHARACTERS:
                    raise too_large()
    except pdfium.PdfiumError as error:
        raise DocumentUnreadable(IngestErrorCode.CORRUPT) from error
    return pages


def _read_page(pdf: pdfium.PdfDocument, index: int) -> _RawPage:
    try:
        page = pdf.get_page(index)
    except pdfium.PdfiumError:
        return _RawPage("", None, None)
    try:
        width, height = page.get_size()
        return _RawPage(_read_text(page), width, height)
    finally:
        page.close()


def _read_text(page: pdfium.PdfPage) -> str:
    """Read what lies within the page's box, in the order in which the page draws it.

    By box rather than by range: it keeps superscripts on their line and leaves out what lies off
    the page. A page with a broken box has nothing inside it, so the range is the fallback.
    """
    try:
        text_page = page.get_textpage()
    except pdfium.PdfiumError:
        return ""
    try:
        by_range: str = text_page.get_text_range()
        rebuilt = rebuild_lines(text_page) if is_scattered(by_range) else by_range
        # Hardly fewer lines: the letters really stand apart, as on a map or a chess board.
        if rebuilt.count("\n") < by_range.count("\n") / 2:
            return rebuilt
        by_box: str = text_page.get_text_bounded()
        return by_box if has_letters(by_box) else by_range
    except pdfium.PdfiumError:
        return ""
    finally:
        text_page.close()

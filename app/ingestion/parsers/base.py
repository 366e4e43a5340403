"""What every parser gives: a title, the number of pages, and the pages one after the other."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from app.core.errors import AppError
from app.ingestion.base import Page
from app.ingestion.outcomes import OUTCOMES, IngestErrorCode, remedy_of

MAX_PAGES = 5_000
MAX_CHARACTERS = 20_000_000


class DocumentUnreadable(AppError):
    """A document can't be made searchable.

    `error_code` says why, `detail` is a sentence on this one document or empty, and `message` is
    the detail followed by the remedy.
    """

    status, code, type = 422, "document_unreadable", "invalid_request_error"

    def __init__(self, error_code: IngestErrorCode, *, detail: str = "") -> None:
        super().__init__(f"{detail} {remedy_of(error_code)}".strip(), code=error_code.value)
        self.error_code = error_code
        self.detail = detail

    @property
    def is_retryable(self) -> bool:
        return OUTCOMES[self.error_code].is_retryable


@dataclass(frozen=True, slots=True)
class ParsedDocument:
    """An open document. `title` comes from its own metadata, cleaned.

    `pages()` reads the pages in order, numbered from 1, each with its headings, while the document
    is open; it raises DocumentUnreadable for what only shows on the way, such as too much text.
    Pages without any text are yielded like the others: whoever reads them says `no_text`.
    """

    title: str | None
    page_count: int
    pages: Callable[[], Iterator[Page]]


# Takes the file and the password for it, if the user gave one. Synchronous, and runs in a process
# of its own. Raises DocumentUnreadable on opening.
Parser = Callable[[Path, str | None], AbstractContextManager[ParsedDocument]]


def limit_text(pages: Iterator[Page]) -> Iterator[Page]:
    """Pass pages on. Raises DocumentUnreadable (too_large) past MAX_CHARACTERS."""
    characters = 0
    for page in pages:
        characters += len(page.text)
        if characters > MAX_CHARACTERS:
            raise too_large()
        yield page


def too_large() -> DocumentUnreadable:
    detail = f"The document holds more than {MAX_CHARACTERS:,} characters."
    return DocumentUnreadable(IngestErrorCode.TOO_LARGE, detail=detail)


def check_page_count(page_count: int) -> None:
    """Raise DocumentUnreadable for a document without pages, or with more than MAX_PAGES."""
    if page_count < 1:
        raise DocumentUnreadable(IngestErrorCode.CORRUPT, detail="The document has no pages.")
    if page_count > MAX_PAGES:
        detail = f"The document has {page_count:,} pages, and the limit is {MAX_PAGES:,}."
        raise DocumentUnreadable(IngestErrorCode.TOO_MANY_PAGES, detail=detail)


def has_letters(text: str) -> bool:
    return any(character.isalnum() for character in text)

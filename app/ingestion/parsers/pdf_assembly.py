"""Raw pages of a PDF -> pages: mended words, cleaned text, headings, running lines left out."""

from collections.abc import Iterator, Sequence

from app.ingestion.base import Page, TextSource
from app.ingestion.cleaning import (
    Vocabulary,
    clean_extracted,
    has_hyphen_marks,
    repair_hyphens,
)
from app.ingestion.parsers.base import has_letters
from app.ingestion.parsers.pdf_headings import PdfHeadingFinder
from app.ingestion.parsers.pdf_page import RawPage
from app.ingestion.running_lines import RunningLines


class PageAssembler:
    """Makes the pages of one document, window after window.

    What a word, a running header or the size of the text is shows over many pages: it is learned
    from all of a window before its first page is made, and kept for the windows behind it.
    """

    def __init__(self) -> None:
        self._vocabulary = Vocabulary()
        self._headings = PdfHeadingFinder()
        self._running_lines = RunningLines()

    def assemble(self, window: Sequence[RawPage], *, first_number: int) -> Iterator[Page]:
        """Yield the pages of a window in order, numbered from `first_number`."""
        self._vocabulary.add(raw.text for raw in window)
        self._headings.learn(raw.styles for raw in window)
        texts = [self._clean(raw) for raw in window]
        titles = [self._headings.find_large(raw.styles) for raw in window]
        bodies = self._running_lines.find_bodies(texts, titles, first_number=first_number)
        pages = zip(window, texts, bodies, strict=True)
        for number, (raw, text, (start, end)) in enumerate(pages, first_number):
            yield Page(
                number,
                text,
                raw.width,
                raw.height,
                headings=self._headings.find(text, start, end, raw.styles),
                body_start=start,
                body_end=end,
                source=_find_source(raw, text),
                needs_ocr=raw.needs_ocr,
                warnings=raw.warnings,
                label=raw.label,
            )

    def _clean(self, raw: RawPage) -> str:
        text = raw.text
        if has_hyphen_marks(text):
            text = repair_hyphens(text, self._vocabulary)
        return clean_extracted("\n".join([text, *raw.form_lines]))


def _find_source(raw: RawPage, text: str) -> TextSource:
    if not has_letters(text):
        return TextSource.NONE
    in_fields = sum(map(len, raw.form_lines))
    return TextSource.FORM_FIELDS if in_fields > len(text) / 2 else TextSource.TEXT_LAYER

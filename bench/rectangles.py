"""How many quotes of real PDFs are found on their page: random sentences of the stored text.

python -m bench.rectangles --data ../shared/eval

And whether pdfium reads the same letters under their rectangles, on pages that are not turned.
"""

import argparse
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pypdfium2 as pdfium

from app.core.sentences import split_sentences
from app.ingestion.alignment import fold
from app.ingestion.base import Page, QuotePlace, TextSource
from app.ingestion.locating import find_quote
from app.ingestion.media_types import PDF
from app.ingestion.parsers.base import DocumentUnreadable
from app.ingestion.parsing import open_document

_LEAST_CHARACTERS = 20
_SOURCES = (TextSource.TEXT_LAYER, TextSource.FORM_FIELDS)
# Of a rectangle's height, above and below: what reaches in from the lines around it doesn't count.
_MARGIN = 0.3
_FOREIGN_LETTERS = 2


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one quote. `covered` is None on a turned page."""

    found: bool
    covered: bool | None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/eval"))
    parser.add_argument("--quotes", type=int, default=20, help="of each file, at most")
    options = parser.parse_args()
    outcomes: list[Outcome] = []
    started = time.perf_counter()
    for path in sorted((options.data / "pdfs").glob("*.pdf")):
        of_file = list(locate_some(path, options.quotes))
        outcomes += of_file
        if not all(outcome.found and outcome.covered is not False for outcome in of_file):
            print(f"{path.name}: {of_file}")
    if not outcomes:
        parser.error(f"{options.data / 'pdfs'} has no PDF with text in it")
    elapsed_ms = 1000 * (time.perf_counter() - started) / len(outcomes)
    found = sum(outcome.found for outcome in outcomes)
    covered = [outcome.covered for outcome in outcomes if outcome.covered is not None]
    print(
        f"{found} of {len(outcomes)} quotes found ({found / len(outcomes):.2%}),"
        f" the same letters under {sum(covered)} of {len(covered)}; {elapsed_ms:.0f} ms each,"
        " with reading the files"
    )


def locate_some(path: Path, count: int) -> Iterator[Outcome]:
    """Look for some sentences, the same ones each time. Nothing for a file that can't be read."""
    try:
        with open_document(path, PDF) as document:
            pages = {page.number: page for page in document.pages() if page.source in _SOURCES}
    except DocumentUnreadable:
        return
    sentences = list(_iter_sentences(pages))
    chosen = random.Random(path.name).sample(sentences, min(count, len(sentences)))
    with pdfium.PdfDocument(path) as pdf:
        for number, start, end in chosen:
            text = pages[number].text
            place = find_quote(path, number=number, text=text, start=start, end=end)
            covered = _is_covered(pdf[number - 1], place, text[start:end])
            yield Outcome(bool(place.rectangles), covered)


def _iter_sentences(pages: dict[int, Page]) -> Iterator[tuple[int, int, int]]:
    for number, page in pages.items():
        for sentence in split_sentences(page.text):
            if sentence.end - sentence.start >= _LEAST_CHARACTERS:
                yield number, sentence.start, sentence.end


def _is_covered(page: pdfium.PdfPage, place: QuotePlace, quote: str) -> bool | None:
    if page.get_rotation():
        return None
    left, bottom, right, top = page.get_bbox()
    width, height = right - left, top - bottom
    text_page = page.get_textpage()
    under: Counter[str] = Counter()
    for r in place.rectangles:
        margin = _MARGIN * r.height * height
        read = text_page.get_text_bounded(
            left + r.x * width - 0.1,
            top - (r.y + r.height) * height + margin,
            left + (r.x + r.width) * width + 0.1,
            top - r.y * height - margin,
        )
        under.update(fold(read).letters)
    wanted = Counter(fold(quote).letters)
    return not wanted - under and (under - wanted).total() <= _FOREIGN_LETTERS


if __name__ == "__main__":
    main()

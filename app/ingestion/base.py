"""What flows through ingestion: pages with their headings, and chunks; and how a page looks."""

from dataclasses import dataclass
from enum import StrEnum

from app.models.spans import Span

MAX_LABEL_CHARACTERS = 40
OCR_FAILED = "Text recognition failed on this page."


class TextSource(StrEnum):
    """Where the text of a page came from. The report of a document shows it."""

    TEXT_LAYER = "text_layer"  # what the file itself says, in any format
    FORM_FIELDS = (
        "form_fields"  # a PDF's page whose words are, mostly, what its form was filled with
    )
    OCR = "ocr"
    NONE = "none"  # the page has no letter or digit


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading line. `start` and `end` are its code points in the text; level 1 is the highest."""

    start: int
    end: int
    level: int
    title: str


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a document. `number` is 1-based; `text` is cleaned and is what gets stored.

    Slides, sheets and chapters are pages; formats without any of them are one page. Sizes are in
    PDF points, None where there is none. `headings` are in the order of the text and don't
    overlap. `body_start` and `body_end` (None: the end) leave out running headers and footers.
    `needs_ocr`: the page shows something, and its text has to be recognized in the picture of it.
    `warnings` are sentences for the user on what could not be read; they quote nothing of the page.
    `label` is the page's printed name ("iv"), None where that is its number.
    """

    number: int
    text: str
    width: float | None = None
    height: float | None = None
    headings: tuple[Heading, ...] = ()
    body_start: int = 0
    body_end: int | None = None
    source: TextSource = TextSource.TEXT_LAYER
    needs_ocr: bool = False
    warnings: tuple[str, ...] = ()
    label: str | None = None


@dataclass(frozen=True, slots=True)
class PageImage:
    """A page as readers see it. The sizes are in pixels, `png` is the file."""

    width: int
    height: int
    png: bytes


@dataclass(frozen=True, slots=True)
class Rectangle:
    """A part of a page's image, in fractions of its width and height from the top left."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class QuotePlace:
    """Where a quote stands on its page: one rectangle a line, none if it was not found."""

    rectangles: tuple[Rectangle, ...] = ()


@dataclass(frozen=True, slots=True)
class Chunk:
    """A passage that is embedded and cited as one.

    `text` is the slices of the page texts that `spans` name, in order, joined by SPAN_SEPARATOR.
    `heading` is the path of headings above it ("Item 7 > Liquidity"), or None.
    """

    ordinal: int
    text: str
    spans: tuple[Span, ...]
    heading: str | None
    token_count: int

    @property
    def page_start(self) -> int:
        return self.spans[0].page

    @property
    def page_end(self) -> int:
        return self.spans[-1].page

"""What flows through ingestion: pages and chunks."""

from dataclasses import dataclass

from app.models.spans import Span


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a document. `number` is 1-based; `text` is cleaned and is what gets stored.

    Formats without pages are one page. Sizes are in PDF points, None where there is none.
    """

    number: int
    text: str
    width: float | None = None
    height: float | None = None


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

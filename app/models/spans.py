"""Spans: what a chunk's text is made of, and how `chunks.spans` holds them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# Between two spans of one chunk: where it runs on over a page's end, or leaves something out.
SPAN_SEPARATOR = "\n"


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of one page's text: code points, `end` exclusive. `page` is the page's number."""

    page: int
    start: int
    end: int


def span_text(spans: Sequence[Span], page_texts: Mapping[int, str]) -> str:
    """Return the text that spans stand for; for a chunk's own spans that is the chunk's text."""
    return SPAN_SEPARATOR.join(page_texts[s.page][s.start : s.end] for s in spans)


def flatten_spans(spans: Sequence[Span]) -> list[int]:
    """Return page, start and end of each span, one after the other."""
    return [number for span in spans for number in (span.page, span.start, span.end)]


def unflatten_spans(flat: Sequence[int]) -> tuple[Span, ...]:
    """Undo `flatten_spans`."""
    return tuple(Span(*flat[i : i + 3]) for i in range(0, len(flat), 3))

"""Where a page's text may be cut, and how well."""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from app.ingestion.headings import Heading


class Break(IntEnum):
    """How good it is to begin a passage here, worst first."""

    LINE = 1  # amid a sentence: the lines of a PDF end where its column does
    SENTENCE = 2  # also the row of a table
    PARAGRAPH = 3
    HEADING = 4


# A sentence ends before white space and what can begin the next one, or after a CJK full stop.
_SENTENCE_END = re.compile(
    r"(?:[.!?…][\"'”’)\]]*+\s++(?=[^\W_a-z]|[\"'“‘(\[•])|[。！？｡]\s*+(?=\S))"
)
# A line that ends so is a whole sentence, a row of figures or the lead-in to a list.
_CLOSED_LINE = re.compile(r"[.!?:;…。！？)\]%\d—–|]$")


@dataclass(frozen=True, slots=True)
class Boundaries:
    """The places where a passage may begin: ascending code points, and how good each is."""

    positions: Sequence[int]
    breaks: Sequence[Break]

    def find_best(self, low: int, high: int) -> int | None:
        """Return the last of the best places in low..high (both included), or None."""
        first, last = bisect_left(self.positions, low), bisect_right(self.positions, high)
        best = max(range(first, last), key=lambda i: (self.breaks[i], i), default=None)
        return None if best is None else self.positions[best]

    def find_first(self, low: int, high: int) -> int | None:
        """Return the first place of any kind in low..high (both included), or None."""
        index = bisect_left(self.positions, low)
        has_any = index < len(self.positions) and self.positions[index] <= high
        return self.positions[index] if has_any else None

    def is_heading(self, position: int) -> bool:
        index = bisect_left(self.positions, position)
        has_it = index < len(self.positions) and self.positions[index] == position
        return has_it and self.breaks[index] is Break.HEADING


def find_boundaries(text: str, headings: Sequence[Heading]) -> Boundaries:
    """Find every place where a line, sentence, paragraph or heading begins. Linear in the text.

    What follows a heading is no boundary: a heading stays with its text.
    """
    found: dict[int, Break] = {m.end(): Break.SENTENCE for m in _SENTENCE_END.finditer(text)}
    starts_by_heading = {heading.start for heading in headings}
    ends_by_heading = {heading.end for heading in headings}
    position, previous, is_after_heading = 0, "", False
    for line in text.split("\n"):
        stripped = line.lstrip()
        start = position + len(line) - len(stripped)
        if position in starts_by_heading:
            found[start] = Break.HEADING
            is_after_heading = False
        elif stripped and is_after_heading:
            found.pop(start, None)
            is_after_heading = False
        elif stripped:
            found[start] = _rate_line(previous)
        is_after_heading = is_after_heading or position + len(line) in ends_by_heading
        previous = stripped
        position += len(line) + 1
    positions = sorted(found)
    return Boundaries(positions, [found[p] for p in positions])


def _rate_line(previous: str) -> Break:
    if not previous:
        return Break.PARAGRAPH
    return Break.SENTENCE if _CLOSED_LINE.search(previous.rstrip()[-1:]) else Break.LINE

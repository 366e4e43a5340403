"""Where a page's text may be cut, and how well."""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from app.ingestion.base import Heading


class Break(IntEnum):
    """How good it is to begin a passage here, worst first."""

    LINE = 1  # amid a sentence: the lines of a PDF end where its column does
    SENTENCE = 2  # also the row of a table
    PARAGRAPH = 3


# A sentence ends before white space and what can begin the next one, or after a CJK full stop.
_SENTENCE_END = re.compile(
    r"(?:[.!?…][\"'”’)\]]*+\s++(?=[^\W_a-z]|[\"'“‘(\[•])|[。！？｡]\s*+(?=\S))"
)
# A line that ends so is a whole sentence, a row of figures or the lead-in to a list.
_CLOSED_LINE = re.compile(r"[.!?:;…。！？)\]%\d—–|]$")
_SPACES = re.compile(r"\s*+")
# A figure as it stands in a table, or what stands there for none; and what may stand beside it.
_FIGURE = re.compile(r"[^\w\s]{0,4}\d[\d.,:/'’]{0,30}[^\w\s]{0,4}|[—–-]|[Nn]/?[AaMm]")
_SIGNS = frozenset("$€£¥%()")
_ROW_FIGURES = 2
# So much of a line's end shows whether it ends in figures.
_ROW_END_CHARACTERS = 120


@dataclass(frozen=True, slots=True)
class Boundaries:
    """The places where a passage may begin: ascending code points, and how good each is.

    `row_starts` and `row_ends` (exclusive) are the rows of tables, ascending; none has a boundary
    inside.
    """

    positions: Sequence[int]
    breaks: Sequence[Break]
    row_starts: Sequence[int]
    row_ends: Sequence[int]

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

    def find_row(self, position: int) -> tuple[int, int] | None:
        """Return start and end of the row that a cut at this position would break, or None."""
        index = bisect_left(self.row_starts, position) - 1
        if index < 0 or position >= self.row_ends[index]:
            return None
        return self.row_starts[index], self.row_ends[index]


def is_row(line: str) -> bool:
    """Say whether a line is the row of a table.

    That is cells between ` | ` or tabs, or a label and then at least two figures.
    """
    if " | " in line or "\t" in line.strip():
        return True
    figures = 0
    for word in reversed(line[-_ROW_END_CHARACTERS:].split()):
        if _FIGURE.fullmatch(word):
            figures += 1
        elif word not in _SIGNS:
            return figures >= _ROW_FIGURES
    return False


def find_boundaries(text: str, headings: Sequence[Heading]) -> Boundaries:
    """Find every place where a line, sentence or paragraph begins. Linear in the text.

    There is none inside the row of a table, nor inside a heading and right behind it: a heading
    stays with its text.
    """
    found = {match.end(): Break.SENTENCE for match in _SENTENCE_END.finditer(text)}
    rows: list[tuple[int, int]] = []
    position, previous = 0, ""
    for line in text.split("\n"):
        stripped = line.strip()
        if stripped:
            start = position + len(line) - len(line.lstrip())
            found[start] = _rate_line(previous)
            if is_row(line):
                rows.append((start, start + len(stripped)))
        previous = stripped
        position += len(line) + 1
    closed = [(start + 1, end) for start, end in rows]
    closed += [(h.start + 1, _skip_spaces(text, h.end)) for h in headings]
    positions = _leave_out(sorted(found), sorted(closed))
    breaks = [found[position] for position in positions]
    return Boundaries(positions, breaks, [start for start, _ in rows], [end for _, end in rows])


def _leave_out(positions: Sequence[int], closed: Sequence[tuple[int, int]]) -> list[int]:
    """Return the positions that lie in none of the closed ranges (first and last included)."""
    kept: list[int] = []
    index, closed_until = 0, -1
    for position in positions:
        while index < len(closed) and closed[index][0] <= position:
            closed_until = max(closed_until, closed[index][1])
            index += 1
        if position > closed_until:
            kept.append(position)
    return kept


def _skip_spaces(text: str, position: int) -> int:
    match = _SPACES.match(text, position)
    return match.end() if match else position


def _rate_line(previous: str) -> Break:
    if not previous:
        return Break.PARAGRAPH
    return Break.SENTENCE if _CLOSED_LINE.search(previous[-1:]) else Break.LINE

"""Running headers and footers: the lines at the edges of pages that say nothing of the page."""

import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from app.ingestion.boundaries import is_row
from app.ingestion.parsers.base import has_letters

# How many lines at the top and at the bottom of a page are looked at.
_EDGE_LINES = 3
# A longer line is text.
_MAX_CHARACTERS = 200
_LEAST_LETTERS = 4

_DIGITS = re.compile(r"\d+")
_NUMBER = re.compile(r"\d{1,4}")
_PAGE_COUNT = re.compile(r"(?<=\d) ?(?:of|/|von|de|sur|di) ?\d{1,4}$")
_YEAR = re.compile(r"(?:19|20)\d\d")
# "12", "- 7 -", "Page 3 of 9", "F-12", "iv".
_PAGE_NUMBER = re.compile(
    r"[-–—|\[ ]{0,3}(?:(?:page|seite|página|pagina|side|pg|p|s)[. ]{0,2})?(?:[a-z]{1,2}-)?\d{1,4}"
    r"(?: ?(?:of|/|von|de|sur|di) ?\d{1,4})?[-–—|\]. ]{0,3}|[ivxl]{1,7}"
)


class _Kind(Enum):
    """What lines at the edges of several pages can have in common."""

    TEXT = auto()  # the same words and figures
    OFFSET = auto()  # a number at one end that is as far from the page's own: it grows with them
    NUMBER = auto()  # nothing but the number of a page, in the same form


# What is common runs if it is found on three pages and, of the pages of a window, on this share.
_LEAST_PAGES = 3
# Of words a good share: the titles of tables come back as well.
_LEAST_SHARE = {_Kind.TEXT: 0.3, _Kind.OFFSET: 0.2, _Kind.NUMBER: 0.0}

# Kind, whether at the top, and the words or the number.
_Trait = tuple[_Kind, bool, str | int]


@dataclass(frozen=True, slots=True)
class _Line:
    """A line at an edge of a page, from `start` to `end` (exclusive)."""

    start: int
    end: int
    traits: frozenset[_Trait]

    @property
    def is_number(self) -> bool:
        return any(kind is _Kind.NUMBER for kind, _, _ in self.traits)


@dataclass(slots=True)
class RunningLines:
    """Learns from window after window what comes back at the edges of a document's pages."""

    _running: set[_Trait] = field(default_factory=set)
    _numbers: Counter[_Trait] = field(default_factory=Counter)

    def find_bodies(
        self, texts: Sequence[str], titles: Sequence[Collection[str]], *, first_number: int
    ) -> list[tuple[int, int]]:
        """Return for each page of a window where its text without running lines starts and ends.

        `titles` are lines of each page that are set large: "Lesson 5" on page 5 is none of its
        numbers. What ran in an earlier window still does. A page keeps all rather than lose every
        letter.
        """
        pages = zip(texts, titles, strict=True)
        edges = [_find_edges(text, large, n) for n, (text, large) in enumerate(pages, first_number)]
        self._learn([[*top, *bottom] for top, bottom in edges])
        bodies: list[tuple[int, int]] = []
        for text, (top, bottom) in zip(texts, edges, strict=True):
            above, below = self._count_running(top), self._count_running(bottom)
            start = top[above - 1].end if above else 0
            end = bottom[below - 1].start if below else len(text)
            bodies.append((start, end) if has_letters(text[start:end]) else (0, len(text)))
        return bodies

    def _learn(self, pages: Sequence[Sequence[_Line]]) -> None:
        counts: Counter[_Trait] = Counter()
        for lines in pages:
            counts.update(set().union(*(line.traits for line in lines)))
        # A number alone says enough to be counted over all windows.
        self._numbers.update({t: n for t, n in counts.items() if t[0] is _Kind.NUMBER})
        for trait, count in (counts | self._numbers).items():
            if count >= max(_LEAST_PAGES, _LEAST_SHARE[trait[0]] * len(pages)):
                self._running.add(trait)

    def _count_running(self, lines: Sequence[_Line]) -> int:
        """Count the running lines from the page's edge inwards; only one can be its number."""
        count, has_number = 0, False
        for line in lines:
            if self._running.isdisjoint(line.traits) or (line.is_number and has_number):
                break
            has_number = has_number or line.is_number
            count += 1
        return count


def _find_edges(text: str, titles: Collection[str], page: int) -> tuple[list[_Line], list[_Line]]:
    """Return the first lines of a page from the top, and the last ones from the bottom up."""
    top: list[_Line] = []
    start = 0
    while len(top) < _EDGE_LINES and start < len(text):
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        if text[start:end].strip():
            is_title = text[start:end] in titles
            traits = _find_traits(text[start:end], None if is_title else page, is_top=True)
            top.append(_Line(start, end, traits))
        start = end + 1
    bottom: list[_Line] = []
    end = len(text)
    while len(bottom) < _EDGE_LINES and end > 0:
        start = text.rfind("\n", 0, end) + 1
        if text[start:end].strip():
            bottom.append(_Line(start, end, _find_traits(text[start:end], page, is_top=False)))
        end = start - 1
    return top, bottom


def _find_traits(line: str, page: int | None, *, is_top: bool) -> frozenset[_Trait]:
    """Return what a line may have in common with others; of its numbers nothing without a page."""
    line = line.strip().casefold()
    # A footer may have bars like a table made of text, but not its figures.
    if len(line) > _MAX_CHARACTERS or is_row(line.replace(" | ", " ")):
        return frozenset()
    traits: set[_Trait] = set()
    if sum(character.isalpha() for character in line) >= _LEAST_LETTERS:
        traits.add((_Kind.TEXT, is_top, line))
    if page is None:
        return frozenset(traits)
    words = _PAGE_COUNT.sub("", line).split()
    for word in {words[0], words[-1]}:
        if _NUMBER.fullmatch(word) and not _YEAR.fullmatch(word):
            traits.add((_Kind.OFFSET, is_top, int(word) - page))
    if _PAGE_NUMBER.fullmatch(line) and not _YEAR.fullmatch(line):
        traits.add((_Kind.NUMBER, is_top, _DIGITS.sub("#", line)))
    return frozenset(traits)

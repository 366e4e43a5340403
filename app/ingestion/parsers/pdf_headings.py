"""Headings of a PDF: lines set larger or bolder than its text, or that their words give away."""

import re
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from app.ingestion.base import Heading
from app.ingestion.boundaries import is_row
from app.ingestion.cleaning import clean_extracted
from app.ingestion.headings import (
    MAX_TITLE_CHARACTERS,
    find_plain_headings,
    join_headings,
    make_heading,
    rate_wording,
)
from app.ingestion.parsers.pdf_styles import StyledLine

# Sizes in those of the text, and the level of a heading so large. Parts, items and notes have
# levels 1 to 3, whatever their size.
_LARGE = ((1.8, 1), (1.4, 2), (1.15, 4))
_BOLD_LEVEL = 5
_LEAST_BOLD_SIZE = 0.95
# More lines in a row are a paragraph set so, and on a page mostly in bold that means nothing.
_MOST_BOLD_LINES = 3
_MOST_LARGE_LINES = 5
_MOST_BOLD_SHARE = 0.4
# Between a heading and the next one there is a sentence or a row of figures, or else so much text:
# "(in millions)" below the title of a table doesn't make a section of it.
_LEAST_SECTION_CHARACTERS = 60

_NUMBERING = re.compile(r"(?:\d{1,2}(?:\.\d{1,2}){0,4}\.?|[A-Z]\.|\(?[a-z0-9]{1,3}\))\s+")
_NO_TITLE = re.compile(r"[$%|=_…]|\.{2,}|[.,;–—-]$|[a-z]\.\s")
_NUMBER = re.compile(r"\d[\d.,]*")
_WORD = re.compile(r"[^\W\d_]{3,}|[\u3040-\u9fff]{2}")
_ENDS_IN_YEAR = re.compile(r"(?:19|20)\d\d\W*$")
_SENTENCE_ENDS = (".", "!", "?", "。", "！", "？")


@dataclass(frozen=True, slots=True)
class _Line:
    """A line of a page's cleaned text. `level` is that of the heading it looks like, if any."""

    start: int
    text: str
    level: int | None
    is_worded: bool


class PdfHeadingFinder:
    """Finds the headings of a document, page by page, once it has learned how its text is set."""

    def __init__(self) -> None:
        self._characters_by_size: Counter[float] = Counter()
        self._text_size = 0.0

    def learn(self, pages: Iterable[Sequence[StyledLine]]) -> None:
        """Take in more pages: the text's own size is the one that most of it has so far."""
        sizes = self._characters_by_size
        for styles in pages:
            for style in styles:
                sizes[style.size] += len(style.text)
        self._text_size = max(sizes, key=lambda size: (sizes[size], -size), default=0.0)

    def find_large(self, styles: Sequence[StyledLine]) -> frozenset[str]:
        """Return the lines of a page, cleaned, that are set larger than the text."""
        least = _LARGE[-1][0] * self._text_size
        return frozenset(clean_extracted(s.text) for s in styles if s.size >= least)

    def find(
        self, text: str, start: int, end: int, styles: Sequence[StyledLine]
    ) -> tuple[Heading, ...]:
        """Return the headings between start and end of a page's cleaned text, in order.

        Without styles (a page that pdfium did not read) only words and blank lines tell them.
        """
        if not styles:
            return tuple(find_plain_headings(text, start, end))
        headings: list[Heading] = []
        for block, following in _group(self._rate_lines(text, start, end, styles)):
            between = text[headings[-1].end : block[0].start].strip() if headings else None
            if block[0].is_worded or (_is_title_block(block, following) and _is_section(between)):
                headings.append(_join(block))
        return tuple(headings)

    def _rate_lines(
        self, text: str, start: int, end: int, styles: Sequence[StyledLine]
    ) -> list[_Line]:
        """Return the lines of the text that are not empty, each with its level."""
        levels = self._rate_styles(styles)
        lines: list[_Line] = []
        offset = start
        for line in text[start:end].split("\n"):
            same = levels.get(line)
            by_style = same.popleft() if same else None
            by_words = rate_wording(line)
            if line:
                level = by_style if by_words is None else by_words
                lines.append(_Line(offset, line, level, by_words is not None))
            offset += len(line) + 1
        return lines

    def _rate_styles(self, styles: Sequence[StyledLine]) -> Mapping[str, deque[int | None]]:
        """Return for each line's cleaned text the levels it has by its style, in the page's order.

        pdfium's lines by range and by box are not always the same, so they are found by their text.
        """
        characters = sum(len(style.text) for style in styles)
        bold = sum(len(style.text) for style in styles if style.is_bold)
        may_be_bold = bold <= _MOST_BOLD_SHARE * characters
        levels: dict[str, deque[int | None]] = defaultdict(deque)
        for style in styles:
            level = self._rate_style(style, may_be_bold=may_be_bold)
            text = style.text if level is None else clean_extracted(style.text)
            levels[text].append(level if level and _is_title(text) else None)
        return levels

    def _rate_style(self, style: StyledLine, *, may_be_bold: bool) -> int | None:
        for ratio, level in _LARGE:
            if style.size >= ratio * self._text_size:
                return level
        is_small = style.size < _LEAST_BOLD_SIZE * self._text_size
        return _BOLD_LEVEL if style.is_bold and may_be_bold and not is_small else None


def _group(lines: Sequence[_Line]) -> Iterator[tuple[list[_Line], str]]:
    """Yield the lines that look like one heading, and the line that follows them, or ""."""
    block: list[_Line] = []
    for line in lines:
        if block and (line.level != block[0].level or line.is_worded or block[0].is_worded):
            yield block, line.text
            block = []
        if line.level is not None:
            block.append(line)
    if block:
        yield block, ""


def _is_title(line: str) -> bool:
    """Say whether a line reads like a heading: begins like one, has a word and hardly a figure."""
    if len(line) > MAX_TITLE_CHARACTERS or is_row(line):
        return False
    numbering = _NUMBERING.match(line)
    words = line[numbering.end() :] if numbering else line
    begins_well = words[:1].isupper() or not words[:1].isascii() or words[:1].isdigit()
    if not begins_well or _NO_TITLE.search(words) or len(_NUMBER.findall(words)) > 1:
        return False
    return _WORD.search(words) is not None


def _is_title_block(block: Sequence[_Line], following: str) -> bool:
    """Say whether lines of one style are a heading, not a paragraph or a label in a table.

    A label stands above a row of figures; above the years of a table stands its title.
    """
    if block[0].level != _BOLD_LEVEL:
        return len(block) <= _MOST_LARGE_LINES
    is_label = is_row(following) and not _ENDS_IN_YEAR.search(following)
    return len(block) <= _MOST_BOLD_LINES and not is_label


def _is_section(between: str | None) -> bool:
    """Say whether what stands between two headings is enough for a section, or nothing at all."""
    if not between or len(between) >= _LEAST_SECTION_CHARACTERS:
        return True
    return between.endswith(_SENTENCE_ENDS) or is_row(between.rsplit("\n", 1)[-1])


def _join(block: Sequence[_Line]) -> Heading:
    heading, *others = [
        make_heading(line.start, line.start + len(line.text), line.level or _BOLD_LEVEL, line.text)
        for line in block
    ]
    for other in others:
        heading = join_headings(heading, other)
    return heading

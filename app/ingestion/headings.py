"""Where a text has headings, and the path of headings above any place in it."""

import re
from collections import Counter
from dataclasses import dataclass, field, replace

HEADING_SEPARATOR = " > "
_MAX_TITLE_CHARACTERS = 120
# A longer line is no heading; it also bounds what the patterns can spend on one.
_MAX_LINE_CHARACTERS = 1000

_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_ATX = re.compile(r" {0,3}(#{1,6})[ \t]+(\S.*?)[ \t]*#*[ \t]*$")
_SETEXT = re.compile(r" {0,3}(=+|-{2,})[ \t]*$")
_INLINE_MARKS = re.compile(r"[*`]+|(?<!\w)_+|_+(?!\w)|!?\[([^\]]*)\]\([^)]*\)")


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading line. `start` and `end` are its code points in the text; level 1 is the highest."""

    start: int
    end: int
    level: int
    title: str


@dataclass(slots=True)
class HeadingPath:
    """The headings that hold at one place of a document, read from its start to its end."""

    _stack: list[Heading] = field(default_factory=list)

    def enter(self, heading: Heading) -> None:
        """Go on past a heading: it closes those of its own level and below."""
        self._stack = [h for h in self._stack if h.level < heading.level]
        self._stack.append(heading)

    def __str__(self) -> str:
        return HEADING_SEPARATOR.join(heading.title for heading in self._stack)


def find_markdown_headings(text: str) -> list[Heading]:
    """Return the headings of a Markdown text in order: `#` and underlined, not in fenced code."""
    headings: list[Heading] = []
    fence = ""
    previous = ""
    offset = _skip_front_matter(text)
    for line in text[offset:].split("\n"):
        start, offset = offset, offset + len(line) + 1
        if len(line) > _MAX_LINE_CHARACTERS:
            previous = ""
        elif mark := _FENCE.match(line):
            if not fence:
                fence = mark.group(1)
            elif mark.group(1).startswith(fence):
                fence = ""
            previous = ""
        elif fence:
            previous = ""
        elif atx := _ATX.match(line):
            headings.append(_heading(start, start + len(line), len(atx.group(1)), atx.group(2)))
            previous = ""
        elif previous.strip() and (underline := _SETEXT.match(line)):
            level = 1 if underline.group(1)[0] == "=" else 2
            first = start - len(previous) - 1
            headings.append(_heading(first, start + len(line), level, previous))
            previous = ""
        else:
            previous = line
    return headings


# Headings of reports and papers that can be told by their wording alone, highest first.
_PLAIN = (
    (1, re.compile(r"(?:PART|Part) [IVX]{1,4}\b.{0,80}$")),
    (
        1,
        re.compile(r"(?:CHAPTER|Chapter|APPENDIX|Appendix) (?:\d{1,3}|[A-Z]|[IVX]+)\b[^,;]{0,80}$"),
    ),
    (2, re.compile(r"(?:ITEM|Item) {1,2}\d{1,2}[A-C]?\s?[.:—–-].{3,110}$")),
    (3, re.compile(r"(?:NOTE|Note) \d{1,2}\s?[.:—–-].{3,90}$")),
)
_PLAIN_INITIALS = frozenset("PCAINpcain")
_CONTENTS_ENTRY = re.compile(r"(?:\.{3,}|\s)\s*\d{1,3}$")
# Lines set like a title: the first of a page names the page, further ones its parts.
_PAGE_TITLE_LEVEL, _TITLE_LEVEL = 4, 5
_TITLE_CHARACTERS = range(8, 91)
_TITLE_WORDS = range(2, 13)
_NO_TITLE = re.compile(r"[$%|=_…]|\.{2,}|[.,;:—–-]$|\b(?!(?:19|20)\d\d\b)\d")
_LONG_WORD = re.compile(r"[^\W\d_]{4,}")
_SENTENCE_ENDS = frozenset(".:;!?)0123456789")
# A line at the top of this many pages before is a running header.
_RUNNING_PAGES = 3
_TOP_LINES = 3


class PlainHeadingFinder:
    """Finds the headings that a PDF's text gives away, page by page.

    By their words (parts, items, notes, chapters), or as a line set like a title: capitals on its
    long words, no figures but a year, no full stop, not going on from the line before. Several such
    lines in a row are one heading. Running headers and the entries of a table of contents are
    left out.
    """

    def __init__(self) -> None:
        self._tops: Counter[str] = Counter()

    def __call__(self, text: str) -> list[Heading]:
        lines = text.split("\n")
        headings: list[Heading] = []
        offset, previous = 0, ""
        for number, line in enumerate(lines):
            start, offset = offset, offset + len(line) + 1
            follows_heading = bool(headings) and headings[-1].end + 1 == start
            goes_on = not follows_heading and _goes_on(previous, is_top=number <= _TOP_LINES)
            level = self._rate(line, goes_on=goes_on)
            if level is not None:
                heading = _heading(start, offset - 1, level, line)
                if follows_heading and level == headings[-1].level == _TITLE_LEVEL:
                    heading = _join(headings.pop(), heading)
                headings.append(heading)
            previous = line
        self._tops.update({line for line in lines[:_TOP_LINES] if len(line) in _TITLE_CHARACTERS})
        return _name_page(headings)

    def _rate(self, line: str, *, goes_on: bool) -> int | None:
        if len(line) > _MAX_TITLE_CHARACTERS:
            return None
        if line[:1] in _PLAIN_INITIALS and not _CONTENTS_ENTRY.search(line):
            for level, pattern in _PLAIN:
                if pattern.match(line):
                    return level
        is_running = self._tops[line] >= _RUNNING_PAGES
        return _TITLE_LEVEL if not goes_on and not is_running and _is_title(line) else None


def _goes_on(line: str, *, is_top: bool) -> bool:
    """Say whether a line goes on into the next one; short ones at the top of a page don't."""
    if is_top and len(line) in _TITLE_CHARACTERS and line[-1:] != ",":
        return False
    return line != "" and line[-1] not in _SENTENCE_ENDS


def _is_title(line: str) -> bool:
    if len(line) not in _TITLE_CHARACTERS or not line[0].isupper() or _NO_TITLE.search(line):
        return False
    words = _LONG_WORD.findall(line)
    capitals = sum(word[0].isupper() for word in words)
    return len(line.split()) in _TITLE_WORDS and bool(words) and capitals >= 0.8 * len(words)


def _join(first: Heading, second: Heading) -> Heading:
    title = f"{first.title}, {second.title}"
    return _heading(first.start, second.end, second.level, title)


def _name_page(headings: list[Heading]) -> list[Heading]:
    """Raise the first title of a page one level, so that it stays above the page's others."""
    first = next((h for h in headings if h.level == _TITLE_LEVEL), None)
    return [replace(h, level=_PAGE_TITLE_LEVEL) if h is first else h for h in headings]


def _skip_front_matter(text: str) -> int:
    """Return where the text begins after a block of metadata between two lines of `---`."""
    end = text.find("\n---\n", 3) if text.startswith("---\n") else -1
    return 0 if end < 0 else end + len("\n---\n")


def _heading(start: int, end: int, level: int, title: str) -> Heading:
    plain = " ".join(_INLINE_MARKS.sub(r"\1", title).split())
    return Heading(start, end, level, plain[:_MAX_TITLE_CHARACTERS].rstrip())

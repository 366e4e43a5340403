"""Where a text has headings, and the path of headings above any place in it."""

import re
from dataclasses import dataclass, field

from app.ingestion.base import Heading

HEADING_SEPARATOR = " > "
MAX_TITLE_CHARACTERS = 120
# A longer line is no heading; it also bounds what the patterns can spend on one.
_MAX_LINE_CHARACTERS = 1000

_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_ATX = re.compile(r" {0,3}(#{1,6})[ \t]+(\S.*?)[ \t]*#*[ \t]*$")
_SETEXT = re.compile(r" {0,3}(=+|-{2,})[ \t]*$")
_INLINE_MARKS = re.compile(r"[*`]+|(?<!\w)_+|_+(?!\w)|!?\[([^\]]*)\]\([^)]*\)")


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
            headings.append(make_heading(start, start + len(line), len(atx.group(1)), atx.group(2)))
            previous = ""
        elif previous.strip() and (underline := _SETEXT.match(line)):
            level = 1 if underline.group(1)[0] == "=" else 2
            first = start - len(previous) - 1
            headings.append(make_heading(first, start + len(line), level, previous))
            previous = ""
        else:
            previous = line
    return headings


# Headings of reports and papers that can be told by their wording alone, highest first.
_WORDED = (
    (1, re.compile(r"(?:PART|Part) [IVX]{1,4}\b.{0,80}$")),
    (
        1,
        re.compile(r"(?:CHAPTER|Chapter|APPENDIX|Appendix) (?:\d{1,3}|[A-Z]|[IVX]+)\b[^,;]{0,80}$"),
    ),
    (2, re.compile(r"(?:ITEM|Item) {1,2}\d{1,2}[A-C]?\s?[.:—–-].{3,110}$")),
    (3, re.compile(r"(?:NOTE|Note) \d{1,2}\s?[.:—–-].{3,90}$")),
)
_WORDED_INITIALS = frozenset("PCAINpcain")
_REFERENCE = re.compile(r"(?:\.{3,}|\s)\s*\d{1,3}$|\bpages? \d")
_TITLE_LEVEL = 5
# More titles in a row are a list, of names for instance.
_MOST_TITLE_LINES = 3
_TITLE_CHARACTERS = range(8, 91)
_TITLE_WORDS = range(2, 13)
_NO_TITLE = re.compile(r"[$%|=_…]|\.{2,}|[.,;:—–-]$|\b(?!(?:19|20)\d\d\b)\d")
_LONG_WORD = re.compile(r"[^\W\d_]{4,}")


def rate_wording(line: str) -> int | None:
    """Return the level of a heading that its words give away: parts, items, notes, chapters.

    None for other lines, for the entries of a table of contents and for references to pages.
    """
    if len(line) > MAX_TITLE_CHARACTERS or line[:1] not in _WORDED_INITIALS:
        return None
    if _REFERENCE.search(line):
        return None
    return next((level for level, pattern in _WORDED if pattern.match(line)), None)


def is_title(line: str) -> bool:
    """Say whether a line is set like a title: capitals on its long words, no figures but a year,
    no full stop."""
    if len(line) not in _TITLE_CHARACTERS or not line[0].isupper() or _NO_TITLE.search(line):
        return False
    words = _LONG_WORD.findall(line)
    capitals = sum(word[0].isupper() for word in words)
    return len(line.split()) in _TITLE_WORDS and bool(words) and capitals >= 0.8 * len(words)


def find_plain_headings(text: str, start: int = 0, end: int | None = None) -> list[Heading]:
    """Return the headings that the text from start to end gives away without any markup.

    By their words, or as lines set like a title behind a blank line or at the start. A few such
    titles in a row are one heading, more are a list.
    """
    headings: list[Heading] = []
    offset, previous = start, ""
    for line in text[start:end].split("\n"):
        line_start, offset = offset, offset + len(line) + 1
        follows = bool(headings) and headings[-1].end + 1 == line_start
        level = rate_wording(line)
        if level is None and (follows or not previous.strip()) and is_title(line):
            level = _TITLE_LEVEL
        if level is not None:
            heading = make_heading(line_start, offset - 1, level, line)
            if follows and level == headings[-1].level == _TITLE_LEVEL:
                heading = join_headings(headings.pop(), heading)
            headings.append(heading)
        previous = line
    return [h for h in headings if text.count("\n", h.start, h.end) < _MOST_TITLE_LINES]


def join_headings(first: Heading, second: Heading) -> Heading:
    """Return one heading for two that stand one after the other, of the first one's level."""
    title = f"{first.title}, {second.title}"
    return make_heading(first.start, second.end, first.level, title)


def _skip_front_matter(text: str) -> int:
    """Return where the text begins after a block of metadata between two lines of `---`."""
    end = text.find("\n---\n", 3) if text.startswith("---\n") else -1
    return 0 if end < 0 else end + len("\n---\n")


def make_heading(start: int, end: int, level: int, title: str) -> Heading:
    """Return a heading with its title on one line, without inline Markdown, and not too long."""
    plain = " ".join(_INLINE_MARKS.sub(r"\1", title).split())
    return Heading(start, end, level, plain[:MAX_TITLE_CHARACTERS].rstrip())

"""The text of a page, put together block by block, with exact places of its headings."""

from enum import Enum, auto

from app.ingestion.base import Heading, Page, TextSource
from app.ingestion.cleaning import clean_extracted, clean_plain
from app.ingestion.headings import make_heading
from app.ingestion.parsers.base import MAX_CHARACTERS, has_letters, too_large

# What is longer is a paragraph in the style of a heading.
_MAX_HEADING_CHARACTERS = 300
_MAX_LEVEL = 9


class _Kind(Enum):
    BLOCK = auto()
    LINE = auto()


class TextBuilder:
    """Cleans each block as it comes, so that offsets are those of the final text.

    Blocks without anything to see are left out. A blank line stands between blocks, none between
    neighboring lines. Everything raises DocumentUnreadable (too_large) past MAX_CHARACTERS.
    """

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._length = 0
        self._last = _Kind.BLOCK
        self._headings: list[Heading] = []

    def add_heading(self, text: str, level: int, *, title: str | None = None) -> None:
        """Add a heading on a line of its own; `title` is its name, if that isn't the whole line."""
        line = to_line(text)
        title = line if title is None else title
        if len(line) > _MAX_HEADING_CHARACTERS or not has_letters(title):
            self.add_paragraph(line)
            return
        self._add(line, _Kind.BLOCK)
        start = self._length - len(line)
        level = min(max(level, 1), _MAX_LEVEL)
        heading = make_heading(start, self._length, level, title)
        if heading.title:
            self._headings.append(heading)

    def add_paragraph(self, text: str) -> None:
        self._add(clean_extracted(text), _Kind.BLOCK)

    def add_preformatted(self, text: str) -> None:
        """Add a block whose spaces and line ends mean something, such as source code."""
        self._add(clean_plain(text), _Kind.BLOCK)

    def add_line(self, text: str) -> None:
        """Add the item of a list or the row of a table: one line, close to the one before."""
        self._add(to_line(text), _Kind.LINE)

    def build(self, number: int, *, warnings: tuple[str, ...] = ()) -> Page:
        text = "".join(self._parts)
        return Page(
            number=number,
            text=text,
            headings=tuple(self._headings),
            source=TextSource.TEXT_LAYER if has_letters(text) else TextSource.NONE,
            warnings=warnings,
        )

    def _add(self, cleaned: str, kind: _Kind) -> None:
        if not cleaned:
            return
        if self._parts:
            is_close = kind is _Kind.LINE and self._last is _Kind.LINE
            cleaned = ("\n" if is_close else "\n\n") + cleaned
        self._parts.append(cleaned)
        self._length += len(cleaned)
        self._last = kind
        if self._length > MAX_CHARACTERS:
            raise too_large()


def to_line(text: str) -> str:
    """Clean a text and put it on one line, with single spaces."""
    return " ".join(clean_extracted(text).split())

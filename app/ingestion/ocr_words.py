"""The words that text recognition found on a page, put together: lines, table rows, paragraphs."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean

from app.ingestion.parsers.base import has_letters

# In percent. Clear print has 90 and more, a bad scan 70; what Tesseract sees in a photograph has
# any for single letters and some 40 on average.
_LEAST_CONFIDENCE, _LEAST_MEAN_CONFIDENCE = 30.0, 55.0
# Of what only a search without layout finds. Letters it finds in pictures, too.
_LEAST_CONFIDENCE_OF_FIGURES, _LEAST_CONFIDENCE_OF_LETTERS = 60.0, 85.0
_WORD_LEVEL = "5"
_COLUMNS = 12


@dataclass(frozen=True, slots=True)
class Word:
    """`place` is pass, block, paragraph and line, as Tesseract numbers them; the box in pixels."""

    place: tuple[int, int, int, int]
    left: int
    top: int
    right: int
    bottom: int
    confidence: float
    text: str

    @property
    def is_figure(self) -> bool:
        return not any(character.isalpha() for character in self.text)

    def covers_middle_of(self, other: "Word") -> bool:
        x, y = (other.left + other.right) / 2, (other.top + other.bottom) / 2
        return self.left <= x <= self.right and self.top <= y <= self.bottom

    def is_left_of(self, other: "Word") -> bool:
        """Say whether this stands on the same line, before the other."""
        half = max(self.bottom - self.top, other.bottom - other.top) / 2
        step = abs(self.top + self.bottom - other.top - other.bottom) / 2
        return self.right <= other.left and step < half


@dataclass(frozen=True, slots=True)
class _Line:
    words: tuple[Word, ...]

    @property
    def text(self) -> str:
        return " ".join(word.text for word in self.words)

    @property
    def has_only_figures(self) -> bool:
        return all(word.is_figure for word in self.words)


def parse_words(table: str, *, run: int) -> list[Word]:
    """Return the words of Tesseract's table (TSV), in its order; `run` is which pass it was."""
    words = []
    for row in table.splitlines():
        cells = row.split("\t")
        if len(cells) == _COLUMNS and cells[0] == _WORD_LEVEL and cells[-1].strip():
            block, paragraph, line, _, left, top, width, height = map(int, cells[2:10])
            box = (left, top, left + width, top + height)
            words.append(Word((run, block, paragraph, line), *box, float(cells[10]), cells[11]))
    return words


def mean_confidence(words: Sequence[Word]) -> float:
    """Return how sure Tesseract is of the words, 0 to 100; 0 if there are none."""
    return fmean(word.confidence for word in words) if words else 0.0


def add_missed(words: Sequence[Word], found: Iterable[Word]) -> list[Word]:
    """Return the words, and behind them those that a later pass found where there was none."""
    missed = [
        word
        for word in found
        if word.confidence
        >= (_LEAST_CONFIDENCE_OF_FIGURES if word.is_figure else _LEAST_CONFIDENCE_OF_LETTERS)
        and not any(w.covers_middle_of(word) or word.covers_middle_of(w) for w in words)
    ]
    return [*words, *missed]


def join_words(words: Iterable[Word]) -> str:
    """Return the text of a page.

    A line of the page is a line, and a blank line stands between paragraphs. Columns of figures are
    put back behind the line on their left, so that the row of a table is one line. Stains, rules
    and photographs are left out as far as they can be told.
    """
    lines = _join_rows(list(_find_lines(words)))
    paragraphs = groupby(lines, key=lambda line: line.words[0].place[:3])
    texts = ("\n".join(line.text for line in group) for _, group in paragraphs)
    return "\n\n".join(texts)


def _find_lines(words: Iterable[Word]) -> Iterator[_Line]:
    for _, paragraph in groupby(words, key=lambda word: word.place[:3]):
        members = list(paragraph)
        if mean_confidence(members) < _LEAST_MEAN_CONFIDENCE:
            continue
        clear = (word for word in members if word.confidence >= _LEAST_CONFIDENCE)
        for _, group in groupby(clear, key=lambda word: word.place):
            line = _Line(tuple(group))
            if has_letters(line.text):
                yield line


def _join_rows(lines: Sequence[_Line]) -> list[_Line]:
    """Put lines of nothing but figures behind the line on their left, if there is one."""
    rows: dict[int, list[_Line]] = {index: [] for index in range(len(lines))}
    for index, line in enumerate(lines):
        rows[_find_row(index, lines)].append(line)
    joined = []
    for row in filter(None, rows.values()):
        row.sort(key=lambda line: line.words[0].left)
        joined.append(_Line(tuple(word for line in row for word in line.words)))
    return joined


def _find_row(index: int, lines: Sequence[_Line]) -> int:
    """Return the index of the line that begins this one's row: itself, unless it's all figures.

    Goes from neighbor to neighbor, as a scan is hardly ever straight.
    """
    while lines[index].has_only_figures:
        first = lines[index].words[0]
        left = (i for i, line in enumerate(lines) if line.words[-1].is_left_of(first))
        neighbor = max(left, key=lambda i: lines[i].words[-1].right, default=None)
        if neighbor is None:
            break
        index = neighbor
    return index

"""Cut each section of a page into passages of about the same number of tokens."""

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from app.core.tokens import Tokenizer
from app.ingestion.base import Chunk, Heading, Page
from app.ingestion.boundaries import Boundaries, find_boundaries
from app.ingestion.headings import HeadingPath
from app.models.spans import Span

CHUNK_TOKENS = 200
# What a section may have to stay whole, and a row, where the model would take more: a passage that
# is cited should not be half a page.
MAX_CHUNK_TOKENS = 240
OVERLAP_TOKENS = 20
# A run of letters that a vocabulary doesn't know can be one token of any length, so characters are
# limited too. English has 4 to 5 of them in a token.
MAX_CHARACTERS_PER_TOKEN = 10
# A tokenizer takes some hundred bytes for each character of a call, so a text file goes in parts.
_TOKENIZE_CHARACTERS = 20_000
# How far from even parts a cut may go for a better place.
_LEAST_SHARE, _MOST_SHARE = 0.6, 1.25


def chunk_pages(
    pages: Iterable[Page],
    *,
    tokenizer: Tokenizer,
    max_tokens: int,
    chunk_tokens: int = CHUNK_TOKENS,
    overlap_tokens: int = OVERLAP_TOKENS,
) -> Iterator[Chunk]:
    """Yield the passages of a document in order; together they hold every character but spaces
    of the pages' bodies.

    A passage lies within one page, so that a citation names it, and within one section: headings
    always begin one. A section that fits into the model is one passage; others are cut into even
    parts of at most `chunk_tokens`, at paragraphs, sentences, lines, spaces, in this order of
    preference, and never inside the row of a table that fits. Neighbors in a section share up to
    `overlap_tokens`. `token_count` is exact and never above `max_tokens`. Holds one page at a time.
    """
    if not 0 <= overlap_tokens <= chunk_tokens // 2 or not 1 <= chunk_tokens <= max_tokens:
        raise ValueError("overlap_tokens must be at most half of chunk_tokens, that <= max_tokens")
    path = HeadingPath()
    ordinal = 0
    for page in pages:
        cutter = _Cutter(
            page,
            tokenizer=tokenizer,
            chunk_tokens=chunk_tokens,
            overlap_tokens=overlap_tokens,
            max_tokens=max_tokens,
        )
        for section in _find_sections(page):
            for heading in section.headings:
                path.enter(heading)
            for start, end, token_count in cutter.cut(section.start, section.end):
                span = Span(page.number, start, end)
                text = page.text[start:end]
                yield Chunk(ordinal, text, (span,), str(path) or None, token_count)
                ordinal += 1


@dataclass(frozen=True, slots=True)
class _Section:
    """A stretch of a page's body, and the headings that it begins with: none if it goes on from
    the page before. `end` is exclusive."""

    start: int
    end: int
    headings: tuple[Heading, ...]


def _find_sections(page: Page) -> Iterator[_Section]:
    """Yield the sections of a page's body. Headings with nothing between them begin the same."""
    body_end = len(page.text) if page.body_end is None else page.body_end
    start, entered = page.body_start, list[Heading]()
    for heading in page.headings:
        if not page.body_start <= heading.start < body_end:
            continue
        last = entered[-1].end if entered else start
        if page.text[last : heading.start].strip():
            yield _Section(start, heading.start, tuple(entered))
            start, entered = heading.start, []
        entered.append(heading)
    yield _Section(start, body_end, tuple(entered))


class _Cutter:
    """One page: its text, where its tokens end, and where it may be cut."""

    def __init__(
        self,
        page: Page,
        *,
        tokenizer: Tokenizer,
        chunk_tokens: int,
        overlap_tokens: int,
        max_tokens: int,
    ) -> None:
        self._text = page.text
        self._tokenizer = tokenizer
        self._chunk_tokens = chunk_tokens
        self._overlap_tokens = overlap_tokens
        self._max_tokens = max_tokens
        self._max_characters = chunk_tokens * MAX_CHARACTERS_PER_TOKEN
        self._token_ends = _find_token_ends(page.text, tokenizer)
        self._boundaries: Boundaries = find_boundaries(page.text, page.headings)

    def cut(self, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Yield start, end and token count of each passage of a section, in order.

        Their edges are never spaces.
        """
        last = start + len(self._text[start:end].rstrip())
        start = covered = self._skip_spaces(start)
        while covered < last:
            passage_end, token_count = self._fit(start, self._find_cut(start, last))
            if passage_end <= covered and start < covered:
                # What is shared with the passage before left no room for the row behind it.
                start = covered
                continue
            yield start, passage_end, token_count
            covered = self._skip_spaces(passage_end)
            start = self._step_back(start, covered)

    def _find_cut(self, start: int, last: int) -> int:
        """Return where the passage that begins at start ends; spaces before it don't belong."""
        if self._fits(start, last):
            return last
        before = bisect_right(self._token_ends, start)
        rest = bisect_right(self._token_ends, last) - before
        furthest = start + self._max_characters
        # Even parts, so that no section ends in a passage of a few words.
        parts = -(-rest // self._chunk_tokens)
        even = rest / max(parts, 1)
        low = self._token_end(before + int(even * _LEAST_SHARE), start)
        high = self._token_end(before + min(self._chunk_tokens, int(even * _MOST_SHARE)), start)
        high = min(high, furthest, last)
        low = min(low, start + (high - start) * 3 // 4)
        # A passage that begins right after the last token is inside the limit: hence the spaces.
        best = self._boundaries.find_best(max(low, start + 1), self._skip_spaces(high))
        if best is not None:
            return best
        cut = self._find_space(max(low, start + 1), high) or max(high, start + 1)
        return self._spare_row(start, cut)

    def _spare_row(self, start: int, cut: int) -> int:
        """Move a cut that would break a row of a table before or behind it, unless it is too long.

        Too long is a row that is no passage by itself.
        """
        row = self._boundaries.find_row(cut)
        if row is None or not self._fits(*row):
            return cut
        row_start, row_end = row
        return row_start if row_start > start else row_end

    def _fits(self, start: int, end: int) -> bool:
        """Say whether a stretch of the page can be one passage."""
        ends = self._token_ends
        token_count = bisect_right(ends, end) - bisect_right(ends, start)
        return token_count <= self._max_tokens and end - start <= self._max_characters

    def _token_end(self, count: int, start: int) -> int:
        """Return where the first `count` tokens of the page end, at least `start`."""
        if count < 1:
            return start
        ends = self._token_ends
        return max(ends[min(count, len(ends)) - 1], start) if ends else start

    def _find_space(self, low: int, high: int) -> int | None:
        """Return the end of the last word that ends in low..high, or None."""
        if high >= len(self._text) or self._text[high].isspace():
            return high
        return next((i for i in range(high - 1, low - 1, -1) if self._text[i].isspace()), None)

    def _fit(self, start: int, cut: int) -> tuple[int, int]:
        """Trim the passage and shorten it until the model takes it. Returns its end and tokens.

        A piece of a page can have more tokens than the page had in its place, where it was cut
        inside a word; so the piece itself is counted.
        """
        end = start + len(self._text[start:cut].rstrip())
        ends = self._tokenizer.token_ends(self._text[start:end])
        while len(ends) > self._max_tokens and end > start + 1:
            shorter = min(start + ends[self._max_tokens - 1], end - 1)
            row = self._boundaries.find_row(shorter)
            if row is not None and start < row[0] and self._fits(*row):
                shorter = row[0]
            end = start + max(len(self._text[start:shorter].rstrip()), 1)
            ends = self._tokenizer.token_ends(self._text[start:end])
        return end, len(ends)

    def _step_back(self, start: int, cut: int) -> int:
        """Return where the passage after the cut begins: a little before it, at a boundary."""
        if not self._overlap_tokens:
            return cut
        before = bisect_right(self._token_ends, cut) - self._overlap_tokens
        low = self._skip_spaces(self._token_end(before, start + 1))
        earlier = self._boundaries.find_first(max(low, start + 1), cut)
        return cut if earlier is None else earlier

    def _skip_spaces(self, position: int) -> int:
        while position < len(self._text) and self._text[position].isspace():
            position += 1
        return position


def _find_token_ends(text: str, tokenizer: Tokenizer) -> Sequence[int]:
    """Return where the tokens of a text of any length end; parts meet at spaces if there are any.

    A token that two parts share is counted twice or shifted: good enough to find a cut by.
    """
    ends = array("L")
    start = 0
    while start < len(text):
        stop = start + _TOKENIZE_CHARACTERS
        if stop < len(text):
            space = max(text.rfind(" ", start + 1, stop), text.rfind("\n", start + 1, stop))
            stop = space if space > 0 else stop
        ends.extend(start + end for end in tokenizer.token_ends(text[start:stop]))
        start = stop
    return ends

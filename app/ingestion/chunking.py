"""Cut pages into passages of about the same number of tokens, at the best places there are."""

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence

from app.core.tokens import Tokenizer
from app.ingestion.base import Chunk, Page
from app.ingestion.boundaries import Boundaries, find_boundaries
from app.ingestion.headings import (
    Heading,
    HeadingPath,
    PlainHeadingFinder,
    find_markdown_headings,
)
from app.ingestion.parsers.base import Markup
from app.models.spans import Span

CHUNK_TOKENS = 200
OVERLAP_TOKENS = 20
# A run of letters that a vocabulary doesn't know can be one token of any length, so characters are
# limited too. English has 4 to 5 of them in a token.
MAX_CHARACTERS_PER_TOKEN = 10
# A tokenizer takes some hundred bytes for each character of a call, so a text file goes in parts.
_TOKENIZE_CHARACTERS = 20_000
# How far from even parts a cut may go for a better place.
_LEAST_SHARE, _MOST_SHARE = 0.6, 1.25

# Made anew for each document: what a running header is shows over its pages.
_HEADING_FINDERS: dict[Markup, Callable[[], Callable[[str], list[Heading]]]] = {
    Markup.NONE: PlainHeadingFinder,
    Markup.MARKDOWN: lambda: find_markdown_headings,
}


def chunk_pages(
    pages: Iterable[Page],
    *,
    tokenizer: Tokenizer,
    max_tokens: int,
    chunk_tokens: int = CHUNK_TOKENS,
    overlap_tokens: int = OVERLAP_TOKENS,
    markup: Markup = Markup.NONE,
) -> Iterator[Chunk]:
    """Yield the passages of a document in order; together they hold every character but spaces.

    A passage lies within one page, so that a citation names it; a page is cut into even parts of
    at most `chunk_tokens`, at headings, paragraphs, sentences, lines, spaces, in this order of
    preference. Neighbors share up to `overlap_tokens`, but not across a heading or a page's end.
    `token_count` is exact and never above `max_tokens`. Holds one page at a time.
    """
    if not 0 <= overlap_tokens <= chunk_tokens // 2 or not 1 <= chunk_tokens <= max_tokens:
        raise ValueError("overlap_tokens must be at most half of chunk_tokens, that <= max_tokens")
    find_headings = _HEADING_FINDERS[markup]()
    path = HeadingPath()
    ordinal = 0
    for page in pages:
        headings = find_headings(page.text)
        cutter = _Cutter(
            page.text,
            headings,
            tokenizer=tokenizer,
            chunk_tokens=chunk_tokens,
            overlap_tokens=overlap_tokens,
            max_tokens=max_tokens,
        )
        entered = 0
        for start, end, token_count in cutter.cut():
            while entered < len(headings) and headings[entered].start <= start:
                path.enter(headings[entered])
                entered += 1
            span = Span(page.number, start, end)
            text = page.text[start:end]
            yield Chunk(ordinal, text, (span,), str(path) or None, token_count)
            ordinal += 1
        for heading in headings[entered:]:
            path.enter(heading)


class _Cutter:
    """One page: its text, where its tokens end, and where it may be cut."""

    def __init__(
        self,
        text: str,
        headings: Sequence[Heading],
        *,
        tokenizer: Tokenizer,
        chunk_tokens: int,
        overlap_tokens: int,
        max_tokens: int,
    ) -> None:
        self._text = text
        self._tokenizer = tokenizer
        self._chunk_tokens = chunk_tokens
        self._overlap_tokens = overlap_tokens
        self._max_tokens = max_tokens
        self._max_characters = chunk_tokens * MAX_CHARACTERS_PER_TOKEN
        self._token_ends = _find_token_ends(text, tokenizer)
        self._boundaries: Boundaries = find_boundaries(text, headings)

    def cut(self) -> Iterator[tuple[int, int, int]]:
        """Yield start, end and token count of each passage, in order; edges are never spaces."""
        last = len(self._text.rstrip())
        start = self._skip_spaces(0)
        while start < last:
            cut = self._find_cut(start, last)
            end, token_count = self._fit(start, cut)
            yield start, end, token_count
            cut = self._skip_spaces(end)
            start = self._step_back(start, cut) if cut < last else cut

    def _find_cut(self, start: int, last: int) -> int:
        """Return where the passage that begins at start ends; spaces before it don't belong."""
        before = bisect_right(self._token_ends, start)
        rest = bisect_right(self._token_ends, last) - before
        furthest = start + self._max_characters
        if rest <= self._chunk_tokens and last <= furthest:
            return last
        # Even parts, so that no page ends in a passage of a few words.
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
        return self._find_space(max(low, start + 1), high) or max(high, start + 1)

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
            end = start + max(len(self._text[start:shorter].rstrip()), 1)
            ends = self._tokenizer.token_ends(self._text[start:end])
        return end, len(ends)

    def _step_back(self, start: int, cut: int) -> int:
        """Return where the passage after the cut begins: a little before it, at a boundary."""
        if not self._overlap_tokens or self._boundaries.is_heading(cut):
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

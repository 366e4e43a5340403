"""From the markers of an answer to citations: the streaming marker filter and verbatim quotes."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from app.core.lexical import best_stretch, number_keys, support, term_keys, term_weights
from app.core.sentences import (
    Sentence,
    SentenceKind,
    find_header,
    is_header,
    row_cells,
    split_sentences,
)
from app.models.spans import SPAN_SEPARATOR, Span

MAX_QUOTE_LENGTH = 300
VERIFIED_SUPPORT = 0.5
# With at least one amount of the claim found in the quote, fewer of its words must be there too.
VERIFIED_SUPPORT_WITH_NUMBERS = 0.3

_CANONICAL = re.compile(r"[ ]?\[\d{1,3}\]")
_TRAILING_MARKER = re.compile(r"\[\d{1,3}\][\s.,;:!?。]*\Z")
_LIST_MARK = re.compile(r"\s*(?:[-–*+•>#]+|\d{1,2}[.)])\s+")
_CLAIM_LOOK_BACK = 1_200
_MIN_CLAIM_TERMS = 3
_MAX_QUOTE_SENTENCES = 3
_MIN_SUPPORT = 0.05

_SEPARATED = r"\d{1,3}(?:[ ]?[,，;；、][ ]?\d{1,3}){0,7}"
_MARKER = re.compile(
    rf"[\[【［]{{2}}[ ]?{_SEPARATED}[ ]?[\]】］]{{2}}|[\[【［][ ]?{_SEPARATED}[ ]?[\]】］]"
)
# Whatever may still grow into a marker. Bounded, so that holding it back costs a constant.
_UNFINISHED = re.compile(
    r"[\[【［]{1,2}(?:[ ]?\d{1,3}[ ]?[,，;；、]){0,7}[ ]?(?:\d{1,3}[ ]?[\]】］]?)?"
)
_NUMBER = re.compile(r"\d+")
_PIECE = re.compile(r"`+|~+|\n|[\[【［]|[^`~\n\[【［]+")
_SPECIAL = re.compile(r"[`~\n\[【［]")
_OPENERS = frozenset("[【［")
_CLOSING_PUNCTUATION = frozenset(".,;:!?)]}»”’%…。，、！？；：）」』】")


@dataclass(frozen=True, slots=True)
class TextPiece:
    """Text of the answer, markers in their canonical form `[n]`."""

    text: str


@dataclass(frozen=True, slots=True)
class Marker:
    """The next text begins with the marker `[n]`."""

    n: int


class _Mode(Enum):
    TEXT = "text"
    CODE_SPAN = "code_span"  # until as many back-ticks again, or the end of the line
    FENCE = "fence"  # until a line of at least as many


class MarkerFilter:
    """Rewrites the markers of a streamed answer to `[n]` and removes those that are no source.

    Concatenated, the output is the same however the stream is cut. Only the beginning of a possible
    marker and one space are held back; code and Markdown links are left alone.
    """

    def __init__(self, known: Collection[int]) -> None:
        self._known = frozenset(known)
        self.dropped_markers = 0
        self._held = ""  # the beginning of a possible marker, or a marker without its look-ahead
        self._space = ""  # a space that goes if a removed marker follows
        self._after_drop = False
        self._indent: int | None = 0  # spaces at the beginning of the line; None behind other text
        self._mode = _Mode.TEXT
        self._code_char = "`"
        self._code_length = 0
        self._in_info = False  # in the first line of a fence
        self._is_closing = False  # behind the back-ticks that close a fence, if nothing follows
        self._run_char = ""  # a run of back-ticks that may go on
        self._run_length = 0
        self._run_starts_line = False
        self._parts: list[str] = []
        self._events: list[TextPiece | Marker] = []

    def feed(self, delta: str) -> list[TextPiece | Marker]:
        """Return what is certain by now, in order."""
        if not (self._held or self._run_char or _SPECIAL.search(delta)):
            if delta:
                self._take_text(delta)
        else:
            buffer, self._held = self._held + delta, ""
            self._scan(buffer, is_last=False)
        return self._take_events()

    def close(self) -> list[TextPiece | Marker]:
        """Return the rest. Call it once, at the end of the answer."""
        buffer, self._held = self._held, ""
        self._scan(buffer, is_last=True)
        if not self._after_drop:
            self._write(self._space)
        self._space = ""
        return self._take_events()

    def _scan(self, buffer: str, *, is_last: bool) -> None:
        position = 0
        while piece := _PIECE.match(buffer, position):
            text = piece.group()
            if text[0] in "`~":
                self._take_run(text)
                position = piece.end()
                continue
            self._end_run()
            if text[0] not in _OPENERS or self._mode is not _Mode.TEXT:
                self._take_newline() if text == "\n" else self._take_text(text)
                position = piece.end()
                continue
            end = self._take_opener(buffer, position, is_last=is_last)
            if end is None:
                self._held = buffer[position:]
                return
            position = end

    def _take_opener(self, buffer: str, position: int, *, is_last: bool) -> int | None:
        """Handle a bracket. Returns where to go on, or None to wait for more of the answer."""
        marker = _MARKER.match(buffer, position)
        if marker is None:
            if not is_last and _UNFINISHED.fullmatch(buffer, position):
                return None
            self._take_text(buffer[position])
            return position + 1
        end = marker.end()
        if end == len(buffer) and not is_last:
            return None
        if buffer.startswith("](", end - 1):
            self._take_text(marker.group())
        else:
            self._take_marker(marker.group())
        return end

    def _take_marker(self, marker: str) -> None:
        numbers = [int(number) for number in _NUMBER.findall(marker)]
        known = [n for n in dict.fromkeys(numbers) if n in self._known]
        self.dropped_markers += sum(n not in self._known for n in numbers)
        if not known:
            self._after_drop = True
            return
        self._write(self._space)
        self._space, self._after_drop, self._indent = "", False, None
        for n in known:
            self._flush()
            self._events.append(Marker(n))
            self._parts.append(f"[{n}]")

    def _take_text(self, text: str) -> None:
        """Write text other than markers, line breaks and back-ticks, in any mode."""
        if text.strip():
            self._is_closing = False
        text = self._join(text)
        if not text:
            return
        if self._indent is not None:
            spaces = len(text) - len(text.lstrip(" "))
            self._indent = self._indent + spaces if spaces == len(text) else None
        if text[-1] == " ":
            text, self._space = text[:-1], " "
        self._write(text)

    def _take_newline(self) -> None:
        self._write(self._join("\n"))
        self._indent = 0
        if self._mode is _Mode.CODE_SPAN or self._is_closing:
            self._mode = _Mode.TEXT
        self._in_info = self._is_closing = False

    def _take_run(self, run: str) -> None:
        if run[0] != self._run_char:
            self._end_run()
            self._run_char = run[0]
            self._run_starts_line = self._indent is not None and self._indent <= 3
        self._run_length += len(run)
        self._write(self._join(run))
        self._indent = None

    def _end_run(self) -> None:
        """Open or close code, now that the length of a run of back-ticks or tildes is known."""
        char, length = self._run_char, self._run_length
        if not char:
            return
        self._run_char, self._run_length = "", 0
        is_fence = length >= 3 and self._run_starts_line
        if self._mode is _Mode.TEXT:
            if char == "`" or is_fence:
                self._mode = _Mode.FENCE if is_fence else _Mode.CODE_SPAN
                self._code_char, self._code_length, self._in_info = char, length, is_fence
            return
        if char != self._code_char:
            self._is_closing = False
        elif self._mode is _Mode.CODE_SPAN or (self._in_info and char == "`"):
            # Back-ticks in the first line of a "fence" mean that it is a code span.
            self._mode = _Mode.TEXT if length == self._code_length else _Mode.CODE_SPAN
            self._in_info = False
        else:
            self._is_closing = is_fence and length >= self._code_length

    def _join(self, text: str) -> str:
        """Settle the held space before `text`. Returns the text, less a space after a removal."""
        space, self._space = self._space, ""
        if self._after_drop:
            self._after_drop = False
            if text[0].isspace() or text[0] in _CLOSING_PUNCTUATION:
                # At the beginning of a line there is no space before the marker, but one behind it.
                if not space and text[0] == " " and self._indent == 0:
                    text = text[1:]
                space = ""
        self._write(space)
        return text

    def _write(self, text: str) -> None:
        if text:
            self._parts.append(text)

    def _flush(self) -> None:
        if self._parts:
            self._events.append(TextPiece("".join(self._parts)))
            self._parts = []

    def _take_events(self) -> list[TextPiece | Marker]:
        self._flush()
        events, self._events = self._events, []
        return events


@dataclass(frozen=True, slots=True)
class Quote:
    """The verbatim part of a chunk that best supports a claim: chunk_text[start:end] == text.

    `score` (0 to 1) is the weighted share of the claim's terms that it holds.
    """

    text: str
    start: int
    end: int
    score: float
    verified: bool


@dataclass(frozen=True, slots=True)
class PageQuote:
    """Where a quote stands: on `page` at page_text[start:end], in the chunk at `chunk_start`.

    `chunk_end` is smaller than the quote's own end where the page ends before the quote does.
    """

    page: int
    start: int
    end: int
    chunk_start: int
    chunk_end: int


def find_claim(answer: str) -> str:
    """Return the statement that a marker right behind `answer` stands for.

    That is the last sentence, or what follows the marker before in the same sentence when that
    says enough by itself. Looks at the last 1,200 characters only.
    """
    text = answer[-_CLAIM_LOOK_BACK:].rstrip()
    while marker := _TRAILING_MARKER.search(text, max(len(text) - 40, 0)):
        text = text[: marker.start()].rstrip()
    sentences = split_sentences(text)
    if not sentences:
        return ""
    sentence = text[sentences[-1].start :]
    tail = _CANONICAL.split(sentence)[-1]
    if not number_keys(tail) and len(term_keys(tail)) < _MIN_CLAIM_TERMS:
        tail = _CANONICAL.sub("", sentence)
    mark = _LIST_MARK.match(tail)
    return tail[mark.end() if mark else 0 :].strip()


def find_quote(claim: str, chunk_text: str) -> Quote | None:
    """Return the sentence, line, table row or short run of them that best supports the claim.

    `verified` when enough of the claim's terms and all of its numbers are there; years may stand in
    the header of the row's column. None when nothing in the chunk resembles the claim, which is
    also so for an answer in another language.
    """
    sentences = split_sentences(chunk_text)
    claim_keys = term_keys(claim)
    sentence_keys = [term_keys(chunk_text[s.start : s.end]) for s in sentences]
    weights = term_weights(claim_keys, sentence_keys)
    best: tuple[float, int, int] | None = None
    for first, last in _windows(sentences):
        rank = _rank(weights, frozenset().union(*sentence_keys[first : last + 1]), last - first)
        if best is None or rank > best[0]:
            best = (rank, first, last)
    if best is None:
        return None
    _, first, last = best
    start, end = best_stretch(
        chunk_text,
        sentences[first].start,
        sentences[last].end,
        weights=weights,
        max_length=MAX_QUOTE_LENGTH,
    )
    quote = _quote(claim, chunk_text, start, end, weights)
    if quote.score < _MIN_SUPPORT:
        return None
    if not quote.verified and first == last and sentences[first].kind is SentenceKind.ROW:
        verified = _is_in_column(claim, chunk_text, sentences, first)
        return Quote(quote.text, quote.start, quote.end, quote.score, verified)
    return quote


def locate_quote(spans: Sequence[Span], start: int, end: int) -> PageQuote:
    """Map chunk offsets to a page. A quote over two spans is cut to the part that is longer.

    Raises ValueError when the offsets name no character of a span.
    """
    best: PageQuote | None = None
    offset = 0
    for span in spans:
        length = span.end - span.start
        begin, stop = max(start, offset), min(end, offset + length)
        if begin < stop and (best is None or stop - begin > best.chunk_end - best.chunk_start):
            shift = span.start - offset
            best = PageQuote(span.page, begin + shift, stop + shift, begin, stop)
        offset += length + len(SPAN_SEPARATOR)
    if best is None:
        raise ValueError(f"no span holds the characters {start} to {end}")
    return best


def find_page_quote(
    claim: str, chunk_text: str, spans: Sequence[Span]
) -> tuple[Quote, PageQuote] | None:
    """Return the best quote within one page, and where it stands. None as in `find_quote`.

    A quote that the page's end cuts is judged again by what is left of it.
    """
    quote = find_quote(claim, chunk_text)
    if quote is None:
        return None
    place = locate_quote(spans, quote.start, quote.end)
    if (place.chunk_start, place.chunk_end) == (quote.start, quote.end):
        return quote, place
    cut = find_quote(claim, chunk_text[place.chunk_start : place.chunk_end])
    if cut is None:
        return None
    start, end = cut.start + place.chunk_start, cut.end + place.chunk_start
    return Quote(cut.text, start, end, cut.score, cut.verified), locate_quote(spans, start, end)


def find_opening(chunk_text: str, spans: Sequence[Span]) -> PageQuote:
    """Return where the chunk's first sentence stands, of at most MAX_QUOTE_LENGTH characters."""
    sentences = split_sentences(chunk_text)
    start, end = (sentences[0].start, sentences[0].end) if sentences else (0, len(chunk_text))
    return locate_quote(spans, start, min(end, start + MAX_QUOTE_LENGTH))


def _windows(sentences: Sequence[Sentence]) -> Iterator[tuple[int, int]]:
    """Yield (first, last) of each sentence and of each short run of sentences.

    Rows stand alone: two of them hold numbers that do not belong to one statement.
    """
    for first, sentence in enumerate(sentences):
        yield first, first
        if sentence.kind is SentenceKind.ROW:
            continue
        for last in range(first + 1, min(first + _MAX_QUOTE_SENTENCES, len(sentences))):
            is_row = sentences[last].kind is SentenceKind.ROW
            if is_row or sentences[last].end - sentence.start > MAX_QUOTE_LENGTH:
                break
            yield first, last


def _rank(weights: Mapping[str, float], keys: frozenset[str], extra_sentences: int) -> float:
    """Support first; then a short quote and one that speaks of little else."""
    focus = sum(key in keys for key in weights) / len(keys) if keys else 0.0
    return support(weights, keys) + 0.1 * focus - 0.08 * extra_sentences


def _quote(
    claim: str, chunk_text: str, start: int, end: int, weights: Mapping[str, float]
) -> Quote:
    text = chunk_text[start:end]
    score = support(weights, term_keys(text))
    numbers = number_keys(claim)
    needed = VERIFIED_SUPPORT_WITH_NUMBERS if numbers else VERIFIED_SUPPORT
    verified = score >= needed and numbers <= number_keys(text)
    return Quote(text, start, end, score, verified)


def _is_in_column(claim: str, chunk_text: str, sentences: Sequence[Sentence], index: int) -> bool:
    """Whether the claim's numbers stand in this row, under the years that the claim names."""
    header = find_header(chunk_text, sentences, index)
    if header is None:
        return False
    row = chunk_text[sentences[index].start : sentences[index].end]
    years = row_cells(chunk_text[header.start : header.end])
    cells = row_cells(row)
    claimed = number_keys(claim)
    if len(years) != len(cells) or is_header(row) or not claimed - set(years):
        return False
    label_numbers = number_keys(row) - number_keys(" ".join(cells))
    columns = [cell for year, cell in zip(years, cells, strict=True) if year in claimed]
    labels = support(term_weights(term_keys(claim) - claimed, []), term_keys(row))
    return claimed - set(years) <= number_keys(" ".join(columns)) | label_numbers and labels > 0.25

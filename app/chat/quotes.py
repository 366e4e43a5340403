"""From a statement of an answer to the words of a source that support it, and where they stand."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from app.chat.agreement import Reading, contradicts, find_missing, read
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
MAX_CLAIM_LENGTH = 1_200
VERIFIED_SUPPORT = 0.5
# With all figures of the claim found in the quote, fewer of its words must be there too.
VERIFIED_SUPPORT_WITH_NUMBERS = 0.3
# But some: the same figure may be another thing's.
MIN_WORD_SUPPORT = 0.25
MIN_SENTENCE_SUPPORT = 0.15

_MARKER = re.compile(r"[ ]?\[\d{1,3}\]")
_TRAILING_MARKER = re.compile(r"\[\d{1,3}\][\s.,;:!?。]*\Z")
_LIST_MARK = re.compile(r"\s*(?:[-–*+•>#]+|\d{1,2}[.)])\s+")
_MIN_CLAIM_TERMS = 3
_MAX_QUOTE_SENTENCES = 3
_MIN_SUPPORT = 0.05
# The best stretch may be a heading, or last year's row, with the right one close behind it.
_MAX_CANDIDATES = 3
_MAX_RANK_DIFFERENCE = 0.2
# How much more of a claim's words another sentence, or row, must hold to be the one meant.
_CLEARLY_BETTER = 1.4
_CLEARLY_BETTER_ROW = 1.15


@dataclass(frozen=True, slots=True)
class Quote:
    """The verbatim part of a source that best supports a claim: source.text[start:end] == text.

    `score` (0 to 1) is the weighted share of the claim's terms that it holds. `missing_numbers` are
    the claim's figures, as the claim writes them, that neither it nor its column's header holds.
    """

    text: str
    start: int
    end: int
    score: float
    verified: bool
    missing_numbers: tuple[str, ...] = ()


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


@dataclass(frozen=True, slots=True)
class _Window:
    """A sentence, or a short run of them: sentences[first] to sentences[last]."""

    first: int
    last: int
    keys: frozenset[str]


class SourceIndex:
    """A source's text, taken apart on first use and once for all claims."""

    def __init__(self, text: str) -> None:
        self.text = text

    @cached_property
    def sentences(self) -> list[Sentence]:
        return split_sentences(self.text)

    @cached_property
    def keys(self) -> list[frozenset[str]]:
        """The terms of each sentence."""
        return [term_keys(self.text[s.start : s.end]) for s in self.sentences]

    @cached_property
    def all_keys(self) -> frozenset[str]:
        return frozenset().union(*self.keys)

    @cached_property
    def reading(self) -> Reading:
        """The whole text, for what must stand in it anywhere."""
        return read(self.text)

    @cached_property
    def windows(self) -> list[_Window]:
        return list(_windows(self.sentences, self.keys))


def find_claim(answer: str) -> str:
    """Return the statement that a marker right behind `answer` stands for.

    That is the last sentence of the last line, or what follows the marker before in the same
    sentence when that says enough by itself. Looks at the last 1,200 characters only.
    """
    text = answer[-MAX_CLAIM_LENGTH:].rstrip()
    while marker := _TRAILING_MARKER.search(text, max(len(text) - 40, 0)):
        text = text[: marker.start()].rstrip()
    text = text[text.rfind("\n") + 1 :]
    sentences = split_sentences(text)
    if not sentences:
        return ""
    sentence = text[sentences[-1].start :]
    tail = _MARKER.split(sentence)[-1]
    if not number_keys(tail) and len(term_keys(tail)) < _MIN_CLAIM_TERMS:
        tail = _MARKER.sub("", sentence)
    mark = _LIST_MARK.match(tail)
    return tail[mark.end() if mark else 0 :].strip()


def find_quote(claim: str, source: SourceIndex | str) -> Quote | None:
    """Return the sentence, line, table row or short run of them that best supports the claim.

    `verified` when enough of the claim's terms and all of its figures are there and nothing
    contradicts it; years may stand in the header of the row's column. None when nothing in the
    source resembles the claim, as in another language, or it is longer than MAX_CLAIM_LENGTH.
    """
    index = SourceIndex(source) if isinstance(source, str) else source
    if not index.windows or len(claim) > MAX_CLAIM_LENGTH:
        return None
    weights = term_weights(term_keys(claim), index.keys)
    total = sum(weights.values())
    ranked: list[tuple[float, int]] = []
    for place, window in enumerate(index.windows):
        shared = weights.keys() & window.keys
        if shared:
            rank = sum(weights[key] for key in shared) / total
            # Support first; then a short quote and one that speaks of little else.
            rank += 0.1 * len(shared) / len(window.keys) - 0.08 * (window.last - window.first)
            ranked.append((rank, place))
    ranked.sort(key=lambda entry: (-entry[0], entry[1]))
    reading = read(claim)
    needed = VERIFIED_SUPPORT_WITH_NUMBERS if reading.figures else VERIFIED_SUPPORT
    best: Quote | None = None
    for rank, place in ranked[:_MAX_CANDIDATES]:
        if best and (
            rank < ranked[0][0] - _MAX_RANK_DIFFERENCE
            or support(weights, index.windows[place].keys) < needed
        ):
            continue
        quote = _quote(reading, index, index.windows[place], weights)
        if quote.verified:
            return quote
        best = best or quote
    return best if best and best.score >= _MIN_SUPPORT else None


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
    claim: str, source: SourceIndex | str, spans: Sequence[Span]
) -> tuple[Quote, PageQuote] | None:
    """Return the best quote within one page, and where it stands. None as in `find_quote`.

    A quote that the page's end cuts is judged again by what is left of it.
    """
    text = source if isinstance(source, str) else source.text
    quote = find_quote(claim, source)
    if quote is None:
        return None
    place = locate_quote(spans, quote.start, quote.end)
    if (place.chunk_start, place.chunk_end) == (quote.start, quote.end):
        return quote, place
    cut = find_quote(claim, text[place.chunk_start : place.chunk_end])
    if cut is None:
        return None
    start, end = cut.start + place.chunk_start, cut.end + place.chunk_start
    moved = Quote(cut.text, start, end, cut.score, cut.verified, cut.missing_numbers)
    return moved, locate_quote(spans, start, end)


def find_opening(source: SourceIndex | str, spans: Sequence[Span]) -> PageQuote:
    """Return where the source's first sentence stands, of at most MAX_QUOTE_LENGTH characters."""
    index = SourceIndex(source) if isinstance(source, str) else source
    first = index.sentences[0] if index.sentences else None
    start, end = (first.start, first.end) if first else (0, len(index.text))
    return locate_quote(spans, start, min(end, start + MAX_QUOTE_LENGTH))


def _windows(sentences: Sequence[Sentence], keys: Sequence[frozenset[str]]) -> Iterator[_Window]:
    """Yield each sentence and each short run of sentences.

    Rows stand alone: two of them hold numbers that do not belong to one statement.
    """
    for first, sentence in enumerate(sentences):
        yield _Window(first, first, keys[first])
        if sentence.kind is SentenceKind.ROW:
            continue
        together = keys[first]
        for last in range(first + 1, min(first + _MAX_QUOTE_SENTENCES, len(sentences))):
            is_row = sentences[last].kind is SentenceKind.ROW
            if is_row or sentences[last].end - sentence.start > MAX_QUOTE_LENGTH:
                break
            together |= keys[last]
            yield _Window(first, last, together)


def _quote(
    claim: Reading, index: SourceIndex, window: _Window, weights: Mapping[str, float]
) -> Quote:
    start, end = best_stretch(
        index.text,
        index.sentences[window.first].start,
        index.sentences[window.last].end,
        weights=weights,
        max_length=MAX_QUOTE_LENGTH,
    )
    quote = read(index.text[start:end])
    score = support(weights, quote.keys)
    missing = [claim.written(figure) for figure in find_missing(claim, quote)]
    needed = VERIFIED_SUPPORT_WITH_NUMBERS if claim.figures else VERIFIED_SUPPORT
    is_row = index.sentences[window.first].kind is SentenceKind.ROW
    verified = (
        not missing
        and score >= needed
        and _word_support(claim, weights, quote.keys) >= MIN_WORD_SUPPORT
        and not _fits_other_sentence(claim, index, window, weights)
        and not (
            _is_reordered(claim, quote)
            if is_row
            else _is_contradicted(claim, quote, index, window, weights)
        )
    )
    if is_row and claim.years and (columns := _columns(index, window.first)):
        missing = _find_missing_in_row(claim, quote, columns, index.all_keys)
        words = _word_support(claim, weights, quote.keys)
        verified = (
            not missing
            and bool(claim.amounts)
            and words >= MIN_WORD_SUPPORT
            and not _fits_other_sentence(claim, index, window, weights)
        )
    return Quote(quote.text, start, end, score, verified, tuple(missing))


def _is_reordered(claim: Reading, row: Reading) -> bool:
    """Whether a claim that is a row itself has its cells in another order."""
    if len(row_cells(claim.text)) < 2:
        return False
    there = iter([figure.key for figure in row.figures])
    return not all(figure.key in there for figure in claim.figures)


def _is_contradicted(
    claim: Reading,
    quote: Reading,
    index: SourceIndex,
    window: _Window,
    weights: Mapping[str, float],
) -> bool:
    """Whether a quote, or one of its sentences by itself, says something else than the claim.

    A sentence that shares hardly a word with the claim must not lend it a figure.
    """
    if contradicts(claim, quote):
        return True
    if window.first == window.last:
        return False
    for place in range(window.first, window.last + 1):
        sentence = index.sentences[place]
        if _word_support(claim, weights, index.keys[place]) < MIN_SENTENCE_SUPPORT:
            return True
        if contradicts(claim, read(index.text[sentence.start : sentence.end])):
            return True
    return False


def _fits_other_sentence(
    claim: Reading, index: SourceIndex, window: _Window, weights: Mapping[str, float]
) -> bool:
    """Whether the words of a claim with figures point to another row or sentence than these do."""
    if not claim.figures:
        return False
    own = _word_support(claim, weights, window.keys)
    is_row = index.sentences[window.first].kind is SentenceKind.ROW
    factor = _CLEARLY_BETTER_ROW if is_row else _CLEARLY_BETTER
    return own < 1 / factor and any(
        _word_support(claim, weights, keys) > factor * own
        for sentence, keys in zip(index.sentences, index.keys, strict=True)
        if (sentence.kind is SentenceKind.ROW) == is_row
    )


def _word_support(claim: Reading, weights: Mapping[str, float], keys: frozenset[str]) -> float:
    """Return the support for the words of a claim alone; 1 where it has none."""
    words = {key: weight for key, weight in weights.items() if key in claim.word_keys}
    return support(words, keys) if words else 1.0


def _columns(index: SourceIndex, place: int) -> dict[str, str] | None:
    """Return the cells of a row by the years above them, None where those do not fit."""
    header = find_header(index.text, index.sentences, place)
    sentence = index.sentences[place]
    row = index.text[sentence.start : sentence.end]
    if header is None or is_header(row):
        return None
    years = row_cells(index.text[header.start : header.end])
    cells = row_cells(row)
    return dict(zip(years, cells, strict=True)) if len(years) == len(cells) else None


def _find_missing_in_row(
    claim: Reading, row: Reading, columns: Mapping[str, str], all_keys: frozenset[str]
) -> list[str]:
    """Return the figures of a claim that do not stand in a row under the years it names for them.

    Only digits count: the scale stands in the table's title, not in its cells.
    """
    in_label = row.keys - number_keys(" ".join(columns.values()))
    missing = []
    for figure in claim.figures:
        if figure.kind == "year":
            there = in_label | columns.keys()
        elif figure.kind == "day":
            there = all_keys  # of the balance sheet's date, which its title says
        else:
            own = claim.years_of.get(figure.key) or {year.key for year in claim.years}
            there = in_label | number_keys(" ".join(columns.get(year, "") for year in own))
        if figure.kind != "word" and figure.key not in there:
            missing.append(claim.written(figure))
    return missing

"""Where the sentences, lines and table rows of a text begin and end, with exact offsets.

Text that was extracted from a PDF breaks lines in mid-sentence and shows a table row as a line of
its own, so line breaks count only where the line before them was not full.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum


class SentenceKind(StrEnum):
    SENTENCE = "sentence"
    LINE = "line"  # a heading, a label, a list item: nothing marks its end
    ROW = "row"  # a line of a table: a label and its cells


@dataclass(frozen=True, slots=True)
class Sentence:
    """A stretch of a text: code points, `end` exclusive, no white space or bullet at its edges."""

    start: int
    end: int
    kind: SentenceKind


@dataclass(frozen=True, slots=True)
class _Line:
    start: int
    end: int
    is_row: bool
    after_blank: bool


_LINE = re.compile(r"[^\r\n\f\v\u2028\u2029]+")
_BULLET = re.compile(r"[•‣◦▪▫●○■□◆►➢✓·∙][ \t\u00a0]*")
_DASH_BULLET = re.compile(r"[-–—*+][ \t\u00a0]+")
_LIST_NUMBER = re.compile(r"\(?(?:\d{1,2}|[a-z]|[ivx]{1,4})[.)](?:[ \t\u00a0]|\Z)")
_NUMBERED_PART = re.compile(
    r"\b(?:Item|Note|Section|Part|Chapter|Exhibit|Article)\s+[\dIVX]+[A-C]?\Z"
)
_CELL = re.compile(r"[(\[$€£¥₹+\-–—−]*\d[\d.,'’]*[)\]%*†x]*|[-–—−]+|[$€£¥₹%)]|(?i:n/?[am])")
_YEAR = re.compile(r"(?:19|20)\d\d")
_WORD_LETTER = re.compile(r"[^\W\d_]")

# Full stops that need white space after them, and those of scripts that set none.
_END = re.compile(r"[.!?…؟۔।॥።։]+|[。！？｡．]+")
_NEEDS_NO_SPACE = frozenset("。！？｡．")
_CLOSERS = re.compile(r"[\"'”’»)\]）」』】〉》]*(?:\[\d{1,3}\])*")
_TERMINATED = re.compile(r"[.!?…؟۔।॥።։。！？｡．][\"'”’»)\]）」』】]*(?:\[\d{1,3}\])*\Z")
_WORD_BEFORE = re.compile(r"[^\s(\[\"“‘«,;:/]+\Z")
_WORD_AFTER = re.compile(r"\s*[\"“‘«(\[]*([^\s.,;:!?]+)")
_DOTTED = re.compile(r"(?:[^\W\d_]\.)+[^\W\d_]")
_THAI_SPACE = re.compile(r"(?<=[\u0e00-\u0e7f]) +(?=[\u0e00-\u0e7f])")
_THAI_SENTENCE_LENGTH = 80


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Never the end of a sentence.
_INNER = _words(
    """mr mrs ms dr prof rev hon gen col sgt capt st mt vs fig figs eq eqs sec secs art arts cf
    approx e.g i.e viz ca vol vols pp ed eds dept est ext incl excl jan feb mar apr jun jul aug sep
    sept oct nov dec z.b d.h u.a bzw vgl nr abs str hr fr mme mlle sra srta pág núm op"""
)
# The end of a sentence only when the next word usually begins one.
_MAYBE_END = _words(
    """inc corp co ltd llc plc bros etc al jr sr u.s u.k u.n e.u p.m a.m ph.d d.c l.p n.a s.a b.v"""
)
_BEFORE_NUMBERS = _words("no nos n p pt ch")
_STARTERS = _words(
    """the a an in on at it its this these that those we our he she they their there as for if when
    while after before during however although since both each all some most such to by with from
    under over because revenue total der die das ein eine es im le la les un une il elle el los las
    en se"""
)
_MONTHS_AND_AGES = _words(
    """januar februar märz april mai juni juli august september oktober november dezember
    jahrhundert jahrhunderts jahrhunderte"""
)


def split_sentences(text: str) -> list[Sentence]:
    """Return the sentences, lines and table rows of a text in order, without overlaps."""
    lines = _lines(text)
    width = _typical_width(lines)
    sentences: list[Sentence] = []
    index = 0
    while index < len(lines):
        last = _block_end(text, lines, index, width)
        if lines[last].is_row:
            sentences.append(Sentence(lines[index].start, lines[last].end, kind=SentenceKind.ROW))
        else:
            sentences.extend(_split_block(text, lines[index].start, lines[last].end))
        index = last + 1
    return sentences


def row_cells(row: str) -> tuple[str, ...]:
    """Return the cells with a number or a dash at the end of a table row, in order."""
    return tuple(cell for cell in _trailing_cells(row) if cell not in "$€£¥₹%)")


def is_header(row: str) -> bool:
    """Whether a row names the columns: all its cells are years."""
    cells = row_cells(row)
    return len(cells) > 1 and all(_YEAR.fullmatch(cell) for cell in cells)


def find_header(text: str, sentences: Sequence[Sentence], index: int) -> Sentence | None:
    """Return the row of years above row `index` in the same table, or None."""
    for candidate in reversed(sentences[:index]):
        if candidate.kind is SentenceKind.SENTENCE:
            return None
        if candidate.kind is SentenceKind.ROW and is_header(text[candidate.start : candidate.end]):
            return candidate
    return None


def _lines(text: str) -> list[_Line]:
    lines: list[_Line] = []
    previous_end = 0
    after_blank = True
    for match in _LINE.finditer(text):
        breaks = text[previous_end : match.start()].replace("\r\n", "\n")
        previous_end = match.end()
        after_blank = after_blank or len(breaks) > 1 or "\f" in breaks
        raw = match.group()
        content = raw.strip()
        if not content:
            after_blank = True
            continue
        start = match.start() + len(raw) - len(raw.lstrip())
        is_row = _is_row(content)
        lines.append(_Line(start, start + len(content), is_row, after_blank))
        after_blank = False
    return lines


def _typical_width(lines: Sequence[_Line]) -> int:
    """How long a full line is, at most 140: a paragraph may stand on one line."""
    lengths = sorted(line.end - line.start for line in lines)
    if not lengths:
        return 40
    return min(140, max(40, lengths[len(lengths) * 9 // 10]))


def _block_end(text: str, lines: Sequence[_Line], index: int, width: int) -> int:
    """Return the index of the last line that belongs together with line `index`."""
    last = index
    while last + 1 < len(lines):
        here, following = lines[last], lines[last + 1]
        if here.is_row or following.after_blank:
            break
        if following.is_row:
            # A label too long for its line: its cells stand on the next one.
            return last + 1 if _is_rest_of_row(text, here, following) else last
        if not _runs_on(text, here, following, width):
            break
        last += 1
    return last


def _is_rest_of_row(text: str, label: _Line, row: _Line) -> bool:
    label_text, row_text = text[label.start : label.end], text[row.start : row.end]
    if _TERMINATED.search(label_text) or label_text.endswith(":") or is_header(row_text):
        return False
    return row_text[0].islower() or not _WORD_LETTER.search(row_text)


def _runs_on(text: str, here: _Line, following: _Line, width: int) -> bool:
    """Whether a sentence may go on from one line to the next."""
    line, rest = text[here.start : here.end], text[following.start : following.end]
    first_word = rest.split(maxsplit=1)[0]
    is_full = len(line) + 1 + min(len(first_word), 12) >= 0.75 * width
    if _BULLET.match(rest) or _LIST_NUMBER.match(rest):
        return False
    if _DASH_BULLET.match(rest):
        return is_full and not _TERMINATED.search(line) and line[-1] not in ":;"
    is_begun = len(line) >= 0.4 * width and rest[0].islower()
    if is_full or is_begun or line[-1] in ",-–(&":
        return True
    return bool(_TERMINATED.search(line)) and not is_full and _ends_in_abbreviation(line, rest)


def _ends_in_abbreviation(line: str, rest: str) -> bool:
    return line.endswith(".") and not _is_end(line + " " + rest, 0, len(line) - 1, len(line))


def _split_block(text: str, start: int, end: int) -> Iterator[Sentence]:
    bullet = _BULLET.match(text, start, end) or _DASH_BULLET.match(text, start, end)
    begin = start = bullet.end() if bullet else start
    for match in _END.finditer(text, start, end):
        if match.start() < begin:
            continue
        closers = _CLOSERS.match(text, match.end(), end)
        stop = closers.end() if closers else match.end()
        spaced = stop >= end or text[stop].isspace()
        if not spaced and match.group()[-1] not in _NEEDS_NO_SPACE:
            continue
        if stop < end and not _is_end(text, start, match.start(), stop):
            continue
        yield from _finish(text, begin, stop, is_terminated=True)
        begin = stop
    yield from _finish(text, begin, end, is_terminated=False)


def _is_end(text: str, start: int, mark: int, stop: int) -> bool:
    """Whether the full stop at `mark` ends a sentence that goes on behind `stop`."""
    after = _WORD_AFTER.match(text, stop)
    word_after = after.group(1) if after else ""
    if text[mark] in _NEEDS_NO_SPACE or text[mark] in "؟۔।॥።։":
        return True
    if word_after[:1].islower():
        return False
    if text[mark] != "." or text[mark : mark + 2] == "..":
        return True
    before = _WORD_BEFORE.search(text, max(start, mark - 40), mark)
    if before is None:
        return True
    if _NUMBERED_PART.search(text, max(start, mark - 20), mark) and word_after[:1].isupper():
        return False
    return _word_may_end(before.group(), word_after, is_first=before.start() <= start)


def _word_may_end(word: str, word_after: str, *, is_first: bool) -> bool:
    """Whether a full stop behind `word` ends the sentence, `word_after` being the next word."""
    key, next_key = word.casefold(), word_after.casefold()
    if key in _INNER:
        return False
    if key in _BEFORE_NUMBERS:
        return not word_after[:1].isdigit()
    if key in _MAYBE_END or _DOTTED.fullmatch(word) or (len(word) == 1 and word.isalpha()):
        return next_key in _STARTERS
    if key.isdigit() and len(key) <= 2:
        # "1. Introduction" and the German "7. Januar".
        return not is_first and next_key not in _MONTHS_AND_AGES
    return True


def _finish(text: str, start: int, end: int, *, is_terminated: bool) -> Iterator[Sentence]:
    piece = text[start:end]
    start += len(piece) - len(piece.lstrip())
    end -= len(piece) - len(piece.rstrip())
    if start >= end:
        return
    sentence = Sentence(start, end, SentenceKind.SENTENCE if is_terminated else SentenceKind.LINE)
    yield from _split_thai(text, sentence)


def _split_thai(text: str, sentence: Sentence) -> Iterator[Sentence]:
    """Thai ends a sentence with a space, but a phrase too: cut into pieces of some length."""
    begin = sentence.start
    for space in _THAI_SPACE.finditer(text, sentence.start, sentence.end):
        if space.start() - begin >= _THAI_SENTENCE_LENGTH:
            yield Sentence(begin, space.start(), SentenceKind.SENTENCE)
            begin = space.end()
    yield replace(sentence, start=begin)


def _is_row(line: str) -> bool:
    if line.count("\t") > 1 or line.count(" | ") > 1 or (line[0] == "|" and line.count("|") > 2):
        return True
    cells = [cell for cell in _trailing_cells(line) if any(c.isdigit() for c in cell)]
    return len(cells) > 1


def _trailing_cells(line: str) -> list[str]:
    """Return the tokens at the end of a line that look like cells of a table, in order."""
    cells: list[str] = []
    for word in reversed(line.replace("|", " ").split()):
        if not _CELL.fullmatch(word) or word[-1] in ".,":
            break
        cells.append(word)
    return cells[::-1]

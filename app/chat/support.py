"""Which sentences of an answer no source supports, cited or not.

A sentence is judged by `find_quote`, as a citation is. Words of another language than a source's
cannot be compared: against such a source a sentence is judged by its figures, which must all stand
in it, and else by its names, one of which must; with neither it is not judged.
"""

import re
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from app.chat.agreement import Reading, find_missing, read
from app.chat.quotes import SourceIndex, find_quote
from app.core.analysis import Language, detect_language, tokenize
from app.core.lexical import STOP_WORDS
from app.core.sentences import split_sentences
from app.llm.base import NOT_IN_DOCUMENTS

_MARKER = re.compile(r"\[\d{1,3}\]")
_CODE_SPAN = re.compile(r"(?<!`)(`+)(?!`).+?(?<!`)\1(?!`)")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_HEADING = re.compile(r" {0,3}#{1,6}(?:\s|\Z)|\s*(?:\*\*|__)[^*_]+(?:\*\*|__):?\s*\Z")
# Possessive, like the rest of it: a document may make a model write what takes for ever to refuse.
_TABLE_RULE = re.compile(r"\|?\s*+:?-{2,}+:?\s*+(?:\|\s*+:?+-*+:?+\s*+)*+|(?:[-*_]\s*+){3,}+")
_LIST_MARK = re.compile(r"\s*(?:(?:[-–*+•>]|\d{1,2}[.)])\s+)+")
# A question, or what introduces a list.
_NO_STATEMENT = ("?", "？", "؟", ":", "：")
_WRAPPING = "*_\"'”’»)）」 \t"
_MIN_TERMS = 2
# Sources that hold fewer of a sentence's terms do not support it; of the others the best are tried.
_MIN_SHARED = 0.25
_MAX_SOURCES = 3
_LANGUAGE_SAMPLE_LENGTH = 1_500
_LATIN_NAME = re.compile(r"[A-Za-z][\w&.-]*\w")


@dataclass(frozen=True, slots=True)
class _Statement:
    """A sentence of an answer: answer[start:end], the markers behind it included."""

    start: int
    end: int
    text: str  # with spaces for markers and code, without the list's mark


@dataclass(frozen=True, slots=True)
class _Writing:
    """The script of a text and, in Latin letters, its language."""

    script: str
    language: Language

    def differs(self, other: "_Writing") -> bool:
        """Say whether two texts are surely in different languages."""
        if "" in (self.script, other.script) or self.script != other.script:
            return "" not in (self.script, other.script)
        return (
            self.script == "LATIN"
            and self.language.name != other.language.name
            and (self.language.is_certain and other.language.is_certain)
        )


def find_unsupported(
    answer: str, sources: Sequence[SourceIndex], verified_at: Collection[int]
) -> list[tuple[int, int]]:
    """Return the spans of an answer's sentences without support, in order.

    Code points of the emitted answer, end exclusive, markers included. `verified_at` are the
    offsets of the markers whose citation is verified: their sentence is supported. Not judged:
    headings, code, introductions that end in a colon, questions, NOT_IN_DOCUMENTS, what says less
    than two words and no figure, and the frame of a table.
    """
    prose = _blank(answer)
    judge = _Judge(prose, sources)
    unsupported = []
    offsets = sorted(verified_at)
    for statement in _statements(answer, prose):
        if any(statement.start <= offset < statement.end for offset in offsets):
            continue
        if _is_judged(statement.text) and not judge.is_supported(statement.text):
            unsupported.append((statement.start, statement.end))
    return unsupported


class _Judge:
    """Compares statements of one answer with its sources."""

    def __init__(self, prose: str, sources: Sequence[SourceIndex]) -> None:
        self._prose = prose
        self._sources = sources
        self._writings: dict[int, _Writing] = {}

    def is_supported(self, text: str) -> bool:
        """Say whether a source supports a statement, or nothing tells whether it does."""
        claim = read(text)
        terms = claim.keys - STOP_WORDS
        shares = [
            (len(terms & source.all_keys), -place)
            for place, source in enumerate(self._sources)
            if _may_hold_figures(claim, source)
        ]
        for share, place in sorted(shares, reverse=True)[:_MAX_SOURCES]:
            if share < _MIN_SHARED * len(terms):
                break
            quote = find_quote(text, self._sources[-place])
            if quote is not None and quote.verified:
                return True
        foreign = [source for place, source in enumerate(self._sources) if self._is_foreign(place)]
        return bool(foreign) and _holds_figures_and_names(claim, foreign)

    def _is_foreign(self, place: int) -> bool:
        own = self._writing(-1, self._prose)
        return own.differs(self._writing(place, self._sources[place].text))

    def _writing(self, place: int, text: str) -> _Writing:
        if place not in self._writings:
            sample = text[:_LANGUAGE_SAMPLE_LENGTH]
            self._writings[place] = _Writing(_script(sample), detect_language(tokenize(sample)))
        return self._writings[place]


def _may_hold_figures(claim: Reading, source: SourceIndex) -> bool:
    """Say whether no figure is surely missing: what may be written otherwise counts as there."""
    return all(
        figure.key in source.all_keys
        or figure.scale is not None
        or not figure.key.isdecimal()
        or len(figure.key) <= 2
        for figure in claim.figures
    )


def _holds_figures_and_names(claim: Reading, sources: Sequence[SourceIndex]) -> bool:
    figures = [figure for figure in claim.figures if figure.kind != "word"]
    if figures:
        return any(not find_missing(claim, source.reading) for source in sources)
    names = _names(claim.text)
    return not names or any(name in source.text.casefold() for name in names for source in sources)


def _names(text: str) -> set[str]:
    """Return the words that stay the same in any language, folded: EBITDA, and Apple in Chinese."""
    is_latin = _script(text) == "LATIN"
    names = {match.group() for match in _LATIN_NAME.finditer(text)}
    return {name.casefold() for name in names if not is_latin or not name[1:].islower()}


def _script(text: str) -> str:
    """Return the script of most letters, as Unicode names it; "" for a text without letters."""
    counts: dict[str, int] = {}
    for char in text[::5] if len(text) > 200 else text:
        if char.isalpha():
            script = "LATIN" if char.isascii() else unicodedata.name(char, "").partition(" ")[0]
            counts[script] = counts.get(script, 0) + 1
    if not counts:
        return ""
    best = max(counts, key=lambda script: counts[script])
    return "CJK" if best in {"HIRAGANA", "KATAKANA"} else best


def _blank(answer: str) -> str:
    """Return an answer with spaces for all that is no prose. Offsets and line breaks stay."""
    lines = answer.split("\n")
    fence = ""
    for place, line in enumerate(lines):
        mark = _FENCE.match(line)
        if fence:
            if mark and mark[1].startswith(fence) and not line[mark.end() :].strip("`~ "):
                fence = ""
        elif mark and "`" not in line[mark.end() :]:
            fence = mark[1]
        elif _TABLE_RULE.fullmatch(line.strip()):
            if "|" in line and place:
                lines[place - 1] = " " * len(lines[place - 1])
        elif not _HEADING.match(line):
            lines[place] = _spaces(_CODE_SPAN, line)
            continue
        lines[place] = " " * len(line)
    return "\n".join(lines)


def _spaces(pattern: re.Pattern[str], text: str) -> str:
    return pattern.sub(lambda match: " " * len(match.group()), text)


def _statements(answer: str, prose: str) -> Iterator[_Statement]:
    """Yield the sentences of an answer, line by line: a model does not break lines in sentences."""
    begin = 0
    for line in prose.split("\n"):
        end = begin + len(line)
        plain = _spaces(_MARKER, line)
        mark = _LIST_MARK.match(line)
        indent = mark.end() if mark else 0
        body = plain[indent:]
        sentences = split_sentences(body) if body.strip() else []
        # Markers behind a sentence belong to it, and those at the line's beginning to its first.
        starts = [begin + indent + sentence.start for sentence in sentences[1:]]
        starts.insert(0, end - len(answer[begin + indent : end].lstrip()))
        for sentence, start, stop in zip(sentences, starts, [*starts[1:], end], strict=False):
            last = start + len(answer[start:stop].rstrip())
            yield _Statement(start, last, body[sentence.start : sentence.end])
        begin = end + 1


def _is_judged(text: str) -> bool:
    plain = " ".join(text.split()).strip(_WRAPPING)
    if plain.endswith(_NO_STATEMENT) or plain == NOT_IN_DOCUMENTS:
        return False
    claim = read(plain)
    if any(figure.kind != "word" for figure in claim.figures):
        return True
    return len(claim.keys - STOP_WORDS) >= _MIN_TERMS

"""The figures of a text, and whether two of them are one: $1.2 billion, 1,200 million, five."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal

from app.core.lexical import Term, term_keys

YEAR = re.compile(r"(?:19|20)\d\d")
_DIGITS = re.compile(r"\d+(?:[.,'’٫٬]\d+|[\u00a0\u202f\u2009]\d{3}(?!\d))*")
_TIME = re.compile(r"\d{1,2}(?:[:/]\d\d)+(?!\d)")
_AMBIGUOUS = re.compile(r"[0-9]{1,3}[.,][0-9]{3}")
# A measure, not an ordinal and not the M of "3M".
_UNIT = re.compile(r"\d[\d.,]*((?!(?:st|nd|rd|th|er|e)\b)[a-zµ]{1,3})")
_CURRENCY = frozenset("$€£¥₹")

# What a word behind a number makes of it: a power of ten, or a share of a hundred.
PERCENT = -2
_SCALE = re.compile(
    r"[ \u00a0\u202f-]{0,2}(?:"
    r"(?P<percent>%|％|٪|percent\b|per[ ]cent\b|prozent|pour[ ]cent\b|por[ ]ciento\b|процент)"
    r"|(?P<p12>trillion|billionen\b|трлн|триллион|兆)"
    r"|(?P<p9>billion|bn\b|b\b|mrd\b|milliard|mil[ ]mill|bilh|miliard|млрд|миллиард)"
    r"|(?P<p6>million|millon|milion|millón|milh|mn\b|mm?\b|mio\b|млн|миллион|百万)"
    r"|(?P<p3>thousand|k\b|tsd\b|tausend|mille\b|mil\b|тыс|千)"
    r"|(?P<p8>[亿億])|(?P<p4>[万萬]))",
    re.IGNORECASE,
)
_MONTHS = (
    r"(?:jan|feb|mar|mär|apr|may|mai|jun|jul|aug|sep|oct|okt|nov|dec|dez|fév|avr|aoû|déc|ene|abr|ago"
    r"|dic|янв|фев|мар|апр|мая|июн|июл|авг|сен|окт|ноя|дек)"
)
_DAY_BEFORE_YEAR = re.compile(rf",?[ ]|\.?[ ]{_MONTHS}\w*\.?,?[ ](?:de[ ])?", re.IGNORECASE)

_SCALE_WORDS = """million millions billion billions thousand percent million millionen milliarden
    millones milliards prozent миллион миллионов миллиард миллиардов млн млрд тыс 万元 亿元 千元"""
SCALE_KEYS = term_keys(_SCALE_WORDS)

_NUMBER_WORDS = {
    word: str(value)
    for value, words in enumerate(
        [
            "two zwei deux dos due два две",
            "three drei trois tres tre три",
            "four vier quatre cuatro quattro четыре",
            "five fünf cinq cinco cinque пять",
            "six sechs seis sei шесть",
            "seven sieben sept siete sette семь",
            "eight acht huit ocho otto восемь",
            "nine neun neuf nueve девять",
            "ten zehn dix diez dieci десять",
            "eleven elf onze once undici",
            "twelve zwölf douze doce dodici",
        ],
        start=2,
    )
    for word in term_keys(words)
}


@dataclass(frozen=True, slots=True)
class Figure:
    """A number at text[start:end], its scale word included.

    `scale` is a power of ten (6 for millions), -2 for percent, None where nothing says. The kind
    is "amount", "year", "day" (the 31 of "December 31, 2018") or "word" (two to twelve).
    """

    key: str
    start: int
    end: int
    kind: str
    scale: int | None = None
    digits: str = ""


def iter_figures(text: str, terms: Sequence[Term]) -> Iterator[Figure]:
    """Yield the figures among the terms of a text, in order; 10:30 and 5/12 as one each."""
    end = 0
    for index, term in enumerate(terms):
        if term.start < end:
            continue
        if term.is_number and (time := _TIME.match(text, term.start)):
            end = time.end()
            yield Figure(time.group(), term.start, end, "amount")
        elif term.is_number:
            following = terms[index + 1 : index + 3]
            yield _figure(text, term, following)
        elif term.key in _NUMBER_WORDS:
            scale, end = _scale(text, term.end)
            yield Figure(_NUMBER_WORDS[term.key], term.start, end, "word", scale)
        elif term.key[0].isdigit() and (unit := _UNIT.fullmatch(text, term.start, term.end)):
            yield Figure(term.key.removesuffix(unit[1]), term.start, term.end, "amount")


def _figure(text: str, term: Term, following: Sequence[Term]) -> Figure:
    digits = _DIGITS.match(text, term.start)
    end = digits.end() if digits else term.end
    scale, scale_end = _scale(text, end)
    if scale is not None:
        return Figure(
            term.key, term.start, scale_end, "amount", scale, digits=text[term.start : end]
        )
    if YEAR.fullmatch(text, term.start, end) and text[max(term.start - 1, 0)] not in _CURRENCY:
        return Figure(term.key, term.start, end, "year")
    is_day = len(term.key) <= 2 and any(
        YEAR.fullmatch(other.key) and _DAY_BEFORE_YEAR.fullmatch(text, end, other.start)
        for other in following
    )
    return Figure(term.key, term.start, end, "day" if is_day else "amount")


def _scale(text: str, position: int) -> tuple[int | None, int]:
    """Return the scale that a word at `position` gives, and where that word ends."""
    match = _SCALE.match(text, position)
    if match is None or match.lastgroup is None:
        return None, position
    return (PERCENT if match.lastgroup == "percent" else int(match.lastgroup[1:])), match.end()


def is_same(figure: Figure, other: Figure) -> bool:
    """Say whether two figures are one: a table's cell has no scale, and so fits any."""
    is_scaled = figure.scale is not None or other.scale is not None
    if is_scaled and figure.kind != other.kind and None in (figure.scale, other.scale):
        return False  # $18 million is not the 18th, and not eighteen
    if figure.key == other.key and (
        None in (figure.scale, other.scale) or figure.scale == other.scale
    ):
        return True
    return any(
        (value := _value(figure, decimal_mark)) is not None and value == _value(other, decimal_mark)
        for decimal_mark in ".,"
    )


def _value(figure: Figure, decimal_mark: str) -> Decimal | None:
    """Return what a figure with a scale word amounts to: "1.577 billion" by either convention."""
    if figure.scale is None or figure.scale == PERCENT or figure.key.count(".") > 1:
        return None
    number = figure.key
    if _AMBIGUOUS.fullmatch(figure.digits) and decimal_mark in figure.digits:
        number = figure.digits.replace(",", ".")
    return Decimal(number).scaleb(figure.scale)


def may_be_taken_for(figure: Figure, other: Figure) -> bool:
    """Say whether a claim that names the first may mean the second: no percentage for an amount."""
    if figure.kind != other.kind and "day" in (figure.kind, other.kind):
        return False
    if figure.kind != other.kind and "year" in (figure.kind, other.kind):
        return figure.kind != "year" and figure.scale is None
    return (figure.scale == PERCENT) == (other.scale == PERCENT) or None in (
        figure.scale,
        other.scale,
    )

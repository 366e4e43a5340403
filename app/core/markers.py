"""The forms in which models write markers `[n]`: [1, 2], [[1]], 【1】, [1-3], [^1], [Source 1]."""

import re

# What a marker may say before its number, in the languages that small models mix in.
_LABELS = (
    *("source", "sources", "src", "doc", "docs", "document", "documents", "quelle", "quellen"),
    *("fuente", "fuentes", "источник", "来源", "文档"),
)
# A wider range is an interval that the answer speaks of.
_MAX_RANGE = 8

_OPEN, _CLOSE = r"[\[【［]", r"[\]】］]"
_LABEL = rf"(?:\^|n[ ]?=[ ]?|(?i:{'|'.join(_LABELS)})[ ]?[:#]?[ ]?)"
_ITEM = rf"{_LABEL}?\d{{1,3}}(?:[ ]?[-–－][ ]?\d{{1,3}})?"
_SEPARATOR = r"[ ]?[,，;；、][ ]?"
# OpenAI's own models: 【1†L3-L5】.
_LINES = r"(?:†[\w:, -]{0,24})?"
_ITEMS = rf"{_ITEM}{_LINES}(?:{_SEPARATOR}{_ITEM}{_LINES}){{0,7}}"
_NUMBERS = re.compile(r"†[\w:, -]*?(?=[,，;；、\]】］]|\Z)|(\d{1,3})(?:[ ]?[-–－][ ]?(\d{1,3}))?")

_BEGUN_LABEL = "|".join(
    sorted({label[:end] for label in _LABELS for end in range(1, len(label) + 1)}, reverse=True)
)
_BEGUN_ITEM = (
    rf"(?:\^|n[ ]?=?[ ]?|(?i:{_BEGUN_LABEL})[ ]?[:#]?[ ]?)?"
    rf"(?:\d{{1,3}}(?:[ ]?[-–－]?[ ]?\d{{0,3}})?{_LINES})?"
)

MARKER = re.compile(rf"{_OPEN}{{2}}[ ]?{_ITEMS}[ ]?{_CLOSE}{{2}}|{_OPEN}[ ]?{_ITEMS}[ ]?{_CLOSE}")
# Whatever may still grow into a marker. Bounded, so that holding it back costs a constant.
UNFINISHED_MARKER = re.compile(
    rf"{_OPEN}{{1,2}}[ ]?(?:{_ITEM}{_LINES}{_SEPARATOR}){{0,7}}{_BEGUN_ITEM}"
    rf"[ ]?(?:[,，;；、][ ]?|{_CLOSE})?"
)


def marker_numbers(marker: str) -> list[int] | None:
    """Return the numbers of a text that MARKER matches, in order, ranges written out.

    None where it is no marker after all: a range that is too wide or runs backwards.
    """
    numbers: list[int] = []
    for match in _NUMBERS.finditer(marker):
        if match[1] is None:
            continue
        first, last = int(match[1]), int(match[2] or match[1])
        if match[2] and not 1 <= first <= last <= first + _MAX_RANGE:
            return None
        numbers.extend(range(first, last + 1))
    return numbers

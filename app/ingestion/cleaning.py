"""Turn what extractors give into text that can be stored, searched and quoted.

Deterministic: the same input always gives the same text, since quotes are offsets into it.
"""

import re
import unicodedata
from collections.abc import Iterable

# pdfium's two marks for "a hyphen stood here at the end of a line, and the line goes on".
_HYPHEN_MARKS = "\ufffe\x02"
# Here and below: where a pattern could start inside its own match, a look-behind and possessive
# quantifiers keep it linear on a text without spaces.
_BROKEN_WORD = re.compile(rf"(?<![\w\-])([\w\-]*+)[{_HYPHEN_MARKS}]([ \n]*+)(?=(\w*+))")
_BROKEN_HALVES = re.compile(rf"(?<![\w\-])[\w\-]*+(?:[{_HYPHEN_MARKS}][ \n]*+\w*+)++")
_WORD = re.compile(r"[^\W\d_]+")
_COMPOUND = re.compile(r"(?<![^\W\d_])[^\W\d_]++(?:-[^\W\d_]++)+")

_NEWLINES = re.compile(r"\r\n|[\r\v\f\x85\u2028\u2029]")
_SOFT_HYPHEN = re.compile(r"\u00ad[ ]*\n?")
_SPACES = re.compile(r"[ \t\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]+")
_LINE_EDGES = re.compile(r" *\n *")
_TRAILING_SPACES = re.compile(r"(?<![ \t])[ \t]++$", re.MULTILINE)
_BLANK_LINES = re.compile(r"\n{3,}")

# Removed: control characters, lone surrogates and non-characters (Postgres or JSON refuse them),
# and what no reader sees but a model reads: direction overrides, zero-width marks, tag characters.
_REMOVED = [
    *range(0x00, 0x09),
    *range(0x0B, 0x20),
    *range(0x7F, 0xA0),
    *range(0x202A, 0x202F),
    *range(0x2066, 0x206A),
    *range(0xD800, 0xE000),
    *range(0xFDD0, 0xFDF0),
    *range(0xE0000, 0xE0080),
    0x200B,
    0x2060,
    0xFEFF,
    0xFFFE,
    0xFFFF,
]
_LIGATURES = {0xFB00: "ff", 0xFB01: "fi", 0xFB02: "fl", 0xFB03: "ffi", 0xFB04: "ffl", 0xFB05: "st"}
_TABLE: dict[int, str | None] = {**dict.fromkeys(_REMOVED), **_LIGATURES, 0xFB06: "st"}


class Vocabulary:
    """The words of the pages seen so far: how a document itself writes a word."""

    def __init__(self) -> None:
        self._words: set[str] = set()
        self._compounds: set[str] = set()
        self._heads: set[str] = set()

    def add(self, texts: Iterable[str]) -> None:
        """Take in raw page texts; words that a line end broke in two don't count."""
        for raw in texts:
            text = _BROKEN_HALVES.sub(" ", raw).lower()
            self._words.update(_WORD.findall(text))
            compounds = _COMPOUND.findall(text)
            self._compounds.update(compounds)
            self._heads.update(compound.split("-", 1)[0] for compound in compounds)

    def joins(self, left: str, right: str) -> bool:
        """Say whether left and right are one word, not a compound with a hyphen of its own.

        The document's own spelling decides. Where it never wrote either form: two words that also
        stand alone make a compound (weighted-average), and so does a first part that begins other
        compounds (non-qualified); a part that is no word (perfor-mance) was cut by the line end.
        """
        first, second = left.lower(), right.lower()
        if f"{first}-{second}" in self._compounds:
            return False
        if first + second in self._words:
            return True
        is_compound = second in self._words and (first in self._words or first in self._heads)
        return not is_compound and right[0].islower()


def repair_hyphens(text: str, vocabulary: Vocabulary) -> str:
    """Replace pdfium's marks for hyphens at line ends: by nothing in a split word, else by `-`."""

    def repair(match: re.Match[str]) -> str:
        before, spaces, after = match.groups()
        left, right = _WORD.search(before[::-1]), _WORD.match(after)
        is_inside_word = left is not None and left.start() == 0 and right is not None
        if not is_inside_word or left is None or right is None:
            return before + "-" + spaces
        first = left.group()[::-1]
        # "held-for-sale": of a compound's later hyphens none is there for the line's sake.
        if len(first) < len(before) and before[-len(first) - 1] == "-":
            return before + "-"
        return before + ("" if vocabulary.joins(first, right.group()) else "-")

    return _BROKEN_WORD.sub(repair, text)


def has_hyphen_marks(text: str) -> bool:
    return any(mark in text for mark in _HYPHEN_MARKS)


def clean_extracted(text: str) -> str:
    """Clean what a PDF extractor gave: also runs of spaces and blank lines become one."""
    text = _SOFT_HYPHEN.sub("", _NEWLINES.sub("\n", text))
    text = _normalize(text)
    text = _LINE_EDGES.sub("\n", _SPACES.sub(" ", text))
    return _BLANK_LINES.sub("\n\n", text).strip()


def clean_plain(text: str) -> str:
    """Clean a text file: indentation and columns stay, trailing spaces and long gaps go."""
    text = clean_markup(text)
    return _BLANK_LINES.sub("\n\n", _TRAILING_SPACES.sub("", text)).strip("\n")


def clean_markup(text: str) -> str:
    """Remove only what can't be stored; every space keeps its place, for formats that read it."""
    return _normalize(_NEWLINES.sub("\n", text))


def clean_title(title: str | None) -> str | None:
    """Return a document's own title on one line, or None where it only looks like one.

    Programs put file names, accession numbers and "untitled" there.
    """
    text = " ".join(_normalize(title or "").split())
    text = re.sub(r"^Microsoft (Word|PowerPoint|Excel) - ", "", text)
    text = re.sub(r"\.(docx?|pptx?|xlsx?|pdf|indd|tex|dvi|rtf|txt)$", "", text, flags=re.IGNORECASE)
    has_words = re.search(r"[^\W\d_]{2}|[\u3040-\u9fff]", text) is not None
    if not has_words or re.fullmatch(r"untitled\W*\d*|document\W*\d*", text, flags=re.IGNORECASE):
        return None
    return text[:300].rstrip()


def _normalize(text: str) -> str:
    # Canonical composition: some producers store an accent apart from its letter.
    return unicodedata.normalize("NFC", text.translate(_TABLE))

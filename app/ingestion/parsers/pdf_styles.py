"""How the lines of a PDF's page are set: the size and the weight of their letters."""

import ctypes
import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import hypot

import pypdfium2 as pdfium
from pypdfium2 import raw as pdfium_c

_FONT_NAME_BYTES = 128
_ITALIC_FLAG = 0x40
_BOLD_NAME = re.compile(r"bold|black|heavy|demi|medi(?!um)|[a-z]bx[^a-z]", re.IGNORECASE)
_BOLD_WEIGHT = 600
# A longer line is no heading: of its letters only the size counts, for what the text is set in.
_LONGEST_HEADING = 120
# pdfium looks for a letter from the start of its list, which a hostile page can make slow.
_MAX_CHARACTERS = 200_000


@dataclass(frozen=True, slots=True)
class StyledLine:
    """A line as pdfium reads it, and how it is set: `size` in points, of its first letter.

    `is_bold` holds for its first and its last letter. It is False for lines too long for a heading.
    """

    text: str
    size: float
    is_bold: bool


def read_styles(text_page: pdfium.PdfTextPage, by_range: str) -> list[StyledLine]:
    """Return the lines of a page's text, which was read by range, without the empty ones.

    Asks pdfium for two letters of a line at most: a call for each letter would double the time
    that reading takes. Returns none for a page of more letters than people put on one.
    """
    lines: list[StyledLine] = []
    if len(by_range) > _MAX_CHARACTERS:
        return lines
    for start, line in _iter_lines(by_range):
        first = _find_character(text_page, start, line[0])
        if first is None:
            continue
        is_bold = (
            len(line) <= _LONGEST_HEADING
            and _is_bold(text_page, first)
            and _is_bold_at(text_page, start + len(line) - 1, line[-1])
        )
        lines.append(StyledLine(line, _read_size(text_page, first), is_bold))
    return lines


def _iter_lines(text: str) -> Iterator[tuple[int, str]]:
    offset = 0
    for line in text.split("\n"):
        stripped = line.strip()
        if stripped:
            yield offset + len(line) - len(line.lstrip()), stripped
        offset += len(line) + 1


def _find_character(text_page: pdfium.PdfTextPage, offset: int, character: str) -> int | None:
    """Return pdfium's index of the character at an offset of the text, None where they differ.

    Offsets shift behind characters outside the basic plane, for instance.
    """
    index: int = pdfium_c.FPDFText_GetCharIndexFromTextIndex(text_page, offset)
    if index < 0 or pdfium_c.FPDFText_GetUnicode(text_page, index) != ord(character):
        return None
    return index


def _read_size(text_page: pdfium.PdfTextPage, index: int) -> float:
    """Return the height of the font as it is shown, in points: some files scale a size of 1."""
    matrix = pdfium_c.FS_MATRIX()
    size: float = pdfium_c.FPDFText_GetFontSize(text_page, index)
    if pdfium_c.FPDFText_GetMatrix(text_page, index, matrix):
        size *= hypot(matrix.c, matrix.d)
    return round(size, 1)


def _is_bold_at(text_page: pdfium.PdfTextPage, offset: int, character: str) -> bool:
    index = _find_character(text_page, offset, character)
    return index is not None and _is_bold(text_page, index)


def _is_bold(text_page: pdfium.PdfTextPage, index: int) -> bool:
    """Say whether a letter is bold: by its font's name, or by a weight that is not for italics."""
    name = ctypes.create_string_buffer(_FONT_NAME_BYTES)
    flags = ctypes.c_int()
    pdfium_c.FPDFText_GetFontInfo(text_page, index, name, _FONT_NAME_BYTES, flags)
    if _BOLD_NAME.search(name.value.decode("latin-1")):
        return True
    # pdfium works it out from the thickness of stems, which is odd for italics.
    is_heavy: bool = pdfium_c.FPDFText_GetFontWeight(text_page, index) >= _BOLD_WEIGHT
    return is_heavy and not flags.value & _ITALIC_FLAG

"""Mend pages whose every letter pdfium puts on a line of its own.

Some producers set each letter as a separate text object; where it stands then tells its line.
"""

import pypdfium2 as pdfium
from pypdfium2 import raw as pdfium_c

_LEAST_LINES = 15
_SCATTERED_SHARE = 0.8
# In heights of a character: a gap this wide is a space, a step this far up or down a new line.
_SPACE_GAP = 0.2
_LINE_STEP = 0.5


def is_scattered(text: str) -> bool:
    """Say whether most lines of a page, read by range, hold only a letter or two."""
    lines = [line for line in text.splitlines() if line.strip()]
    short = sum(len(line.strip()) <= 2 for line in lines)
    return len(lines) >= _LEAST_LINES and short >= _SCATTERED_SHARE * len(lines)


def rebuild_lines(text_page: pdfium.PdfTextPage) -> str:
    """Return the page's characters in drawing order, with spaces and line ends by position.

    A column of letters stays one letter a line: only what stands side by side is joined.
    """
    parts: list[str] = []
    previous: tuple[float, float, float, float] | None = None
    for index in range(text_page.count_chars()):
        if pdfium_c.FPDFText_IsGenerated(text_page, index) == 1:
            continue
        box = text_page.get_charbox(index, loose=True)
        if previous is not None:
            parts.append(_gap(previous, box))
        parts.append(chr(pdfium_c.FPDFText_GetUnicode(text_page, index)))
        previous = box
    return "".join(parts)


def _gap(
    previous: tuple[float, float, float, float], box: tuple[float, float, float, float]
) -> str:
    """Return what stands between two characters; boxes are left, bottom, right, top in points."""
    height = max(previous[3] - previous[1], 1.0)
    is_below = abs(box[1] + box[3] - previous[1] - previous[3]) / 2 > _LINE_STEP * height
    if is_below or box[0] < previous[0] - _LINE_STEP * height:
        return "\n"
    return " " if box[0] - previous[2] > _SPACE_GAP * height else ""

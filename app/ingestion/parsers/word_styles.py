"""What the styles of a DOCX say of a paragraph: whether it is a heading, or the item of a list."""

import re
from dataclasses import dataclass
from typing import Any

W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"

# Built-in styles have English names in every language of Word.
_HEADING_NAME = re.compile(r"heading ([1-9])", re.IGNORECASE)
_TITLE_NAME = "title"
# The tenth outline level is body text.
_LEVELS = 9
_MAX_ANCESTORS = 20


@dataclass(frozen=True, slots=True)
class ParagraphStyle:
    """`level` is None for what is no heading."""

    level: int | None = None
    is_item: bool = False


class ParagraphStyles:
    """The styles of one document, by their ids."""

    def __init__(self, styles: Any) -> None:
        """Take the element `w:styles`."""
        self._elements = {style.get(f"{W}styleId"): style for style in styles.iter(f"{W}style")}
        self._found: dict[str | None, ParagraphStyle] = {}

    def find(self, paragraph: Any) -> ParagraphStyle:
        """Return what a paragraph is; what it says itself goes before its style."""
        properties = find_child(paragraph, "pPr")
        if properties is None:
            return ParagraphStyle()
        style = self._resolve(read_value(properties, "pStyle"))
        outline, is_item = _read_outline(properties), _read_item(properties)
        return ParagraphStyle(
            style.level if outline is None else _to_level(outline),
            style.is_item if is_item is None else is_item,
        )

    def _resolve(self, style_id: str | None) -> ParagraphStyle:
        if style_id not in self._found:
            self._found[style_id] = self._inherit(style_id)
        return self._found[style_id]

    def _inherit(self, style_id: str | None) -> ParagraphStyle:
        """Go from a style to those it is based on, until level and kind are known."""
        outline: int | None = None
        is_item: bool | None = None
        # A damaged file can base a style on itself.
        for _ in range(_MAX_ANCESTORS):
            element = self._elements.get(style_id)
            if element is None:
                break
            properties = find_child(element, "pPr")
            if outline is None:
                outline = _level_by_name(read_value(element, "name") or "")
            if properties is not None:
                outline = _read_outline(properties) if outline is None else outline
                is_item = _read_item(properties) if is_item is None else is_item
            style_id = read_value(element, "basedOn")
        return ParagraphStyle(None if outline is None else _to_level(outline), bool(is_item))


def find_child(element: Any, name: str) -> Any:
    return None if element is None else element.find(f"{W}{name}")


def read_value(element: Any, name: str) -> str | None:
    """Return the `w:val` of a child, or None without such a child or value."""
    found = find_child(element, name)
    value: str | None = None if found is None else found.get(f"{W}val")
    return value


def is_on(element: Any, name: str) -> bool:
    """Say whether a property is there, and not there in order to be off."""
    return find_child(element, name) is not None and read_value(element, name) not in {
        "0",
        "false",
        "off",
    }


def _level_by_name(name: str) -> int | None:
    """Return the outline level (0 is the highest) of a built-in style."""
    if name.lower() == _TITLE_NAME:
        return 0
    match = _HEADING_NAME.fullmatch(name)
    return int(match.group(1)) - 1 if match else None


def _read_outline(properties: Any) -> int | None:
    text = read_value(properties, "outlineLvl")
    return int(text) if text is not None and text.isdecimal() else None


def _read_item(properties: Any) -> bool | None:
    numbering = find_child(properties, "numPr")
    # Number 0 takes a paragraph out of the list that its style puts it in.
    return None if numbering is None else read_value(numbering, "numId") != "0"


def _to_level(outline: int) -> int | None:
    return outline + 1 if outline < _LEVELS else None

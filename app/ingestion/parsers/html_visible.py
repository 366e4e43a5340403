"""What of a web page its reader sees, told by its elements alone: style sheets are not read."""

import re

from lxml import etree

from app.ingestion.parsers.markup import Element, local_name
from app.ingestion.parsers.tables import to_cell

_BLOCK = re.compile(
    "address|article|aside|blockquote|body|caption|center|dd|details|dialog|div|dl|dt|fieldset|"
    "figcaption|figure|footer|form|h[1-6]|header|hgroup|hr|html|legend|li|main|menu|ol|option|p|"
    "pre|section|summary|table|tbody|td|tfoot|th|thead|tr|ul"
)
# Not text, or not for readers; and navigation, which is the same on every page of a site.
_LEFT_OUT = re.compile(
    "audio|canvas|datalist|head|iframe|nav|noscript|object|rp|script|style|svg|template|video"
)
_INVISIBLE = re.compile(
    r"(?:^|[;\s])(?:display\s*:\s*none|visibility\s*:\s*hidden)\b", re.IGNORECASE
)
_SPACES = re.compile(r"[ \t\n\r\f]+")


def is_block(name: str) -> bool:
    """Say whether an element of this name begins and ends a line."""
    return _BLOCK.fullmatch(name) is not None


def is_left_out(node: Element) -> bool:
    """Say whether a node, with all in it, is no text of the page."""
    name = local_name(node)
    if not name or _LEFT_OUT.fullmatch(name) or node.get("hidden") is not None:
        return True
    style = node.get("style")
    return style is not None and _INVISIBLE.search(style) is not None


def read_alt(node: Element) -> str:
    """Return the text that stands for a picture."""
    return f" {node.get('alt') or ''} "


def collapse(text: str) -> str:
    """Make one space of each run of white space, as browsers do."""
    return _SPACES.sub(" ", text)


def read_inline(root: Element) -> str:
    """Return all that is visible inside an element as one text without lines."""
    parts: list[str] = []
    walker = etree.iterwalk(root, events=("start", "end"))
    for event, node in walker:
        name = local_name(node)
        if event == "start":
            if is_left_out(node):
                walker.skip_subtree()
                continue
            parts.append(read_alt(node) if name == "img" else node.text or "")
        elif node is not root:
            parts.append(node.tail or "")
        if is_block(name) or name == "br":
            parts.append(" ")
    return to_cell("".join(parts))

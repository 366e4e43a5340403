"""HTML and XHTML to trees: nothing is fetched, no entity of the document's own is resolved."""

import re
from html.entities import html5
from typing import Any

from lxml import etree

from app.ingestion.encodings import decode_text
from app.ingestion.outcomes import IngestErrorCode
from app.ingestion.parsers.base import DocumentUnreadable

# What libxml2 allows at most. It silently drops all that follows.
MAX_DEPTH = 2048

_DECLARED = re.compile(
    rb"<\?xml[^>]{0,100}?\bencoding\s*=\s*[\"']?([\w.:-]{1,40})"
    rb"|<meta\b[^>]{0,200}?\bcharset\s*=\s*[\"']?\s*([\w.:-]{1,40})",
    re.IGNORECASE,
)
# Browsers look for it in the first kilobyte; some generators put styles before it.
_DECLARED_WITHIN_BYTES = 4096
_XHTML_START = re.compile(r"\s*<\?xml\b|[^>]{0,300}XHTML|\s*<html\b[^>]{0,1000}\bxmlns\b")
# XML knows five names of characters; XHTML uses those of HTML, which a file outside defines.
_NAMED_CHARACTER = re.compile(r"&(?!(?:amp|lt|gt|quot|apos);)(\w{2,31};)")

Element = Any  # lxml carries no types


def parse_markup(data: bytes, *, declared: str | None = None) -> Element | None:
    """Return the root of a web page, whatever its faults, or None if there is nothing in it.

    `declared` is its encoding if something outside says so. XHTML is read as XML if it is that: as
    HTML its empty elements would swallow what follows. Raises DocumentUnreadable (corrupt) for
    bytes that are no text.
    """
    text = decode_text(data, declared=declared or _find_declared(data))
    if text is None:
        raise DocumentUnreadable(IngestErrorCode.CORRUPT, detail="The file is not text.")
    if _XHTML_START.match(text):
        try:
            return _parse_xml(text)
        except etree.XMLSyntaxError:
            pass
    return _parse_html(text)


def parse_xml(data: bytes) -> Element:
    """Return the root of an XML file from inside a package. Raises lxml's XMLSyntaxError."""
    return etree.fromstring(data, etree.XMLParser(**_xml_options()))


def local_name(element: Element) -> str:
    """Return an element's name in lower case without a namespace; "" for comments and the like."""
    tag = element.tag
    return tag.rpartition("}")[2].lower() if isinstance(tag, str) else ""


def _find_declared(data: bytes) -> str | None:
    match = _DECLARED.search(data[:_DECLARED_WITHIN_BYTES])
    name = (match.group(1) or match.group(2)).decode("ascii", "replace") if match else None
    # Whoever could read the declaration does not read UTF-16.
    return None if name is None or name.lower().startswith("utf-16") else name


def _parse_xml(text: str) -> Element:
    named = _NAMED_CHARACTER.sub(lambda match: html5.get(match[1], match[0]), text)
    data = named.encode("utf-8", "replace")
    return etree.fromstring(data, etree.XMLParser(encoding="utf-8", **_xml_options()))


def _xml_options() -> dict[str, bool]:
    return {
        "resolve_entities": False,
        "load_dtd": False,
        "no_network": True,
        "huge_tree": False,
        "remove_comments": True,
        "remove_pis": True,
    }


def _parse_html(text: str) -> Element | None:
    parser = etree.HTMLParser(
        encoding="utf-8",
        no_network=True,
        remove_comments=True,
        remove_pis=True,
        # Without it all behind the 256th level is lost, and old pages nest their tables as deep.
        huge_tree=True,
    )
    return etree.fromstring(text.encode("utf-8", "replace"), parser)

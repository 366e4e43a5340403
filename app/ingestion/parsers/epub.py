"""EPUB: each item of the spine (mostly a chapter) is a page, in the order of reading."""

import posixpath
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

from lxml import etree

from app.ingestion.base import Page
from app.ingestion.cleaning import clean_title
from app.ingestion.outcomes import IngestErrorCode
from app.ingestion.parsers.archives import open_archive, read_entry
from app.ingestion.parsers.base import (
    MAX_CHARACTERS,
    DocumentUnreadable,
    ParsedDocument,
    check_page_count,
    limit_text,
)
from app.ingestion.parsers.damage import damage_means_corrupt
from app.ingestion.parsers.html_page import add_markup
from app.ingestion.parsers.markup import Element, local_name, parse_markup, parse_xml
from app.ingestion.parsers.text_builder import TextBuilder

_CONTAINER = "META-INF/container.xml"
_ENCRYPTION = "META-INF/encryption.xml"
_MAX_CHAPTER_BYTES = 2 * MAX_CHARACTERS
_UNREADABLE = "This part of the book is missing or damaged."


@contextmanager
def open_epub(path: Path, password: str | None = None) -> Iterator[ParsedDocument]:
    with open_archive(path) as archive:
        with damage_means_corrupt(etree.LxmlError):
            package_name = _find_package(archive)
            package = parse_xml(read_entry(archive, package_name))
            chapters = _list_chapters(package, folder=posixpath.dirname(package_name))
            _refuse_encrypted(archive, chapters)
            title = _find_title(package)
        check_page_count(len(chapters))
        yield ParsedDocument(
            title=clean_title(title),
            page_count=len(chapters),
            pages=lambda: limit_text(_read_pages(archive, chapters)),
        )


def _find_package(archive: zipfile.ZipFile) -> str:
    container = parse_xml(read_entry(archive, _CONTAINER))
    names = [node.get("full-path") for node in _named(container, "rootfile")]
    return str(names[0])


def _list_chapters(package: Element, *, folder: str) -> list[str]:
    """Return the names of the entries of the spine, in order."""
    hrefs = {node.get("id"): node.get("href") for node in _named(package, "item")}
    found = (hrefs.get(node.get("idref")) for node in _named(package, "itemref"))
    return [_resolve(folder, href) for href in found if href]


def _resolve(folder: str, href: str) -> str:
    return posixpath.normpath(posixpath.join(folder, unquote(href.partition("#")[0])))


def _refuse_encrypted(archive: zipfile.ZipFile, chapters: list[str]) -> None:
    """Raise DocumentUnreadable (encrypted) for a book whose text is; fonts often are."""
    if _ENCRYPTION not in archive.namelist():
        return
    encryption = parse_xml(read_entry(archive, _ENCRYPTION))
    names = {_resolve("", node.get("URI") or "") for node in _named(encryption, "cipherreference")}
    if not names.isdisjoint(chapters):
        detail = "Books under copy protection can't be read: get a copy without it."
        raise DocumentUnreadable(IngestErrorCode.ENCRYPTED, detail=detail)


def _find_title(package: Element) -> str | None:
    title = next(_named(package, "title"), None)
    return None if title is None else "".join(title.itertext())


def _named(root: Element, name: str) -> Iterator[Element]:
    return (node for node in root.iter() if local_name(node) == name)


def _read_pages(archive: zipfile.ZipFile, chapters: list[str]) -> Iterator[Page]:
    failures = 0
    for number, name in enumerate(chapters, 1):
        builder = TextBuilder()
        try:
            with damage_means_corrupt(etree.LxmlError):
                root = parse_markup(read_entry(archive, name, max_bytes=_MAX_CHAPTER_BYTES))
                warnings = add_markup(builder, root)
        except DocumentUnreadable as error:
            failures += 1
            if error.error_code is not IngestErrorCode.CORRUPT or failures == len(chapters):
                raise
            builder, warnings = TextBuilder(), (_UNREADABLE,)
        yield builder.build(number, warnings=warnings)

"""Zip files and Office packages: refuse bombs before any library opens them.

What an archive declares of its sizes is checked, and what really comes out is counted.
"""

import io
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.ingestion.outcomes import IngestErrorCode
from app.ingestion.parsers.base import DocumentUnreadable
from app.ingestion.parsers.damage import damage_means_corrupt
from app.ingestion.zip_directory import MAX_DIRECTORY_BYTES, find_directory

MAX_ENTRIES = 10_000
MAX_TOTAL_BYTES = 500_000_000
# Text compresses to a tenth; small entries of one repeated byte do no harm.
MAX_RATIO = 200
_RATIO_COUNTS_FROM_BYTES = 1_000_000
# Trees of XML take several times as much memory as its text.
MAX_XML_BYTES = 200_000_000

_COPY_BYTES = 1 << 20
_OLE_MARK = b"\xd0\xcf\x11\xe0"
_XML_SUFFIXES = (".xml", ".rels")
_CONTENT_TYPES_NAME = "[Content_Types].xml"
# Templates, slide shows and files with macros hold the same text in the same parts, but libraries
# refuse them by the kinds that they declare. Macros themselves are not copied.
_WORD_KIND = b"openxmlformats-officedocument.wordprocessingml.document.main"
_SLIDES_KIND = b"openxmlformats-officedocument.presentationml.presentation.main"
_SAME_KINDS = (
    (re.compile(rb"ms-word\.\w+\.macroEnabled\w*\.main"), _WORD_KIND),
    (re.compile(rb"openxmlformats-officedocument\.wordprocessingml\.template\.main"), _WORD_KIND),
    (re.compile(rb"ms-powerpoint\.\w+\.macroEnabled\.main"), _SLIDES_KIND),
    (
        re.compile(rb"openxmlformats-officedocument\.presentationml\.\w+\.main"),
        _SLIDES_KIND,
    ),
)
# What Office calls Strict Open XML has the same names in other namespaces.
_STRICT = re.compile(rb"http://purl\.oclc\.org/ooxml/(\w+)/")
_TRANSITIONAL = rb"http://schemas.openxmlformats.org/\1/2006/"


@contextmanager
def open_archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a zip file that is no bomb by what it declares. Raises DocumentUnreadable: corrupt,
    too_large."""
    with path.open("rb") as file:
        with damage_means_corrupt():
            directory = find_directory(file)
            if directory is None:
                raise DocumentUnreadable(IngestErrorCode.CORRUPT)
            if directory.size_bytes > MAX_DIRECTORY_BYTES:
                raise _bomb("too many files")
            archive = zipfile.ZipFile(file)
        with archive:
            _check_sizes(archive.infolist())
            yield archive


def read_entry(archive: zipfile.ZipFile, name: str, *, max_bytes: int = MAX_XML_BYTES) -> bytes:
    """Return an entry's bytes. Raises DocumentUnreadable (too_large), and whatever zipfile raises
    on damage or a missing name."""
    with archive.open(name) as entry:
        # In steps, because one read of all of it may unpack far more than is declared.
        data = bytearray()
        while part := entry.read(_COPY_BYTES):
            data += part
            if len(data) > max_bytes:
                raise _bomb("too much text")
    return bytes(data)


def copy_package(path: Path) -> io.BytesIO:
    """Return a copy of an Office package that holds its XML alone, each other part being empty.

    So the libraries that read it, which load every part, need no memory for pictures and films, and
    can't be given a part that unpacks to more than it declares. Raises DocumentUnreadable:
    encrypted, corrupt, too_large.
    """
    _refuse_encrypted(path)
    copy = io.BytesIO()
    left = MAX_XML_BYTES
    with (
        open_archive(path) as archive,
        damage_means_corrupt(),
        zipfile.ZipFile(copy, "w") as package,
    ):
        for name in dict.fromkeys(archive.namelist()):
            data = b""
            if name.lower().endswith(_XML_SUFFIXES):
                data = read_entry(archive, name, max_bytes=left)
                left -= len(data)
                data = _STRICT.sub(_TRANSITIONAL, data)
            if name == _CONTENT_TYPES_NAME:
                data = _rename_kinds(data)
            package.writestr(zipfile.ZipInfo(name), data)
    copy.seek(0)
    return copy


def _check_sizes(entries: list[zipfile.ZipInfo]) -> None:
    if len(entries) > MAX_ENTRIES:
        raise _bomb("too many files")
    if sum(entry.file_size for entry in entries) > MAX_TOTAL_BYTES:
        raise _bomb("too much data")
    for entry in entries:
        is_large = entry.file_size > _RATIO_COUNTS_FROM_BYTES
        if is_large and entry.file_size > MAX_RATIO * max(entry.compress_size, 1):
            raise _bomb("data that is packed too tightly")


def _refuse_encrypted(path: Path) -> None:
    with path.open("rb") as file:
        if file.read(len(_OLE_MARK)) == _OLE_MARK:
            detail = "Passwords of Office files are not supported: save a copy without a password."
            raise DocumentUnreadable(IngestErrorCode.ENCRYPTED, detail=detail)


def _rename_kinds(content_types: bytes) -> bytes:
    for kind, plain in _SAME_KINDS:
        content_types = kind.sub(plain, content_types)
    return content_types


def _bomb(what: str) -> DocumentUnreadable:
    detail = f"The file unpacks to {what}."
    return DocumentUnreadable(IngestErrorCode.TOO_LARGE, detail=detail)

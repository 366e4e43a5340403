"""What kind of file an upload is, by its content; what the client claims is not asked."""

import re
from pathlib import Path, PurePath
from typing import BinaryIO, Final

from app.ingestion.encodings import find_certain_encoding
from app.ingestion.zip_directory import find_directory, iter_names

PDF: Final = "application/pdf"
DOCX: Final = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
PPTX: Final = "application/vnd.openxmlformats-officedocument.presentationml.presentation"
XLSX: Final = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
EPUB: Final = "application/epub+zip"
EMAIL: Final = "message/rfc822"
HTML: Final = "text/html"
MARKDOWN: Final = "text/markdown"
PLAIN_TEXT: Final = "text/plain"
CSV: Final = "text/csv"
TSV: Final = "text/tab-separated-values"
JSON: Final = "application/json"
JSON_LINES: Final = "application/x-ndjson"
PNG: Final = "image/png"
JPEG: Final = "image/jpeg"
TIFF: Final = "image/tiff"
WEBP: Final = "image/webp"
BMP: Final = "image/bmp"
GIF: Final = "image/gif"

IMAGES: Final = frozenset({PNG, JPEG, TIFF, WEBP, BMP, GIF})
SUPPORTED_NAMES: Final = (
    "PDF, Word (.docx), PowerPoint (.pptx), Excel (.xlsx), HTML, EPUB, Markdown, plain text, "
    "source code, CSV, TSV, JSON, JSON lines, e-mail (.eml), PNG, JPEG, TIFF, WebP, BMP, GIF"
)

_AS_TEXT = "text/plain; charset=utf-8"
_AS_BYTES = "application/octet-stream"
# What a browser is told on downloading one. Nothing that it would run: a web page is plain text.
CONTENT_TYPES: dict[str, str] = {
    PDF: PDF,
    **{image: image for image in sorted(IMAGES)},
    **dict.fromkeys((HTML, MARKDOWN, PLAIN_TEXT, CSV, TSV, JSON, JSON_LINES), _AS_TEXT),
    **dict.fromkeys((DOCX, PPTX, XLSX, EPUB, EMAIL), _AS_BYTES),
}

# As much of a file's beginning as is looked at.
HEAD_BYTES = 8192
_PDF_MARK = b"%PDF-"
# Viewers accept the mark anywhere in this many bytes: mail gateways and scanners put headers there.
_PDF_MARK_WITHIN_BYTES = 1024
_IMAGE_MARKS = (
    (PNG, re.compile(rb"\x89PNG\r\n\x1a\n")),
    (JPEG, re.compile(rb"\xff\xd8\xff")),
    (TIFF, re.compile(rb"II[*+]\0|MM\0[*+]")),
    (WEBP, re.compile(rb"RIFF.{4}WEBP", re.DOTALL)),
    (GIF, re.compile(rb"GIF8[79]a")),
    # Two letters alone could begin a text: the size of the second header says more.
    (BMP, re.compile(rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", re.DOTALL)),
)
_ZIP_MARK = b"PK\x03\x04"
_OLE_MARK = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"

# What OpenAI's file search takes besides, and what goes with it.
_CODE_SUFFIXES = (
    *(".c", ".cpp", ".cs", ".css", ".go", ".h", ".java", ".js", ".php", ".py", ".rb", ".rs"),
    *(".sh", ".sql", ".tex", ".toml", ".ts", ".tsx", ".yaml", ".yml"),
)
# Only between kinds of text does the name decide: the same bytes can be any of them.
_TEXT_SUFFIXES: dict[str, str] = {
    **dict.fromkeys((".md", ".markdown", ".mdown", ".mkd"), MARKDOWN),
    **dict.fromkeys(("", ".txt", ".text", ".log", ".rst", *_CODE_SUFFIXES), PLAIN_TEXT),
    **dict.fromkeys((".html", ".htm", ".xhtml"), HTML),
    **dict.fromkeys((".jsonl", ".ndjson"), JSON_LINES),
    ".csv": CSV,
    ".tsv": TSV,
    ".json": JSON,
    ".eml": EMAIL,
}
_OFFICE_SUFFIXES: dict[str, str] = {
    **dict.fromkeys((".docx", ".docm", ".dotx", ".dotm"), DOCX),
    **dict.fromkeys((".pptx", ".pptm", ".ppsx", ".ppsm", ".potx", ".potm"), PPTX),
    **dict.fromkeys((".xlsx", ".xlsm", ".xltx", ".xltm"), XLSX),
}
_TEXT_CONTROLS = frozenset("\t\n\v\f\r\x1a\x1b")
_HTML_START = re.compile(
    r"\ufeff?(?:\s++|<\?xml[^>]{0,200}\?>|<!--.{0,4000}?-->){0,20}+<(?:!doctype\s+html|html)\b",
    re.IGNORECASE | re.DOTALL,
)
# mbox files and some exports put a line of their own before the headers.
_EMAIL_START = re.compile(r"\ufeff?\s{0,20}(?:>?From [^\n]{0,1000}\n)?[!-9;-~]{1,100}:")


def find_media_type(path: Path, *, filename: str) -> str | None:
    """Return the media type of a finished file, or None if it can't be read.

    It reads a few kilobytes, and the directory of a zip file. Raises OSError if it can't be opened,
    and nothing for whatever it holds.

    Zip containers, images, PDFs and whole web pages are known by their content, whatever their
    name. Other text must have a name that says text, source code or nothing, must decode and hold
    no control characters: RTF would decode too, but it is not what people read. A name that says
    plain text also makes a web page or JSON plain text: someone kept its source.
    """
    suffix = PurePath(filename).suffix.lower()
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
        if head.startswith(_ZIP_MARK):
            return _find_zip_type(file, suffix)
        if head.startswith(_OLE_MARK):
            return _find_encrypted_type(file, head, suffix)
    for media_type, mark in _IMAGE_MARKS:
        if mark.match(head):
            return media_type
    if _is_pdf(head, suffix):
        return PDF
    return _find_text_type(head, suffix)


def _find_zip_type(file: BinaryIO, suffix: str) -> str | None:
    """Tell by the names of the main parts, which those who write these files hardly ever vary."""
    directory = find_directory(file)
    if directory is None:
        return None
    names = {name.lstrip("/") for name in iter_names(file, directory)}
    if "[Content_Types].xml" in names:
        for start, media_type in (
            ("word/document", DOCX),
            ("ppt/presentation", PPTX),
            ("xl/workbook", XLSX),
        ):
            if any(name.startswith(start) and name.endswith(".xml") for name in names):
                return media_type
    is_book = "mimetype" in names or suffix == ".epub"
    return EPUB if is_book and "META-INF/container.xml" in names else None


def _find_encrypted_type(file: BinaryIO, head: bytes, suffix: str) -> str | None:
    """Return what an OLE container holds, if that is an Office file behind a password.

    Office formats of before 2007 are such containers too, and can't be read.
    """
    sector_bytes = 1 << min(int.from_bytes(head[30:32], "little"), 12)
    first_sector = int.from_bytes(head[48:52], "little")
    file.seek((first_sector + 1) * sector_bytes)
    is_encrypted = "EncryptedPackage".encode("utf-16-le") in file.read(HEAD_BYTES)
    return _OFFICE_SUFFIXES.get(suffix) if is_encrypted else None


def _is_pdf(head: bytes, suffix: str) -> bool:
    if suffix and suffix in _TEXT_SUFFIXES:
        # A text may speak of the mark.
        return head.startswith(_PDF_MARK)
    return _PDF_MARK in head[:_PDF_MARK_WITHIN_BYTES]


def _find_text_type(head: bytes, suffix: str) -> str | None:
    text = _decode_head(head)
    if text is None:
        return None
    is_page = _HTML_START.match(text) is not None
    media_type = _TEXT_SUFFIXES.get(suffix)
    if media_type is None or suffix == "":
        return HTML if is_page else media_type
    if media_type == EMAIL and not _EMAIL_START.match(text):
        return None
    return media_type


def _decode_head(head: bytes) -> str | None:
    encoding = find_certain_encoding(head, is_whole=len(head) < HEAD_BYTES)
    # In a text of any other encoding the bytes below 32 are the same control characters.
    text = head.decode(encoding or "latin-1", errors="replace")
    if encoding is None and b"\0" in head:
        return None
    is_text = not any(character < " " and character not in _TEXT_CONTROLS for character in text)
    return text if is_text else None

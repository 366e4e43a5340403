"""The kind of a file by its content, and the encoding of a text."""

import codecs

import pytest

from app.ingestion.encodings import decode_text, find_encoding
from app.ingestion.media_types import HEAD_BYTES, MARKDOWN, PDF, PLAIN_TEXT, find_media_type


@pytest.mark.parametrize(
    ("head", "filename", "media_type"),
    [
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3", "a.pdf", PDF),
        (b"%PDF-1.4", "claims-to-be.txt", PDF),
        (b"\r\n" * 500 + b"%PDF-1.4", "late-mark.pdf", PDF),
        (b"\r\n" * 512 + b"%PDF-1.4", "too-late.pdf", None),
        (b"no mark", "fake.pdf", None),
        (b"# Title\n", "README.md", MARKDOWN),
        (b"# Title\n", "README.MARKDOWN", MARKDOWN),
        (b"hello", "notes.txt", PLAIN_TEXT),
        (b"hello", "LICENSE", PLAIN_TEXT),
        ("naïve".encode("utf-16"), "notes.txt", PLAIN_TEXT),
        ("naïve".encode("cp1252"), "notes.txt", PLAIN_TEXT),
        (b"", "empty.txt", PLAIN_TEXT),
        (b"<html></html>", "page.html", None),
        (b"PK\x03\x04\x14\x00\x06\x00", "report.docx", None),
        (b"PK\x03\x04\x14\x00\x06\x00", "renamed.txt", None),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "image.md", None),
    ],
)
def test_media_type_follows_content(head: bytes, filename: str, media_type: str | None) -> None:
    assert find_media_type(head, filename=filename) == media_type


def test_a_character_cut_off_at_the_end_of_the_head_does_not_matter() -> None:
    text = ("x" + "é" * HEAD_BYTES).encode()
    assert find_media_type(text[:HEAD_BYTES], filename="a.txt") == PLAIN_TEXT
    assert find_encoding(text[:HEAD_BYTES], is_whole=False) == "utf-8"


@pytest.mark.parametrize(
    "encoding",
    ["utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-le", "utf-16-be", "cp1252"],
)
def test_text_is_decoded_in_every_supported_encoding(encoding: str) -> None:
    text = "Größe: 5 € – “naïve” café"
    assert decode_text(text.encode(encoding)) == text


def test_russian_utf16_without_a_mark_is_known_by_its_spaces() -> None:
    text = "Это обычный текст на русском языке, и в нём есть пробелы."
    assert decode_text(text.encode("utf-16-le")) == text


def test_one_damaged_byte_does_not_turn_utf8_into_another_encoding() -> None:
    data = ("Größe und Länge. " * 20).encode() + b"\xff" + b" Ende"
    text = decode_text(data)
    assert text is not None
    assert text.count("Größe") == 20
    assert text.count("\ufffd") == 1


def test_bytes_that_windows_1252_leaves_undefined_are_latin1() -> None:
    assert find_encoding(b"caf\xe9 \x81") == "latin-1"


def test_binary_is_no_text() -> None:
    assert decode_text(bytes(range(256)) * 4) is None
    assert decode_text(codecs.BOM_UTF8 + b"hello") == "hello"

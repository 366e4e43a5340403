"""The kind of a file by its content."""

import io
import struct
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.ingestion.media_types import (
    BMP,
    CONTENT_TYPES,
    CSV,
    DOCX,
    EMAIL,
    EPUB,
    HEAD_BYTES,
    HTML,
    IMAGES,
    JSON,
    JSON_LINES,
    MARKDOWN,
    PDF,
    PLAIN_TEXT,
    PPTX,
    SUPPORTED_NAMES,
    TSV,
    XLSX,
    find_media_type,
)
from app.ingestion.parsers import PARSERS
from tests.unit.ingestion.samples import SAMPLES, write_docx, write_epub, write_image, write_zip


def find(folder: Path, data: bytes, filename: str) -> str | None:
    path = folder / "upload"
    path.write_bytes(data)
    return find_media_type(path, filename=filename)


@pytest.mark.parametrize("media_type", SAMPLES)
def test_each_format_is_known_by_a_real_file(tmp_path: Path, media_type: str) -> None:
    name, data = SAMPLES[media_type]
    assert find(tmp_path, data, name) == media_type


@pytest.mark.parametrize("media_type", [DOCX, PPTX, XLSX, EPUB, *sorted(IMAGES)])
@pytest.mark.parametrize("name", ["a.pdf", "a.txt", "a.exe", "a"])
def test_what_is_certain_does_not_need_its_name(tmp_path: Path, media_type: str, name: str) -> None:
    assert find(tmp_path, SAMPLES[media_type][1], name) == media_type


@pytest.mark.parametrize(
    ("head", "filename", "media_type"),
    [
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3", "a.pdf", PDF),
        (b"%PDF-1.4", "claims-to-be.txt", PDF),
        (b"\r\n" * 500 + b"%PDF-1.4", "late-mark.pdf", PDF),
        (b"\r\n" * 500 + b"%PDF-1.4", "late-mark", PDF),
        (b"\r\n" * 512 + b"%PDF-1.4", "too-late.pdf", None),
        (b"A PDF begins with %PDF-1.7.", "about.md", MARKDOWN),
        (b"no mark", "fake.pdf", None),
        (b"# Title\n", "README.md", MARKDOWN),
        (b"# Title\n", "README.MARKDOWN", MARKDOWN),
        (b"hello", "notes.txt", PLAIN_TEXT),
        (b"hello", "LICENSE", PLAIN_TEXT),
        ("naïve".encode("utf-16"), "notes.txt", PLAIN_TEXT),
        ("naïve".encode("cp1252"), "notes.txt", PLAIN_TEXT),
        ("日本語".encode("cp932"), "notes.txt", PLAIN_TEXT),
        (b"", "empty.txt", PLAIN_TEXT),
        (b"BMW is a car", "cars.txt", PLAIN_TEXT),
        (b"a,b\n1,2\n", "table.csv", CSV),
        (b"a\tb\n1\t2\n", "table.tsv", TSV),
        (b'{"a": 1}', "data.json", JSON),
        (b'{"a": 1}', "data.ndjson", JSON_LINES),
        (b'{"a": 1}', "data.txt", PLAIN_TEXT),
        (b"<p>fragment", "page.HTM", HTML),
        (b"<!DOCTYPE html><p>x", "page.pdf", HTML),
        (b"\xef\xbb\xbf <!-- x -->\n<html lang=en>", "page.doc", HTML),
        (b'<?xml version="1.0"?><!DOCTYPE html PUBLIC "x">', "page", HTML),
        ("<html>".encode("utf-16"), "page.aspx", HTML),
        (b"<!doctype html>", "source.txt", PLAIN_TEXT),
        (b"\n" * 500 + b"<html>", "a.xyz", HTML),
        (b"<htmlish>", "a.xyz", None),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "a.svg", None),
        (b"<?xml version='1.0'?><svg/>", "a.xml", None),
        (b"Received: from x\nSubject: y\n\nz", "a.eml", EMAIL),
        (b"From ann@example.org Mon Jan 1\nSubject: y\n\nz", "a.eml", EMAIL),
        (b"just words, no header", "a.eml", None),
        (b"Subject: y\n\nz", "a.txt", PLAIN_TEXT),
        (b"{\\rtf1\\ansi text}", "a.rtf", None),
        (b"import os\n", "a.py", PLAIN_TEXT),
        (b"<!doctype html><?php", "a.PHP", PLAIN_TEXT),
        (b"\x7fELF\x02\x01\x01\x00", "a.c", None),
        (b"PK\x03\x04\x14\x00\x06\x00", "report.docx", None),
        (b"PK\x03\x04\x14\x00\x06\x00", "renamed.txt", None),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(1000), "old.doc", None),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(1000), "old.docx", None),
        (b"\x7fELF\x02\x01\x01\x00", "program.txt", None),
    ],
)
def test_media_type_follows_content(
    tmp_path: Path, head: bytes, filename: str, media_type: str | None
) -> None:
    assert find(tmp_path, head, filename) == media_type


def test_a_character_cut_off_at_the_end_of_the_head_does_not_matter(tmp_path: Path) -> None:
    text = ("x" + "é" * HEAD_BYTES).encode()
    assert find(tmp_path, text, "a.txt") == PLAIN_TEXT
    assert find(tmp_path, b"x" * HEAD_BYTES + b"\0binary", "a.txt") == PLAIN_TEXT


def test_zip_files_of_other_kinds_are_not_taken(tmp_path: Path) -> None:
    assert find(tmp_path, write_zip({"word/document.xml": "x"}), "a.docx") is None
    assert find(tmp_path, write_zip({"readme.txt": "x"}), "a.zip") is None
    binary = write_zip({"[Content_Types].xml": "x", "xl/workbook.bin": "x"})
    assert find(tmp_path, binary, "a.xlsb") is None
    assert find(tmp_path, write_zip({"META-INF/container.xml": "x"}), "a.jar") is None
    assert find(tmp_path, write_epub(leave_out="mimetype"), "a.epub") == EPUB


def test_a_zip_file_is_known_with_a_comment_behind_it_and_bytes_before_its_offsets(
    tmp_path: Path,
) -> None:
    file = io.BytesIO(write_docx())
    with zipfile.ZipFile(file, "a") as archive:
        archive.comment = b"x" * 60_000
    assert find(tmp_path, file.getvalue(), "a") == DOCX
    shifted = b"PK\x03\x04" + bytes(100) + write_docx()
    assert find(tmp_path, shifted, "a") == DOCX


def test_a_directory_that_lies_about_itself_is_no_office_file(tmp_path: Path) -> None:
    data = write_docx()
    end = data.rindex(b"PK\x05\x06")
    for size, start in ((0xFFFFFFFF, 0), (len(data) * 2, 0), (0, 0)):
        lie = data[: end + 12] + struct.pack("<LL", size, start) + data[end + 20 :]
        assert find(tmp_path, lie, "a.docx") is None


def test_an_office_file_behind_a_password_is_of_the_kind_its_name_says(tmp_path: Path) -> None:
    header = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1".ljust(30, b"\0") + (9).to_bytes(2, "little")
    header = header.ljust(48, b"\0") + (2).to_bytes(4, "little")
    ole = header.ljust(3 * 512, b"\0") + "Root Entry".encode("utf-16-le").ljust(128, b"\0")
    ole += "EncryptedPackage".encode("utf-16-le").ljust(128, b"\0")
    for name, media_type in (("a.docx", DOCX), ("A.PPTX", PPTX), ("a.xlsm", XLSX), ("a.doc", None)):
        assert find(tmp_path, ole, name) == media_type


@given(data=st.binary(max_size=300), name=st.sampled_from(["a.docx", "a.txt", "a.html", "a.eml"]))
def test_nothing_that_a_file_holds_raises(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, name: str
) -> None:
    folder = tmp_path_factory.getbasetemp()
    marks = (b"", b"PK\x03\x04", b"PK\x03\x04PK\x05\x06", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")
    for mark in marks:
        assert find(folder, mark + data, name) in {None, *PARSERS}


def test_every_format_has_a_parser_and_is_served_as_nothing_that_runs() -> None:
    assert set(PARSERS) == set(CONTENT_TYPES) == {PDF, *SAMPLES}
    served = set(CONTENT_TYPES.values())
    assert served == {PDF, *IMAGES, "text/plain; charset=utf-8", "application/octet-stream"}
    assert CONTENT_TYPES[HTML].startswith("text/plain")


def test_bitmaps_of_each_header_size_are_known(tmp_path: Path) -> None:
    assert find(tmp_path, write_image("BMP"), "x") == BMP
    assert "Word (.docx)" in SUPPORTED_NAMES

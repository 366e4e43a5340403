"""Bombs, lies and damage in every format: pages, or a reason why there are none."""

import io
import random
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from app.ingestion.media_types import CSV, DOCX, EPUB, JSON, MARKDOWN, PDF, PLAIN_TEXT, PPTX, XLSX
from app.ingestion.outcomes import IngestErrorCode
from app.ingestion.parsers import PARSERS, archives
from app.ingestion.parsers.base import DocumentUnreadable
from app.ingestion.parsing import load_parser
from tests.unit.ingestion.samples import SAMPLES, fail, read, write_docx, write_epub, write_zip

ZIPS = [DOCX, PPTX, XLSX, EPUB]


@pytest.mark.parametrize("media_type", SAMPLES)
def test_headings_are_whole_lines_of_the_final_text(tmp_path: Path, media_type: str) -> None:
    for page in read(tmp_path, media_type, SAMPLES[media_type][1]):
        for heading in page.headings:
            assert page.text[: heading.start].endswith("\n") or heading.start == 0
            assert page.text[heading.end :].startswith("\n") or heading.end == len(page.text)
            assert heading.title in page.text[heading.start : heading.end]


@pytest.mark.parametrize("media_type", SAMPLES)
def test_damaged_files_end_in_pages_or_in_a_reason(tmp_path: Path, media_type: str) -> None:
    _, whole = SAMPLES[media_type]
    chance = random.Random(7)
    broken = [whole[: len(whole) * cut // 12] for cut in range(12)]
    for _ in range(60):
        flipped = bytearray(whole)
        for _ in range(chance.choice([1, 3, 20])):
            flipped[chance.randrange(len(flipped))] = chance.randrange(256)
        broken.append(bytes(flipped))
    for data in broken:
        try:
            pages = read(tmp_path, media_type, data)
        except DocumentUnreadable as error:
            assert error.error_code in {
                IngestErrorCode.CORRUPT,
                IngestErrorCode.TOO_LARGE,
                IngestErrorCode.ENCRYPTED,
                IngestErrorCode.TOO_MANY_PAGES,
            }
        else:
            assert pages


@pytest.mark.parametrize("media_type", [DOCX, PPTX, XLSX, EPUB])
def test_damage_inside_the_parts_of_a_package_is_no_crash(tmp_path: Path, media_type: str) -> None:
    chance = random.Random(11)
    with zipfile.ZipFile(io.BytesIO(SAMPLES[media_type][1])) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    for name in [name for name in parts if name.endswith((".xml", ".rels", ".opf", ".xhtml"))]:
        part = parts[name]
        at = chance.randrange(len(part))
        for change in (b"", part[: len(part) // 2], part[:at] + b"<x/>" + part[at + 3 :], b"<a/>"):
            try:
                read(tmp_path, media_type, write_zip({**parts, name: change}))
            except DocumentUnreadable as error:
                assert error.error_code is IngestErrorCode.CORRUPT


@pytest.mark.parametrize("media_type", ZIPS)
def test_an_archive_of_too_many_files_is_refused(tmp_path: Path, media_type: str) -> None:
    bomb = write_zip({f"x{number}": "" for number in range(archives.MAX_ENTRIES + 1)})
    assert fail(tmp_path, media_type, bomb) is IngestErrorCode.TOO_LARGE
    huge_directory = write_zip({f"{number:0300}": "" for number in range(15_000)})
    assert fail(tmp_path, media_type, huge_directory) is IngestErrorCode.TOO_LARGE


@pytest.mark.parametrize("media_type", ZIPS)
def test_an_archive_that_is_packed_too_tightly_is_refused(tmp_path: Path, media_type: str) -> None:
    bomb = write_zip({"word/document.xml": b" " * 3_000_000})
    assert fail(tmp_path, media_type, bomb) is IngestErrorCode.TOO_LARGE


def declare(package: bytes, name: str, size: int) -> bytes:
    """Return a package whose directory declares another size for one entry."""
    data = bytearray(package)
    at = data.rindex(name.encode())
    data[at - 22 : at - 18] = struct.pack("<L", size)
    return bytes(data)


@pytest.mark.parametrize("media_type", ZIPS)
def test_an_archive_that_declares_too_much_is_refused(tmp_path: Path, media_type: str) -> None:
    _, package = SAMPLES[media_type]
    last = zipfile.ZipFile(io.BytesIO(package)).namelist()[-1]
    huge = declare(package, last, archives.MAX_TOTAL_BYTES + 1)
    assert fail(tmp_path, media_type, huge) is IngestErrorCode.TOO_LARGE


def test_an_archive_that_declares_too_little_gives_no_more_than_that(tmp_path: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(write_docx())) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts["word/document.xml"] += b" " * 50_000_000
    lie = declare(write_zip(parts), "word/document.xml", 2000)
    assert fail(tmp_path, DOCX, lie) is IngestErrorCode.CORRUPT


def test_parts_that_are_not_xml_are_not_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(write_docx())) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts["word/media/film.mp4"] = random.Random(1).randbytes(3_000_000)
    path = tmp_path / "film.docx"
    path.write_bytes(write_zip(parts))
    with zipfile.ZipFile(archives.copy_package(path)) as copy:
        assert copy.namelist() == list(parts)
        assert copy.read("word/media/film.mp4") == b""
        assert copy.read("word/document.xml") == parts["word/document.xml"]


def test_an_xml_bomb_in_a_package_does_not_grow(tmp_path: Path) -> None:
    entities = "".join(f'<!ENTITY {chr(98 + n)} "{f"&{chr(97 + n)};" * 10}">' for n in range(9))
    doctype = f'<!DOCTYPE l [<!ENTITY a "lol">{entities}]>'
    chapter = f'<?xml version="1.0"?>{doctype}<html xmlns="x"><p>safe &j;</p></html>'
    pages = read(tmp_path, EPUB, write_epub(extra={"OPS/text/ch1.xhtml": chapter}))
    assert len(pages[0].text) < 2000
    opf = f'{doctype}<package title="&j;"/>'
    assert fail(tmp_path, EPUB, write_epub(opf=opf)) is IngestErrorCode.CORRUPT


def test_files_of_one_endless_line_are_read_in_time(tmp_path: Path) -> None:
    for media_type, data in (
        (CSV, b'"' * 1_000_000),
        (CSV, b"," * 1_000_000),
        (JSON, b"[" + b"[]," * 300_000 + b"[]]"),
        (PLAIN_TEXT, b"x" * 1_000_000),
        (MARKDOWN, b"#" * 1_000_000),
    ):
        assert len(read(tmp_path, media_type, data)) == 1


def test_every_parser_can_be_imported() -> None:
    for media_type in PARSERS:
        assert callable(load_parser(media_type))
    with pytest.raises(DocumentUnreadable) as caught:
        load_parser("application/msword")
    assert caught.value.error_code is IngestErrorCode.UNSUPPORTED_TYPE


def test_reading_a_pdf_or_a_text_imports_no_library_of_other_formats() -> None:
    code = (
        "import sys; from app.ingestion.parsing import load_parser; "
        f"load_parser({PDF!r}); load_parser({PLAIN_TEXT!r}); "
        "print({name.partition('.')[0] for name in sys.modules} "
        "& {'lxml', 'docx', 'pptx', 'python_calamine', 'charset_normalizer', 'email'})"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert result.stdout.strip() == "set()"

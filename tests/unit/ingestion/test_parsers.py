"""Every parser on real files: what it reads, and what it says of a file that it can't read."""

from pathlib import Path

import pytest

from app.ingestion.base import Page, TextSource
from app.ingestion.media_types import MARKDOWN, PDF, PLAIN_TEXT
from app.ingestion.outcomes import OUTCOMES, IngestErrorCode
from app.ingestion.parsers import base
from app.ingestion.parsers.base import DocumentUnreadable, limit_text
from app.ingestion.parsing import open_document


def read(path: Path, media_type: str = PDF, password: str | None = None) -> list[Page]:
    with open_document(path, media_type, password=password) as document:
        pages = list(document.pages())
        assert len(pages) == document.page_count
    return pages


def fail(path: Path, media_type: str = PDF, password: str | None = None) -> IngestErrorCode:
    with pytest.raises(DocumentUnreadable) as caught:
        read(path, media_type, password)
    assert caught.value.code == caught.value.error_code
    assert caught.value.message.endswith(OUTCOMES[caught.value.error_code].remedy)
    return caught.value.error_code


def test_too_much_text_is_refused() -> None:
    text = "x" * (base.MAX_CHARACTERS // 2)
    pages = limit_text(iter([Page(1, text), Page(2, text), Page(3, "one more")]))
    with pytest.raises(DocumentUnreadable) as caught:
        list(pages)
    assert caught.value.error_code is IngestErrorCode.TOO_LARGE


def test_a_text_file_that_is_too_large_is_not_even_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.txt"
    with path.open("wb") as file:
        file.truncate(4 * base.MAX_CHARACTERS + 1)
    assert fail(path, PLAIN_TEXT) is IngestErrorCode.TOO_LARGE
    path.write_bytes(b"x" * (base.MAX_CHARACTERS + 1))
    assert fail(path, PLAIN_TEXT) is IngestErrorCode.TOO_LARGE


def test_plain_text_is_one_page(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("Größe\r\n\r\nEnde  \r\n".encode("cp1252"))
    assert read(path, PLAIN_TEXT) == [Page(1, "Größe\n\nEnde")]


@pytest.mark.parametrize("media_type", [PLAIN_TEXT, MARKDOWN])
def test_text_files_with_binary_are_refused(tmp_path: Path, media_type: str) -> None:
    path = tmp_path / "a"
    path.write_bytes(bytes(range(256)))
    assert fail(path, media_type) is IngestErrorCode.CORRUPT


def test_markdown_is_kept_and_titled_by_its_first_heading(tmp_path: Path) -> None:
    source = "Intro\n\n# The *guide*\n\n    code  \n\n\n\nText\n"
    path = tmp_path / "a.md"
    path.write_text(source)
    with open_document(path, MARKDOWN) as document:
        pages = list(document.pages())
    assert document.title == "The guide"
    assert [(page.text, page.headings[0].title) for page in pages] == [(source, "The guide")]


@pytest.mark.parametrize("media_type", [PLAIN_TEXT, MARKDOWN])
def test_text_files_without_a_letter_say_where_their_text_is(
    tmp_path: Path, media_type: str
) -> None:
    path = tmp_path / "a"
    path.write_bytes(b" \n --- \n")
    assert [page.source for page in read(path, media_type)] == [TextSource.NONE]


def test_an_unknown_type_is_unsupported(tmp_path: Path) -> None:
    assert fail(tmp_path / "a.docx", "application/msword") is IngestErrorCode.UNSUPPORTED_TYPE


def test_every_failure_has_a_remedy_of_one_sentence() -> None:
    assert set(OUTCOMES) == set(IngestErrorCode)
    for outcome in OUTCOMES.values():
        assert outcome.remedy.endswith(".")
        assert ". " not in outcome.remedy

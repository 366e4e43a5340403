"""File names from strangers: what is kept, and that none can become a path or a header."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.documents.filenames import MAX_FILENAME_CHARS, clean_filename


@pytest.mark.parametrize(
    ("name", "cleaned"),
    [
        ("report.pdf", "report.pdf"),
        ("Jahresbericht 2024 – Übersicht.pdf", "Jahresbericht 2024 – Übersicht.pdf"),
        ("報告書.pdf", "報告書.pdf"),
        ("👩‍👩‍👧.md".replace("\u200d", ""), "👩👩👧.md"),
        # Paths
        ("/etc/passwd", "passwd"),
        ("../../etc/passwd", "passwd"),
        ("..\\..\\windows\\system.ini", "system.ini"),
        ("C:\\Users\\me\\a.pdf", "a.pdf"),
        ("a/b\\c.pdf", "c.pdf"),
        ("folder/", "document"),
        ("..", "document"),
        (".", "document"),
        ("", "document"),
        ("   ", "document"),
        # Invisible and reordering characters
        ("a\x00b.pdf", "ab.pdf"),
        ("a\r\nSet-Cookie: x=1.pdf", "aSet-Cookie: x=1.pdf"),
        ("invoice\u202efdp.exe", "invoicefdp.exe"),
        ("a\u200bb\ufeff.pdf", "ab.pdf"),
        ("a\u061cb.pdf", "ab.pdf"),
        ("a\U000e0041b.pdf", "ab.pdf"),
        ("half\ud83d.pdf", "half.pdf"),
        ("line\u2028two\u2029three.pdf", "line two three.pdf"),
        ("\x7f\x85", "document"),
        # Kept: it is data, and whoever shows it escapes it
        ("<img src=x onerror=alert(1)>.pdf", "<img src=x onerror=alert(1)>.pdf"),
        ('a"b%22;c.pdf', 'a"b%22;c.pdf'),
        ("  spaces   within .pdf ", "spaces within .pdf"),
        ("name. . .", "name"),
    ],
)
def test_names_are_cleaned(name: str, cleaned: str) -> None:
    assert clean_filename(name) == cleaned


def test_a_decomposed_name_is_composed() -> None:
    assert clean_filename("Cafe\u0301.pdf") == "Caf\u00e9.pdf"


def test_a_long_name_keeps_its_suffix() -> None:
    cleaned = clean_filename("x" * 10_000 + ".pdf")
    assert len(cleaned) == MAX_FILENAME_CHARS
    assert cleaned.endswith("x.pdf")


def test_a_long_name_without_a_suffix_is_cut() -> None:
    assert clean_filename("x" * 300) == "x" * MAX_FILENAME_CHARS
    assert clean_filename("x." + "y" * 300) == ("x." + "y" * 300)[:MAX_FILENAME_CHARS]


@given(st.text(st.characters(), max_size=400))
def test_any_name_becomes_one_that_can_be_stored_and_shown(name: str) -> None:
    cleaned = clean_filename(name)
    assert 1 <= len(cleaned) <= MAX_FILENAME_CHARS
    cleaned.encode()
    assert not set(cleaned) & set("/\\\x00\r\n")
    assert cleaned not in {".", ".."}
    assert not any(unicodedata.category(character) in {"Cc", "Cs"} for character in cleaned)
    assert clean_filename(cleaned) == cleaned

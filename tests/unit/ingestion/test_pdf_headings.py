"""Headings of PDFs: by the size and weight of their letters, by their words, at exact places."""

from collections.abc import Sequence
from pathlib import Path

from reportlab.lib.pagesizes import A4
from reportlab.pdfgen.canvas import Canvas

from app.core.tokens import EstimatingTokenizer
from app.ingestion.base import Page
from app.ingestion.chunking import chunk_pages
from app.ingestion.parsers.pdf import open_pdf
from tests.chunk_rules import check_chunks

PLAIN, BOLD, ITALIC = "Helvetica", "Helvetica-Bold", "Helvetica-Oblique"
Line = tuple[str, float, str]  # font, size in points, text


def plain(count: int = 4, size: float = 10) -> list[Line]:
    return [(PLAIN, size, f"This is line {n} of text that goes on about it.") for n in range(count)]


def read(tmp_path: Path, *pages: Sequence[Line], scale: float = 1.0) -> list[Page]:
    """Write pages of lines, read them back, and check their headings' places."""
    canvas = Canvas(str(tmp_path / "a.pdf"), pagesize=A4)
    for lines in pages:
        canvas.scale(scale, scale)
        y = 790 / scale
        for font, size, text in lines:
            canvas.setFont(font, size / scale)
            y -= 1.4 * size / scale
            canvas.drawString(72 / scale, y, text)
        canvas.showPage()
    canvas.save()
    with open_pdf(tmp_path / "a.pdf") as document:
        read_pages = list(document.pages())
    for page in read_pages:
        for heading in page.headings:
            assert heading.title.split(",")[0] == page.text[heading.start :].split("\n")[0]
            assert page.text[: heading.start][-1:] in ("", "\n")
            assert page.text[heading.end :][:1] in ("", "\n")
    return read_pages


def found(page: Page) -> list[tuple[int, str]]:
    return [(heading.level, heading.title) for heading in page.headings]


def test_larger_letters_make_higher_headings(tmp_path: Path) -> None:
    lines: list[Line] = [
        *[(BOLD, 20, "The whole document"), *plain()],
        *[(PLAIN, 15, "First part"), *plain(), (PLAIN, 12, "1.2 Overview"), *plain()],
        *[(BOLD, 10, "Details of it:"), *plain()],
    ]
    expected = [
        (1, "The whole document"),
        (2, "First part"),
        (4, "1.2 Overview"),
        (5, "Details of it:"),
    ]
    assert found(read(tmp_path, lines)[0]) == expected
    # The same on paper, but with font sizes that a matrix scales.
    assert found(read(tmp_path, lines, scale=0.5)[0]) == expected


def test_levels_are_the_same_on_all_pages(tmp_path: Path) -> None:
    # A page with little text, all of it large, is judged by the others' text.
    pages = read(tmp_path, [(BOLD, 20, "Cover page")], [(BOLD, 20, "Chapter"), *plain(30)])
    assert [found(page) for page in pages] == [[(1, "Cover page")], [(1, "Chapter")]]


def test_a_heading_of_several_lines_is_one(tmp_path: Path) -> None:
    lines: list[Line] = [(BOLD, 14, "Results of"), (BOLD, 14, "Operations"), *plain()]
    assert found(read(tmp_path, lines)[0]) == [(2, "Results of, Operations")]


def test_words_alone_make_a_heading(tmp_path: Path) -> None:
    lines: list[Line] = [*plain(), (PLAIN, 10, "Item 7. Discussion of results"), *plain()]
    assert found(read(tmp_path, lines)[0]) == [(2, "Item 7. Discussion of results")]


def test_what_is_bold_but_no_title_is_no_heading(tmp_path: Path) -> None:
    for text in (
        "Total revenues 66,608 62,286",
        "2018 2017 2016",
        "This sentence ends with a full stop.",
        "and goes on here",
        "(a)",
    ):
        assert found(read(tmp_path, [*plain(), (BOLD, 10, text), *plain()])[0]) == []
    bold: list[Line] = [(BOLD, 10, f"Bold Line {n}") for n in "abcd"]
    large: list[Line] = [(PLAIN, 12, f"Large Line {n}") for n in "abcdef"]
    assert found(read(tmp_path, [*plain(9), *bold, *plain(9), *large, *plain(9)])[0]) == []


def test_a_line_must_be_bold_to_its_end(tmp_path: Path) -> None:
    canvas = Canvas(str(tmp_path / "a.pdf"), pagesize=A4)
    text = canvas.beginText(72, 760)
    for n in range(9):
        text.setFont(BOLD, 10)
        text.textOut(f"Term {n} ")
        text.setFont(PLAIN, 10)
        text.textLine("is explained in words that are not bold")
    canvas.drawText(text)
    canvas.save()
    with open_pdf(tmp_path / "a.pdf") as document:
        assert [page.headings for page in document.pages()] == [()]


def test_italics_and_a_page_all_in_bold_mean_nothing(tmp_path: Path) -> None:
    italics: list[Line] = [*plain(), (ITALIC, 10, "An Italic Title"), *plain()]
    bold: list[Line] = []
    for letter in "abc":
        bold += [(BOLD, 10, f"A Bold Title of Page Two {letter}"), (PLAIN, 10, "It is short.")]
    assert [found(page) for page in read(tmp_path, italics, bold)] == [[], []]


def test_the_label_of_rows_is_no_heading_but_the_title_of_a_table_is(tmp_path: Path) -> None:
    lines: list[Line] = [
        *plain(9),
        *[(BOLD, 10, "Statement of Cash Flows"), (PLAIN, 10, "(in millions) 2018 2017")],
        *[(BOLD, 10, "Operating Activities"), (PLAIN, 10, "Net income 5,363 4,869")],
    ]
    assert found(read(tmp_path, lines)[0]) == [(5, "Statement of Cash Flows")]


def test_a_heading_needs_some_text_before_the_next_one(tmp_path: Path) -> None:
    lines: list[Line] = [
        *[(BOLD, 10, "Operating Income"), (PLAIN, 10, "(dollars in millions)")],
        *[(BOLD, 10, "Increase"), *plain(), (BOLD, 10, "Exhibits"), (PLAIN, 10, "None.")],
        *[(BOLD, 10, "Signatures"), *plain()],
    ]
    titles = [title for _, title in found(read(tmp_path, lines)[0])]
    assert titles == ["Operating Income", "Exhibits", "Signatures"]


def test_a_running_header_is_no_heading(tmp_path: Path) -> None:
    pages = []
    for letter in "abcd":
        text: list[Line] = [(PLAIN, 10, f"Line {n} of part {letter} goes on.") for n in range(9)]
        pages.append([(BOLD, 14, "Annual Report"), *text, (BOLD, 12, f"Part {letter}"), *text])
    for letter, page in zip("abcd", read(tmp_path, *pages), strict=True):
        assert found(page) == [(4, f"Part {letter}")]
        assert page.text[: page.body_start] == "Annual Report"


def test_reading_again_gives_the_same_chunks_within_sections(tmp_path: Path) -> None:
    tokenizer = EstimatingTokenizer()
    pages = [
        [*plain(3), (BOLD, 12, f"Section {n}"), *plain(30), (PLAIN, 10, str(n))]
        for n in range(1, 121)
    ]
    first, second = read(tmp_path, *pages), read(tmp_path, *pages)
    assert first == second
    assert all(len(page.headings) == 1 for page in first)
    chunks = list(chunk_pages(first, tokenizer=tokenizer, max_tokens=216))
    check_chunks(chunks, first, tokenizer=tokenizer, max_tokens=216)
    assert chunks[-1].heading == "Section 120"

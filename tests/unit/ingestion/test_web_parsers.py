"""HTML, EPUB and e-mail: what a reader of them sees, and nothing else."""

from pathlib import Path

import pytest

from app.ingestion.base import TextSource
from app.ingestion.media_types import EMAIL, EPUB, HTML
from app.ingestion.outcomes import IngestErrorCode
from tests.unit.ingestion.samples import (
    CHAPTER,
    HTML_PAGE,
    OPF,
    fail,
    headings,
    read,
    read_text,
    read_title,
    write_email,
    write_epub,
)


def test_html_keeps_blocks_lists_tables_and_preformatted_text(tmp_path: Path) -> None:
    (page,) = read(tmp_path, HTML, HTML_PAGE)
    assert page.text == (
        "Top\n\nLoose text\nbelow\n\nOne paragraph\n\nLists\n\n- one\n- two\n3. three\n\n"
        "a\n  b\n\nFruit\n\nName: Pear | Price: 3"
    )
    assert headings(page) == [(1, "Top"), (2, "Lists")]
    assert read_title(tmp_path, HTML, HTML_PAGE) == "A page"


@pytest.mark.parametrize(
    "hidden",
    [
        "<script>SECRET()</script>",
        "<style>SECRET</style>",
        "<template>SECRET</template>",
        "<noscript>SECRET</noscript>",
        "<svg><text>SECRET</text></svg>",
        "<nav><a>SECRET</a></nav>",
        "<!-- SECRET -->",
        "<div hidden>SECRET</div>",
        '<span style="color:red; DISPLAY : none">SECRET</span>',
        '<p style="visibility:hidden">SECRET</p>',
        '<table style="display:none"><tr><td>SECRET<td>SECRET</table>',
        "<table><tr hidden><td>SECRET<td>SECRET<tr><td>a<td hidden>SECRET</table>",
        '<input value="SECRET">',
    ],
)
def test_html_that_nobody_sees_is_left_out(tmp_path: Path, hidden: str) -> None:
    text = read_text(tmp_path, HTML, f"<p>before {hidden}<p>after")
    assert "SECRET" not in text
    assert text.startswith("before")
    assert text.endswith("after")


def test_html_pictures_are_their_alternative_text(tmp_path: Path) -> None:
    page = '<p>See<img src="http://127.0.0.1:9/x.png" alt="a cat">here<img alt=""></p>'
    assert read_text(tmp_path, HTML, page) == "See a cat here"


def test_html_tables_for_layout_are_opened_and_cells_over_several_keep_their_columns(
    tmp_path: Path,
) -> None:
    page = """<table><tr><td><h2>Left</h2></td><td><table>
        <thead><tr><th rowspan=2>Region<th colspan=2>2024<tr><th>Q1<th>Q2</thead>
        <tr><td rowspan=2>North<td>1<td>2<tr><td>3<td>4
        <tr><td colspan=2>Total<td>10</table></td></tr></table>"""
    (document,) = read(tmp_path, HTML, page)
    assert document.text == (
        "Left\n\nRegion: North | 2024 Q1: 1 | 2024 Q2: 2\n"
        "Region: North | 2024 Q1: 3 | 2024 Q2: 4\nRegion: Total | 2024 Q2: 10"
    )
    assert headings(document) == [(2, "Left")]


def test_html_cells_over_several_rows_are_repeated_unless_they_are_long(tmp_path: Path) -> None:
    page = """<table><tr><th>Name<th>Year<th>Sum
        <tr><td rowspan=3>Ann<td rowspan=2>2023<td>1<tr><td>2<tr><td>2024<td>3</table>"""
    assert read_text(tmp_path, HTML, page) == (
        "Name: Ann | Year: 2023 | Sum: 1\nName: Ann | Year: 2023 | Sum: 2\n"
        "Name: Ann | Year: 2024 | Sum: 3"
    )
    text = read_text(tmp_path, HTML, page.replace("Ann", "Ann " * 100))
    assert text.count("Ann") == 100
    assert text.endswith("\nYear: 2023 | Sum: 2\nYear: 2024 | Sum: 3")


def test_html_cells_that_fill_too_much_of_a_table_end(tmp_path: Path) -> None:
    row = "<tr>" + "<td rowspan=1000>x" * 999 + "<tr><td>y" * 999
    text = read_text(tmp_path, HTML, f"<table>{row * 3}</table>")
    assert text.count("x") < 1_010_000
    assert text.count("y") == 3 * 999


def test_html_a_table_in_a_cell_is_text_of_the_row(tmp_path: Path) -> None:
    page = """<table><tr><th>Part<th>Sizes<th>Price
        <tr><td>Nut<td><table><tr><td>M4<td>M5<tr><td>M6</table><td>3
        <tr><td>Bolt<td>M8<td>5</table><p>after"""
    assert read_text(tmp_path, HTML, page) == (
        "Part: Nut | Sizes: M4 M5 M6 | Price: 3\nPart: Bolt | Sizes: M8 | Price: 5\n\nafter"
    )


@pytest.mark.parametrize(
    ("head", "encoding"),
    [
        ('<meta charset="windows-1251">', "cp1251"),
        ('<meta http-equiv="Content-Type" content="text/html; charset=Shift_JIS">', "cp932"),
        ('<?xml version="1.0" encoding="koi8-r"?><html xmlns="x">', "koi8-r"),
        ("<title>guess</title>", "cp1251"),
        ('<meta charset="iso-8859-1">', "utf-8-sig"),
        ('<meta charset="no-such-thing">', "utf-8"),
        ('<meta charset="unicode_escape">', "utf-8"),
    ],
)
def test_html_is_decoded_as_it_declares_or_by_its_bytes(
    tmp_path: Path, head: str, encoding: str
) -> None:
    text = "日本語の文章です" if encoding == "cp932" else "Отчёт о прибылях и убытках"
    text = "Отчёт" * 9 if encoding == "koi8-r" else text
    page = f"{head}<p>{text}</p>" + ("</html>" if "xmlns" in head else "")
    assert read_text(tmp_path, HTML, page.encode(encoding)).endswith(text)


def test_xhtml_with_empty_elements_and_named_characters_is_read(tmp_path: Path) -> None:
    page = CHAPTER.format(title="&Eacute;t&eacute;", text='a<script src="x"/>&nbsp;b<br/>c')
    assert read_text(tmp_path, HTML, page) == "Été\n\na b\nc"
    faulty = page.replace("</h1>", "</h2>")
    assert read_text(tmp_path, HTML, faulty).startswith("Été")


def test_html_below_the_depth_that_can_be_read_is_missed_with_a_warning(tmp_path: Path) -> None:
    (deep,) = read(tmp_path, HTML, "<p>start" + "<div>" * 2000 + "deep")
    assert (deep.text, deep.warnings) == ("start\n\ndeep", ())
    (deeper,) = read(tmp_path, HTML, "<p>start" + "<div>" * 100_000 + "deeper")
    assert deeper.text == "start"
    assert len(deeper.warnings) == 1
    nested = "<table><tr><td>x<td>" * 3000
    assert read_text(tmp_path, HTML, nested).startswith("x")


def test_an_empty_web_page_has_no_text(tmp_path: Path) -> None:
    for data in ("", "<!-- nothing -->", "<html></html>"):
        (page,) = read(tmp_path, HTML, data)
        assert (page.text, page.source) == ("", TextSource.NONE)
    assert fail(tmp_path, HTML, bytes(range(256))) is IngestErrorCode.CORRUPT


def test_epub_chapters_are_pages_in_the_order_of_reading(tmp_path: Path) -> None:
    first, second = read(tmp_path, EPUB, write_epub())
    assert first.text == "Loomings\n\nCall me Ishmael."
    assert second.text == "The Carpet-Bag\n\nI stuffed a shirt."
    assert headings(second) == [(1, "The Carpet-Bag")]
    assert read_title(tmp_path, EPUB, write_epub()) == "Moby Dick"


def test_epub_without_one_chapter_is_read_with_a_warning(tmp_path: Path) -> None:
    first, second = read(tmp_path, EPUB, write_epub(leave_out="OPS/text/ch1.xhtml"))
    assert (first.text, len(first.warnings)) == ("", 1)
    assert (len(second.text) > 0, second.warnings) == (True, ())


def encryption_of(name: str) -> dict[str, str]:
    return {
        "META-INF/encryption.xml": (
            '<encryption xmlns="urn:oasis:names:tc:opendocument:xmlns:container">'
            '<EncryptedData xmlns="http://www.w3.org/2001/04/xmlenc#"><CipherData>'
            f'<CipherReference URI="{name}"/></CipherData></EncryptedData></encryption>'
        )
    }


def test_epub_under_copy_protection_says_so_but_its_fonts_may_be_hidden(tmp_path: Path) -> None:
    protected = write_epub(extra=encryption_of("OPS/text/ch%202.xhtml"))
    assert fail(tmp_path, EPUB, protected) is IngestErrorCode.ENCRYPTED
    with_fonts = write_epub(extra=encryption_of("OPS/font.otf"))
    assert len(read(tmp_path, EPUB, with_fonts)) == 2


@pytest.mark.parametrize("missing", ["META-INF/container.xml", "OPS/book.opf"])
def test_epub_without_its_tables_of_contents_is_corrupt(tmp_path: Path, missing: str) -> None:
    assert fail(tmp_path, EPUB, write_epub(leave_out=missing)) is IngestErrorCode.CORRUPT


def test_epub_names_can_not_leave_the_archive(tmp_path: Path) -> None:
    (tmp_path / "secret.xhtml").write_text("<p>SECRET</p>")
    opf = OPF.replace("text/ch1.xhtml", "../../../secret.xhtml")
    first, _ = read(tmp_path, EPUB, write_epub(opf=opf))
    assert first.text == ""


def test_email_has_its_headers_its_plain_text_and_the_names_of_attachments(tmp_path: Path) -> None:
    (page,) = read(tmp_path, EMAIL, write_email())
    assert page.text == (
        "Subject: Grüße aus München\n\nFrom: Jörg <joerg@example.org>\n"
        "To: ann@example.org, bob@example.org\nCc: eve@example.org\n"
        "Date: Mon, 01 Jan 2024 10:00:00 +0000\n\nHello,\n\n  see the café plan.\n\n"
        "Attachment: plän.pdf"
    )
    assert headings(page) == [(1, "Grüße aus München")]
    assert len(page.warnings) == 1
    assert "plän" not in page.warnings[0]
    assert read_title(tmp_path, EMAIL, write_email()) == "Grüße aus München"


def test_email_in_html_is_read_as_a_web_page(tmp_path: Path) -> None:
    mail = (
        "Subject: x\nContent-Type: text/html; charset=koi8-r\nContent-Transfer-Encoding: 8bit\n\n"
        "<style>no</style><h2>Отчёт</h2><p>о прибылях"
    )
    (page,) = read(tmp_path, EMAIL, mail.encode("koi8-r"))
    assert page.text == "Subject: x\n\nОтчёт\n\nо прибылях"
    assert headings(page) == [(1, "x"), (2, "Отчёт")]


def test_email_parts_that_stand_side_by_side_are_all_read(tmp_path: Path) -> None:
    mail = """Content-Type: multipart/mixed; boundary=A

--A
Content-Type: multipart/alternative; boundary=B

--B
Content-Type: text/plain


--B
Content-Type: text/html

<p>Only HTML says it</p>
--B--
--A
Content-Type: text/plain

The list's footer
--A
Content-Type: message/rfc822

Subject: inner

Forwarded
--A--
"""
    assert read_text(tmp_path, EMAIL, mail) == (
        "Only HTML says it\n\nThe list's footer\n\nAttachment: message/rfc822"
    )


@pytest.mark.parametrize(
    ("subject", "shown"),
    [
        ("=?bogus?q?x?=", "=?bogus?q?x?="),
        ("=?utf-8?b?4?=", "=?utf-8?b?4?="),
        ("=?utf-8?q?=FF?=", "=?utf-8?q?=FF?="),
        ("plain café", "plain café"),
        ("folded\n over lines", "folded over lines"),
    ],
)
def test_email_headers_that_break_the_rules_are_shown_as_they_are(
    tmp_path: Path, subject: str, shown: str
) -> None:
    assert read_text(tmp_path, EMAIL, f"Subject: {subject}\n\nBody") == f"Subject: {shown}\n\nBody"


def test_email_with_endless_headers_or_nesting_ends(tmp_path: Path) -> None:
    long = "Subject: " + "=?utf-8?q?a?= " * 100_000 + "\n\nBody"
    assert read_text(tmp_path, EMAIL, long).endswith("Body")
    nested = "".join(
        f'Content-Type: multipart/mixed; boundary="b{n}"\n\n--b{n}\n' for n in range(5000)
    )
    assert fail(tmp_path, EMAIL, nested) is IngestErrorCode.CORRUPT
    without_boundary = "Content-Type: multipart/mixed\n\nBody"
    assert read_text(tmp_path, EMAIL, without_boundary) == "Body"

"""Texts that are put together block by block."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.ingestion.base import TextSource
from app.ingestion.outcomes import IngestErrorCode
from app.ingestion.parsers import base
from app.ingestion.parsers.base import DocumentUnreadable
from app.ingestion.parsers.text_builder import TextBuilder

BLOCKS = st.tuples(
    st.sampled_from(["heading", "paragraph", "line", "preformatted"]),
    st.text(alphabet=st.sampled_from("aé\u0301 \t\n\r\u00a0\u200b\x00#*_|.1ﬁ中"), max_size=30),
)


@given(blocks=st.lists(BLOCKS, max_size=20))
def test_headings_are_whole_lines_of_the_text_in_order(blocks: list[tuple[str, str]]) -> None:
    builder = TextBuilder()
    for kind, text in blocks:
        if kind == "heading":
            builder.add_heading(text, level=2)
        elif kind == "paragraph":
            builder.add_paragraph(text)
        elif kind == "line":
            builder.add_line(text)
        else:
            builder.add_preformatted(text)
    page = builder.build(1)
    end = -1
    for heading in page.headings:
        assert heading.start > end
        end = heading.end
        assert page.text[heading.start : end] in page.text.split("\n")
        assert page.text[heading.start - 1 : heading.start] in {"", "\n"}
        assert heading.title
    assert not page.text.startswith("\n")
    assert "\n\n\n" not in page.text


def test_lines_stand_close_together_and_apart_from_blocks() -> None:
    builder = TextBuilder()
    builder.add_paragraph(" Two\r\nlines ")
    builder.add_line("- a\nb")
    builder.add_line("\u200b")
    builder.add_line("- c")
    builder.add_heading("A\nheading", level=12)
    builder.add_preformatted("  x\n    y")
    page = builder.build(3, warnings=("Something.",))
    assert page.text == "Two\nlines\n\n- a b\n- c\n\nA heading\n\n  x\n    y"
    assert [(h.level, h.title) for h in page.headings] == [(9, "A heading")]
    assert (page.number, page.source, page.warnings) == (3, TextSource.TEXT_LAYER, ("Something.",))


def test_what_can_be_no_heading_is_a_paragraph() -> None:
    builder = TextBuilder()
    builder.add_heading("* * *", level=1)
    builder.add_heading("word " * 200, level=1)
    builder.add_heading(" ", level=1)
    page = builder.build(1)
    assert page.text.startswith("* * *\n\nword word")
    assert page.headings == ()
    assert TextBuilder().build(1).source is TextSource.NONE


def test_too_much_text_is_refused_while_it_grows() -> None:
    builder = TextBuilder()
    builder.add_preformatted("x" * base.MAX_CHARACTERS)
    with pytest.raises(DocumentUnreadable) as caught:
        builder.add_line("one more")
    assert caught.value.error_code is IngestErrorCode.TOO_LARGE

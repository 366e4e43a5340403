"""Where sentences, lines and table rows begin and end."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.sentences import (
    SentenceKind,
    find_header,
    is_header,
    row_cells,
    split_sentences,
)


def pieces(text: str) -> list[str]:
    return [text[s.start : s.end] for s in split_sentences(text)]


def kinds(text: str) -> str:
    """Return the first letter of each kind."""
    return "".join(s.kind[0] for s in split_sentences(text))


@pytest.mark.parametrize(
    "sentences",
    [
        ["Apple Inc. reported sales of $5.2 million in the U.S. market.", "They rose by 3.1 %."],
        ["J. K. Rowling wrote to Dr. Smith, e.g. about No. 5.", "No.", "That is wrong!"],
        ["It is sold in the U.S.", "The company is Foo Inc.", "It grew."],
        ["Er starb am 7. Januar 1943.", "Danach kam z. B. Herr Dr. Müller um 12.30 Uhr."],
        ['He said "Stop."', "She left...", "Why?", "Because.[12]", "Done."],
        ["他在1943年去世。", "他很有名！", "是吗？", "“是的。”"],
        ["توفي تسلا في 7 يناير 1943.", "هل كان معروفا؟", "نعم."],
        ["यह पहला वाक्य है।", "यह दूसरा वाक्य है॥"],
        ["See Item 7. Management’s Discussion of 2018.", "It is long."],
    ],
)
def test_sentences_end_where_a_reader_would_say(sentences: list[str]) -> None:
    assert pieces(" ".join(sentences)) == sentences


def test_a_line_break_within_a_sentence_does_not_end_it() -> None:
    text = (
        "These divestitures resulted in a gain on sale of businesses of about\n"
        "$24 million. The decrease primarily relates to research that was not\n"
        "incurred any more in 2018.\n"
        "Operating Income Margin:\n"
        "3M uses operating income as a measure."
    )
    assert [piece.replace("\n", " ") for piece in pieces(text)] == [
        "These divestitures resulted in a gain on sale of businesses of about $24 million.",
        "The decrease primarily relates to research that was not incurred any more in 2018.",
        "Operating Income Margin:",
        "3M uses operating income as a measure.",
    ]
    assert kinds(text) == "ssls"


TABLE = """\
Consolidated Statement of Cash Flows
(Millions) 2018 2017 2016
Net income including noncontrolling interest $ 5,363 $ 4,869 $ 5,058
Gain on sale of businesses (545) (586) (111)
Service cost discount rate 5.5 % 3.2 % —
Proceeds from sale of businesses, net of cash sold
846 1,065 142
Net cash provided by (used in)
operating activities 6,439 6,240 6,662
The accompanying Notes are an integral part of this statement."""


def test_table_rows_stand_alone_and_keep_a_label_that_was_too_long() -> None:
    assert kinds(TABLE) == "lrrrrrrs"
    rows = pieces(TABLE)
    assert rows[5] == "Proceeds from sale of businesses, net of cash sold\n846 1,065 142"
    assert rows[6].startswith("Net cash provided by (used in)\noperating")


def test_cells_are_read_without_their_signs() -> None:
    assert row_cells("Net income $ 5,363 $ (4,869) 5.5 % —") == ("5,363", "(4,869)", "5.5", "—")
    assert row_cells("Sales grew in 2018.") == ()
    assert is_header("(Millions) 2018 2017 2016")
    assert not is_header("Net income 2018 5,363")


def test_the_header_of_a_row_is_the_years_above_it_in_the_same_table() -> None:
    sentences = split_sentences(TABLE)
    header = find_header(TABLE, sentences, 4)
    assert header is not None
    assert TABLE[header.start : header.end] == "(Millions) 2018 2017 2016"
    assert find_header(TABLE, sentences, 1) is None
    after_prose = TABLE + "\nOther net 1 2 3"
    sentences = split_sentences(after_prose)
    assert sentences[-1].kind is SentenceKind.ROW
    assert find_header(after_prose, sentences, len(sentences) - 1) is None


def test_bullets_and_blank_lines_end_what_came_before() -> None:
    assert pieces("• first item\n• second item\n- third\n1) fourth\r\n\r\nfifth\f\nsixth") == [
        "first item",
        "second item",
        "third",
        "1) fourth",
        "fifth",
        "sixth",
    ]


def test_rows_of_markdown_and_of_tabs_are_rows() -> None:
    assert kinds("| Net sales | 32,765 | 31,657 |\n|---|---|---|\n| Cost | 1 | 2 |") == "rrr"
    assert kinds("name\tcity\tage\nAnna\tOslo\t31") == "rr"


def test_thai_is_cut_at_spaces_into_pieces_of_some_length() -> None:
    phrase = "นี่คือประโยคที่ยาวพอสมควร"
    text = " ".join([phrase] * 8)
    found = pieces(text)
    assert len(found) == 2
    assert " ".join(found) == text


@settings(max_examples=300, deadline=None, database=None)
@given(
    st.lists(
        st.sampled_from(
            [*" \n\t.!?。।,:•-|$%()1aBé\f\r", "No.", "U.S.", "2018", "word", "\n\n", "ไทย "]
        ),
        max_size=60,
    ).map("".join)
)
def test_pieces_are_ordered_trimmed_and_lose_only_white_space_and_bullets(text: str) -> None:
    position = 0
    for sentence in split_sentences(text):
        assert position <= sentence.start < sentence.end <= len(text)
        assert not text[position : sentence.start].strip(" \n\t\r\f\x1c\x1d•-")
        piece = text[sentence.start : sentence.end]
        assert piece == piece.strip()
        position = sentence.end
    assert not text[position:].strip(" \n\t\r\f•-")

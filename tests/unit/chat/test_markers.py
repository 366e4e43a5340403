"""The streaming marker filter."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.chat.citations import MAX_MARKERS, Marker, MarkerFilter, TextPiece

KNOWN = {1, 2, 3, 12}


def run(pieces: list[str]) -> tuple[str, list[tuple[int, int]], int]:
    """Return the text, (marker, offset of its `[n]`) and how many numbers were dropped."""
    marker_filter = MarkerFilter(KNOWN)
    text, markers = "", []
    events = [event for piece in pieces for event in marker_filter.feed(piece)]
    for event in events + marker_filter.close():
        if isinstance(event, Marker):
            markers.append((event.n, len(text)))
        else:
            assert event.text
            text += event.text
    for n, offset in markers:
        assert text.startswith(f"[{n}]", offset)
    return text, markers, marker_filter.dropped_markers


def filtered(text: str) -> str:
    return run([text])[0]


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("Sales fell [1].", "Sales fell [1]."),
        ("Sales fell [1, 2].", "Sales fell [1][2]."),
        ("Sales fell [1;2] and [ 1 ， 12 ].", "Sales fell [1][2] and [1][12]."),
        ("Sales fell [[1]] more", "Sales fell [1] more"),
        ("Sales fell [[1, 2]].", "Sales fell [1][2]."),
        ("売上は減少した【1】。", "売上は減少した[1]。"),
        ("売上は減少した［１，２］。", "売上は減少した[1][2]。"),
        ("Sales fell 【1】(a)", "Sales fell [1](a)"),
        ("Twice [1,1].", "Twice [1]."),
        ("Sales fell [[1] again]", "Sales fell [[1] again]"),
        ("Sales fell [1-3].", "Sales fell [1][2][3]."),
        ("Sales fell [1 – 3, 12].", "Sales fell [1][2][3][12]."),
        ("Sales fell [2-2].", "Sales fell [2]."),
        ("売上は減少した［１－２］。", "売上は減少した[1][2]。"),
        ("Sales fell[^1].", "Sales fell[1]."),
        ("Sales fell [^1, ^2].", "Sales fell [1][2]."),
        ("Sales fell [Source 1].", "Sales fell [1]."),
        ("Sales fell [source: 2] and [SOURCE #3].", "Sales fell [2] and [3]."),
        ("Sales fell [Source 1, Source 2; 3].", "Sales fell [1][2][3]."),
        ("Sales fell [Sources 1-3].", "Sales fell [1][2][3]."),
        ("Sales fell [n=1] and [n = 2].", "Sales fell [1] and [2]."),
        ("Sales fell [doc 1], [Document 2], [docs: 1, 2].", "Sales fell [1], [2], [1][2]."),
        ("Der Umsatz fiel [Quelle 1].", "Der Umsatz fiel [1]."),
        ("销售额下降了【来源1】。", "销售额下降了[1]。"),
        ("Продажи упали [источник 2].", "Продажи упали [2]."),
        ("Sales fell 【1†L3-L5】【2†source】.", "Sales fell [1][2]."),
    ],
)
def test_markers_get_their_canonical_form(written: str, expected: str) -> None:
    assert filtered(written) == expected


@pytest.mark.parametrize(
    ("written", "expected", "dropped"),
    [
        ("Sales fell [9].", "Sales fell.", 1),
        ("Sales fell [9] by far", "Sales fell by far", 1),
        ("Sales [1, 9] fell", "Sales [1] fell", 1),
        ("Sales fell [9][1].", "Sales fell [1].", 1),
        ("Sales fell [1] [9].", "Sales fell [1].", 1),
        ("Sales fell [8] [9]", "Sales fell", 2),
        ("Sales fell[0]\nand rose", "Sales fell\nand rose", 1),
        ("a [9]b", "a b", 1),
        ("[9] Sales fell", "Sales fell", 1),
        ("Sales:\n[9] they fell", "Sales:\nthey fell", 1),
        ("[7, 8, 9]", "", 3),
        ("Sales fell [2-4].", "Sales fell [2][3].", 1),
        ("Sales fell [7-9].", "Sales fell.", 3),
        ("Sales fell [Source 9].", "Sales fell.", 1),
        ("Sales fell [^9].", "Sales fell.", 1),
    ],
)
def test_numbers_that_are_no_source_go_with_the_space_before_them(
    written: str, expected: str, dropped: int
) -> None:
    text, _, count = run([written])
    assert (text, count) == (expected, dropped)


@pytest.mark.parametrize(
    "text",
    [
        "see [1](https://example.org/9)",
        "see [[1]](https://example.org)",
        "see [the report [9]](https://example.org)",
        "see [Source 9](https://example.org) and [n=9](u) and [^9](u)",
        "the interval [10-99], [0-1], [3-1]",
        "in (1) and (9) and Source 9",
        "in [Figure 9], [Table 9], [page 9], [note 9], [sources], [source 2018], [n], [n=x], [^a]",
        "in [9 of 12] and [9th] and [9.5] and [-9] and [1--9]",
        "`[Source 9]` and `[n=9]` and ``[7-9]``",
        "```\n[Source 9] [7-9]\n```",
        "![1](a.png)",
        "in [2018] and [sic] and [] and [1",
        "an interval [1, 2",
        "`a[9]` is code",
        "``a` [9]`` is code",
        "```python\nx[9] = `y`\n``` not the end\ny[9]\n```",
        "~~~\nx[9]\n~~~",
        "   ```\nx[9]\n   ````",
        "~~gone~~ and ~ this",
        "trailing space ",
        "",
    ],
)
def test_links_code_and_other_brackets_are_left_alone(text: str) -> None:
    assert run([text]) == (text, [], 0)


def test_markers_count_again_behind_code() -> None:
    assert filtered("`x[9]` is [1]") == "`x[9]` is [1]"
    assert run(["```\nx[9]\n```\nso [9] it is [1]"])[0] == "```\nx[9]\n```\nso it is [1]"
    assert run(["```x[9]``` so [1]"])[1] == [(1, 14)]


def test_an_unclosed_back_tick_ends_with_its_line() -> None:
    assert filtered("a ` stray [9]\nthen [9].") == "a ` stray [9]\nthen."


def test_a_marker_event_comes_before_the_text_that_begins_with_it() -> None:
    marker_filter = MarkerFilter(KNOWN)
    assert marker_filter.feed("Sales fell [1") == [TextPiece("Sales fell")]
    assert marker_filter.feed(",2]") == []
    assert marker_filter.feed(".") == [
        TextPiece(" "),
        Marker(1),
        TextPiece("[1]"),
        Marker(2),
        TextPiece("[2]."),
    ]
    assert marker_filter.close() == []


def test_text_without_markers_is_not_held_back() -> None:
    marker_filter = MarkerFilter(KNOWN)
    assert marker_filter.feed("Sales") == [TextPiece("Sales")]
    assert marker_filter.feed("\n") == [TextPiece("\n")]
    assert marker_filter.feed("[a") == [TextPiece("[a")]


TEXTS = [
    "Sales fell [1, 2] and [[3]] rose 【12】［1；2］, see [1](u[9]) and [9] [1][9].",
    "[9] x\n  [9] y\n`a[1]` ``b`[1]`` `c [1]\nd [1] ```e[1]``` f [2]\n",
    "```py\nx[1]\n``\n  ```  \n[1]\n~~~\n[2]\n```\n~~~ \n[3] [[1] [[9]] [1]] [ 1 ,2 ]",
    "[1,2,3,1,2,3,1,2,3] [1,2,3,1,2,3,1,2] [ 1 ; 9 ] [[9]](u) [9]; [9]x  [9] [9] [12] [ 9 ]\n",
    "``` a ` b\n[1]\n````\n[2] ~ ~~ [1]~~~[2]\n~~~\n[1]",
    "Sales [Source 1] fell [sources: 1, 2] and [Source 9]. [doc 1][document 2] [Docs 9] [sour] [so",
    "[1-3] [1 - 2, 9] [7-9] x [10-99] [0-1] [3-1] [1-] [1–12] [2-2][1-2](u) [ 1-2 ] [[1-2]]",
    "a[^1] b[^9]. [^1, ^2] [^] [^a] [^1](u) [n=1] [n = 2] [n=9] [n] [no] [n=] [n=1](u)",
    "[see [1]](u) [see [9]](u) [see [9] it](u) [[1]](u) [[9]](u) [1]] [9]] [1]](",
    "【1†L3-L5】 [2†source] 【9†x】 [1†a, 2†b] [1† [2†] 【1†L1】【2】",
    "[Source 1, Source 2; 3] [Source 1 Source 2] [Source: ] [Source #3] [Source  1] [source1]",
    "| a | b [1] |\n|---|---|\n| c [9] | d [1, 2] |\n\n1. [1] e\n2. [9] f\n- [Source 2] g\n",
    "销售额下降了【来源1】。另见［文档 2］、［9］，【1，2】；【 1 、 2 】［1－2］",
    '**[1]** _[9]_ "[1]" ([1]) ([9]) [1]. [9]. [1]! [9]? [1]: [9]; [1]—[9]… [1]\t[9]\r\n[9]\n\n[9]',
    "Продажи упали [источник 1], [Источник 9] и [и] `[источник 1]` [Quelle 2; Quelle 9] [quel] [1",
]


@pytest.mark.parametrize("text", TEXTS)
def test_output_does_not_depend_on_where_the_stream_is_cut(text: str) -> None:
    rng = random.Random(7)
    expected = run([text])
    assert run(list(text)) == expected
    for _ in range(400):
        cuts = sorted(rng.choices(range(len(text) + 1), k=rng.randrange(1, 30)))
        assert run([text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]) == (
            expected
        )


@settings(max_examples=400, deadline=None, database=None)
@given(
    st.lists(
        st.sampled_from(
            [
                *"[]【】()`~ \n,;19a.",
                "[1]",
                "[9]",
                "[[2]]",
                " [9]",
                "```",
                "\n```",
                "[1, 2]",
                "[1-3]",
                "[Source 1]",
                "[source",
                "s",
                "n=",
                "^",
                "-",
                "†",
                "](",
                "  ",
            ]
        ),
        max_size=40,
    ).map("".join),
    st.lists(st.integers(0, 120), max_size=20),
)
def test_any_text_cut_anywhere_gives_the_same_output(text: str, cuts: list[int]) -> None:
    edges = sorted(min(cut, len(text)) for cut in cuts)
    pieces = [text[a:b] for a, b in zip([0, *edges], [*edges, len(text)], strict=True)]
    assert run(pieces) == run([text]) == run(list(text))


def test_what_is_held_back_stays_small_on_hostile_text() -> None:
    hostile = "[[[[1,1,1," * 8_000 + "`" * 5_000 + "[1" * 2_000 + " " * 5_000
    hostile += "\n" + "[[sources: 1-2, sources: 1-2, " * 500 + "[1†aaaa, aaaa" * 500 + "[n=" * 900
    marker_filter = MarkerFilter(KNOWN)
    sent = received = 0
    for position in range(0, len(hostile), 7):
        piece = hostile[position : position + 7]
        sent += len(piece)
        received += sum(
            len(event.text) for event in marker_filter.feed(piece) if isinstance(event, TextPiece)
        )
        assert sent - received <= 128
    assert run([hostile])[0] == hostile


def test_a_model_that_repeats_itself_gets_so_many_markers_and_no_more() -> None:
    marker_filter = MarkerFilter({1, 2})
    events = marker_filter.feed("Net sales fell " + "[1][2]" * 20_000) + marker_filter.close()
    assert sum(isinstance(event, Marker) for event in events) == MAX_MARKERS
    text = "".join(event.text for event in events if isinstance(event, TextPiece))
    assert text == "Net sales fell " + "[1][2]" * (MAX_MARKERS // 2)
    assert marker_filter.dropped_markers == 40_000 - MAX_MARKERS

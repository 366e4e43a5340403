"""A passage of the stored text is found in what the page itself says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.ingestion.alignment import find_passage, fold


def found(text: str, quote: str, stream: str, *, nth: int = 0) -> str | None:
    """Return what of the stream the nth such quote of the text is."""
    start = -1
    for _ in range(nth + 1):
        start = text.index(quote, start + 1)
    indices = find_passage(text, start, start + len(quote), list(stream))
    return None if indices is None else stream[indices.start : indices.stop]


def test_letters_and_digits_are_what_counts() -> None:
    assert fold("Ça  1–½ ﬁx!").letters == "ca112fix"
    assert fold("e\u0301\u200b").letters == fold("é").letters == "e"
    assert fold("ﬁx").origins == [0, 0, 1]


@pytest.mark.parametrize(
    ("text", "quote", "stream", "expected"),
    [
        (
            "the performance rose",
            "performance",
            "the perfor\x02\r\nmance rose",
            "perfor\x02\r\nmance",
        ),
        ("a well-known case", "well-known", "a well\ufffe\r\nknown case", "well\ufffe\r\nknown"),
        ("first office", "first office", "ﬁrst   oﬃce", "ﬁrst   oﬃce"),
        ("café noir", "café", "cafe\u0301 noir", "cafe"),
        ("Net sales: $ 1,203.5 (in all)", "$ 1,203.5", "Net sales:  $1,203.5(in all)", "$1,203.5"),
        ("He said “no.” Then", "“no.”", "He said “no.” Then", "“no.”"),
        ("Done. Next", "Done.", "Done . Next", "Done ."),
        ("Done. Next", "Done.", "Done Next", "Done"),
        ("שלום עולם", "עולם", "שלום עולם", "עולם"),
    ],
)
def test_a_quote_is_found_however_it_is_set(
    text: str, quote: str, stream: str, expected: str
) -> None:
    assert found(text, quote, stream) == expected


def test_of_several_places_it_is_the_one_with_the_same_words_around_it() -> None:
    # The page begins with a line that the stored text has left out.
    text = "in 2022 sales fell. in 2023 sales fell."
    stream = list("sales fell (draft) in 2022 sales fell. in 2023 sales fell.")
    for start, place in ((8, 27), (28, 47)):
        indices = find_passage(text, start, start + 10, stream)
        assert indices is not None
        assert indices.start == place
        assert "".join(stream[indices.start : indices.stop]) == "sales fell"


def test_of_places_alike_it_is_the_nearest() -> None:
    text = "same words. " * 200
    for nth in (0, 80, 199):
        indices = find_passage(text, 12 * nth, 12 * nth + 11, list(text))
        assert indices == range(12 * nth, 12 * nth + 11)


@pytest.mark.parametrize(("text", "start", "end"), [("– …", 0, 3), ("gone", 0, 4), ("", 0, 0)])
def test_what_is_not_there_is_not_found(text: str, start: int, end: int) -> None:
    assert find_passage(text, start, end, list("other words")) is None


@given(st.text(max_size=60), st.text(max_size=60), st.data())
def test_any_text_is_found_in_itself_or_has_no_letters(
    before: str, quote: str, data: st.DataObject
) -> None:
    text = before + quote + data.draw(st.text(max_size=60))
    indices = find_passage(text, len(before), len(before) + len(quote), list(text))
    if not fold(quote).letters:
        assert indices is None
        return
    assert indices is not None
    found = "".join(text[index] for index in indices)
    assert fold(found).letters == fold(quote).letters

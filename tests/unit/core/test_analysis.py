"""Text -> index terms: what has to be found by what."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.analysis import detect_language, terms_of, to_tsvector, tokenize


def terms(text: str) -> set[str]:
    """The terms of a text that stands alone."""
    tokens = tokenize(text)
    language = detect_language(tokens).name
    return {term for token in tokens for term in terms_of(token, language)}


@pytest.mark.parametrize(
    ("stored", "asked"),
    [
        ("in fiscal 2022", "FY2022"),
        ("in fiscal 2022", "FY22"),
        ("net sales of $ 1,577 million", "1577"),
        ("a gain of (1.50)", "1.5"),
        ("cell 12.50%", "12.5"),
        ("the Company's PP&E", "what is PP&E?"),
        ("3M", "3M's"),
        ("non-GAAP", "non GAAP"),
        ("ﬁnancial", "financial"),
        ("ＦＵＬＬ　ＷＩＤＴＨ １２３", "full width 123"),
        ("STRASSE", "straße"),
        ("İstanbul", "istanbul"),
        ("co\u00adoperate", "cooperate"),
        ("مُحَمَّد", "محمد"),
        ("٢٠٢٢", "2022"),
        ("東京都", "東京"),
        ("서울특별시", "서울"),
        ("ประเทศไทย", "ไทย"),
        ("café", "cafe"),
        ("élections", "elections"),
        ("Ελλάδα", "ΕΛΛΑΔΑ"),
    ],
)
def test_what_is_written_differently_is_found(stored: str, asked: str) -> None:
    found = terms(stored) & terms(asked)
    assert found, (terms(stored), terms(asked))
    assert any(len(term) > 1 for term in found)


@pytest.mark.parametrize(
    ("text", "one", "other"),
    [
        ("The expenditures that they have", "expenditures", "expenditure"),
        ("Die Häuser, die in der Stadt sind und nicht auf dem Land", "häuser", "haus"),
        ("Las elecciones que fueron en los Estados", "elecciones", "elección"),
        ("Ce sont les élections dans les villes qui étaient", "élections", "élection"),
        ("Выборы в городах", "городах", "города"),
    ],
)
def test_words_are_stemmed_by_the_language_of_the_text(text: str, one: str, other: str) -> None:
    language = detect_language(tokenize(text)).name
    assert terms_of(("word", one), language)[0] == terms_of(("word", other), language)[0]


@pytest.mark.parametrize(
    ("text", "name", "is_certain"),
    [
        ("What did they do with the money that was left?", "english", True),
        ("Wer hat das Geld, das noch da war, und warum?", "german", True),
        ("Ce este și când a fost?", "romanian", True),
        ("Bu şehir ne zaman ve nasıl kuruldu?", "turkish", True),
        ("Tesla", "english", False),
        ("2022 1,577", "english", False),
        ("Какой город?", "english", False),
    ],
)
def test_function_words_tell_the_language(text: str, name: str, is_certain: bool) -> None:
    language = detect_language(tokenize(text))
    assert (language.name, language.is_certain) == (name, is_certain)


def test_different_words_do_not_meet() -> None:
    # "state" is a word; that "statement" begins with it is the lighter signal, a term of its own.
    assert "state" not in terms("the statement")
    assert not terms("1,577") & terms("15.77")
    assert "22" not in terms("2022")


def test_fields_are_labelled_and_positions_count() -> None:
    vector = to_tsvector("sales rose, sales fell", title="Annual report", heading="Net sales")
    assert "'sale':1,3,6A" in vector
    assert "'net':5A" in vector
    assert "'report':8B" in vector
    assert "'rose':2" in vector


def test_a_long_text_stays_within_what_a_tsvector_can_hold() -> None:
    vector = to_tsvector(
        "word " * 1000 + "x" * 5000 + " 9" * 20_000, title="T" * 3000, heading=None
    )
    for item in vector.split(" "):
        term, _, positions = item.partition(":")
        places = [int(place.rstrip("AB")) for place in positions.split(",")]
        assert len(term.encode()) < 2046
        assert len(places) <= 255
        assert max(places) <= 16_383


@given(st.text())
def test_any_text_gives_terms_that_need_no_escape(text: str) -> None:
    vector = to_tsvector(text, title=text, heading=text)
    item = r"'[^'\\\s\0]+':\d+[AB]?(?:,\d+[AB]?)*"
    assert re.fullmatch(rf"(?:{item}(?: {item})*)?", vector), vector

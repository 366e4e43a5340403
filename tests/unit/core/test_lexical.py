"""Terms, numbers, weights and the best stretch of a text."""

import pytest

from app.core.lexical import (
    best_stretch,
    find_terms,
    is_ideographic,
    number_keys,
    support,
    term_keys,
    term_weights,
)


@pytest.mark.parametrize(
    ("written", "key"),
    [
        ("$1,577.00", "1577"),
        ("(1,577)", "1577"),
        ("1 577".replace(" ", "\u00a0"), "1577"),
        ("1'577", "1577"),
        ("1.234,50", "1234.5"),
        ("1,234.5", "1234.5"),
        ("1,00,000", "100000"),
        ("5.50%", "5.5"),
        ("0.125", "0.125"),
        ("٣٫٥", "3.5"),
        ("１２", "12"),
        ("$49M", "49"),
        ("2.5x", "2.5"),
        ("2018年", "2018"),
    ],
)
def test_a_number_has_one_key_however_it_is_written(written: str, key: str) -> None:
    assert number_keys(f"about {written} of it") == {key}


@pytest.mark.parametrize("name", ["3M", "10-K", "COVID-19", "FY2018", "5G"])
def test_digits_in_names_are_no_numbers(name: str) -> None:
    assert number_keys(f"the {name} report") == set()


def test_a_fiscal_year_is_about_its_year() -> None:
    assert "2018" in term_keys("in FY2018")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("acquisitions", "Acquisition"),
        ("COMPANIES", "company"),
        ("operating", "operations"),
        ("Straße", "STRASSE"),
        ("المدينة", "مدينة"),
        ("हिन्दी", "हिन्दी"),
    ],
)
def test_forms_of_a_word_share_a_term(one: str, other: str) -> None:
    assert term_keys(one) == term_keys(other) != set()


def test_scripts_without_spaces_give_overlapping_terms_with_offsets() -> None:
    text = "在东京都 ok"
    assert [(t.key, text[t.start : t.end]) for t in find_terms(text)] == [
        ("在东", "在东"),
        ("东京", "东京"),
        ("京都", "京都"),
        ("ok", "ok"),
    ]
    assert is_ideographic("東京はどこですか？")
    assert not is_ideographic("Where is 東京?")


def test_rare_terms_weigh_more_and_function_words_next_to_nothing() -> None:
    texts = [{"sale", "the"}, {"sale", "profit", "the"}, {"sale", "the"}]
    weights = term_weights({"sale", "profit", "the"}, texts)
    assert weights["profit"] > weights["sale"] > weights["the"]
    assert support(weights, {"profit", "sale", "the"}) == 1
    assert support(weights, ()) == 0
    assert support({}, {"profit"}) == 0


def test_the_best_stretch_is_the_part_with_the_weight_cut_at_a_word() -> None:
    text = (
        "filler words go on " * 30 + "net sales rose to 42, while costs fell " + "and so on " * 30
    )
    weights = dict.fromkeys(term_keys("net sales 42 costs fell"), 1.0)
    start, end = best_stretch(text, 0, len(text), weights=weights, max_length=80)
    assert end - start <= 80
    assert "net sales rose to 42, while costs fell" in text[start:end]
    assert text[start:end] == text[start:end].strip()
    assert best_stretch(text, 5, 60, weights=weights, max_length=80) == (5, 60)


def test_a_stretch_without_any_weight_or_space_is_the_beginning() -> None:
    assert best_stretch("字" * 500, 0, 500, weights={}, max_length=300) == (0, 300)


def test_a_word_longer_than_the_stretch_is_cut() -> None:
    assert best_stretch("a" * 500, 0, 500, weights={"aaaaaa": 1.0}, max_length=300) == (0, 300)


def test_text_without_spaces_goes_on_behind_a_number() -> None:
    terms = find_terms("于1943年在纽约")
    assert [(term.key, term.start, term.end) for term in terms] == [
        ("于", 0, 1),
        ("1943", 1, 5),
        ("年在", 5, 7),
        ("在纽", 6, 8),
        ("纽约", 7, 9),
    ]
    assert term_keys("于1943年在纽约") == {term.key for term in terms}

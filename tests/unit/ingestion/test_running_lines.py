"""Running headers and footers: what comes back on page after page is no part of the body."""

import pytest

from app.ingestion.running_lines import RunningLines

WORDS = ("first", "second", "third", "fourth", "fifth", "last")


def bodies(texts: list[str]) -> list[str]:
    found = RunningLines().find_bodies(texts, [()] * len(texts), first_number=1)
    return [text[start:end].strip("\n") for text, (start, end) in zip(texts, found, strict=True)]


def page(number: int) -> str:
    letter = chr(96 + number)
    return "\n".join(f"Subject {letter}: {word} things are said." for word in WORDS)


def test_headers_footers_and_page_numbers_are_left_out() -> None:
    texts = [f"Annual Report 2018\n{page(n)}\nAcme Corporation\n{n + 2}" for n in range(1, 9)]
    assert bodies(texts) == [page(n) for n in range(1, 9)]


@pytest.mark.parametrize(
    "form",
    [
        "{}",
        "- {} -",
        "Page {} of 9",
        "F-{}",
        "[{}]",
        "Seite {}",
        "{} | Acme",
        "Acme {}",
        "Acme | Page {} of 9",
    ],
)
def test_page_numbers_come_in_many_forms(form: str) -> None:
    texts = [f"{page(n)}\n{form.format(n)}" for n in range(1, 8)]
    assert bodies(texts) == [page(n) for n in range(1, 8)]


def test_left_and_right_pages_may_have_different_headers() -> None:
    texts = [f"{n} Title of the book\n{page(n)}" for n in range(2, 10, 2)]
    texts += [f"Title of the chapter {n}\n{page(n)}" for n in range(3, 11, 2)]
    texts.sort(key=lambda text: int(next(word for word in text.split() if word.isdigit())))
    found = RunningLines().find_bodies(texts, [()] * len(texts), first_number=2)
    assert [start > 0 for start, _ in found] == [True] * 8


def test_a_document_of_two_pages_has_none() -> None:
    texts = [f"Annual Report\n{page(n)}\n{n}" for n in (1, 2)]
    assert bodies(texts) == texts


def test_what_ran_in_one_window_runs_in_the_next() -> None:
    texts = [f"Annual Report\n{page(n)}\n{n}" for n in range(1, 12)]
    running = RunningLines()
    running.find_bodies(texts[:10], [()] * 10, first_number=1)
    ((start, end),) = running.find_bodies(texts[10:], [()], first_number=11)
    assert texts[10][start:end].strip("\n") == page(11)


def test_a_page_keeps_all_rather_than_lose_every_letter() -> None:
    texts = ["Annual Report\n5", "Annual Report\n6", "Annual Report\n7", "8"]
    assert bodies(texts) == texts


def test_titles_rows_and_figures_that_come_back_stay() -> None:
    texts = [page(n) for n in range(1, 21)]
    for n in (3, 5, 7, 9):
        texts[n] = f"Condensed Statement of Earnings\n{texts[n]}\n2018"
    for n in range(10, 20):
        texts[n] += f"\nWorldwide {n} {n + 1},000"
    assert bodies(texts) == texts


def test_a_title_that_counts_like_the_pages_is_no_page_number() -> None:
    texts = [f"Lesson {n}\n{page(n)}\n{n}" for n in range(1, 9)]
    titles = [(f"Lesson {n}",) for n in range(1, 9)]
    found = RunningLines().find_bodies(texts, titles, first_number=1)
    assert [start for start, _ in found] == [0] * 8
    kept = [text[:end].strip() for text, (_, end) in zip(texts, found, strict=True)]
    assert kept == [f"Lesson {n}\n{page(n)}" for n in range(1, 9)]


def test_lines_that_differ_in_their_figures_only_stay() -> None:
    texts = [f"Invoice 10{n * n}\nof May {n * n}\n{page(n)}\nTotal {n * n}" for n in range(1, 9)]
    assert bodies(texts) == texts


def test_text_far_from_the_edge_stays() -> None:
    texts = [f"{page(n)}\nThe same words.\n{page(n)}\n{page(n)}" for n in range(1, 9)]
    assert bodies(texts) == texts

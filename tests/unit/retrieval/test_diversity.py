from dataclasses import dataclass
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from app.retrieval.base import Candidate
from app.retrieval.diversity import MAX_CHUNKS_PER_PAGE, Choice, choose
from app.retrieval.trace import Cut

SAME = "net sales rose by five per cent in the year under review because of higher prices in europe"


@dataclass(frozen=True)
class Passage:
    number: int
    page: int
    text: str
    document: int

    @property
    def page_key(self) -> tuple[int, int]:
        return self.document, self.page


def passage(number: int, page: int, text: str = "", document: int = 1) -> Passage:
    words = text or f"passage {number} has words of its own {number * 7} {number * 11}"
    return Passage(number, page, words, document)


def choose_from(ranked: list[Passage], top_k: int) -> Choice:
    candidates = [Candidate(UUID(int=p.number), 1 / p.number) for p in ranked]
    return choose(candidates, top_k, {UUID(int=p.number): p for p in ranked})


def numbers(candidates: list[Candidate]) -> list[int]:
    return [candidate.chunk_id.int for candidate in candidates]


def test_one_page_gets_three_places() -> None:
    ranked = [passage(n, page=1) for n in range(1, 6)] + [passage(6, page=2), passage(7, page=3)]
    choice = choose_from(ranked, 5)
    chosen, cuts = choice.chosen, choice.cuts
    assert numbers(chosen) == [1, 2, 3, 6, 7]
    assert cuts == {UUID(int=4): Cut.SAME_PAGE, UUID(int=5): Cut.SAME_PAGE}


def test_the_same_page_of_another_document_is_another_page() -> None:
    ranked = [passage(n, page=1, document=n) for n in range(1, 6)]
    assert numbers(choose_from(ranked, 5).chosen) == [1, 2, 3, 4, 5]


def test_the_same_text_gets_one_place() -> None:
    ranked = [passage(1, 1, SAME), passage(2, 2, SAME.upper()), passage(3, 3)]
    choice = choose_from(ranked, 2)
    chosen, cuts = choice.chosen, choice.cuts
    assert numbers(chosen) == [1, 3]
    assert cuts == {UUID(int=2): Cut.NEAR_DUPLICATE}


def test_tables_with_other_figures_are_no_duplicates() -> None:
    rows = "Net sales {} {} Cost of sales {} {} Gross profit {} {}"
    ranked = [
        passage(1, 1, rows.format(10, 11, 12, 13, 14, 15)),
        passage(2, 2, rows.format(20, 21, 22, 23, 24, 25)),
    ]
    assert numbers(choose_from(ranked, 2).chosen) == [1, 2]


def test_places_are_filled_rather_than_left_empty() -> None:
    ranked = [passage(n, page=1) for n in range(1, 6)] + [passage(6, 2, SAME), passage(7, 3, SAME)]
    choice = choose_from(ranked, 6)
    chosen, cuts = choice.chosen, choice.cuts
    assert numbers(chosen) == [1, 2, 3, 4, 5, 6]
    assert cuts == {UUID(int=7): Cut.NEAR_DUPLICATE}
    assert numbers(choose_from(ranked, 7).chosen) == [1, 2, 3, 4, 5, 6, 7]


@given(pages=st.lists(st.integers(1, 4), max_size=25), top_k=st.integers(1, 30))
def test_there_are_as_many_as_there_can_be_in_the_order_given(pages: list[int], top_k: int) -> None:
    ranked = [passage(n, page) for n, page in enumerate(pages, start=1)]
    choice = choose_from(ranked, top_k)
    chosen, cuts = choice.chosen, choice.cuts
    assert len(chosen) == min(top_k, len(ranked))
    assert numbers(chosen) == sorted(numbers(chosen))
    assert not {c.chunk_id for c in chosen} & cuts.keys()
    spare = sum(min(pages.count(page), MAX_CHUNKS_PER_PAGE) for page in set(pages))
    if top_k <= spare:
        assert all(
            sum(pages[number - 1] == page for number in numbers(chosen)) <= MAX_CHUNKS_PER_PAGE
            for page in set(pages)
        )

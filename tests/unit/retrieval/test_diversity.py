from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from app.models.spans import Span
from app.retrieval.base import RankedChunk
from app.retrieval.diversity import MAX_CHUNKS_PER_PAGE, Choice, choose
from app.retrieval.trace import Cut

SAME = "net sales rose by five per cent in the year under review because of higher prices in europe"


def chunk(number: int, page: int, text: str = "", document: int = 1) -> RankedChunk:
    return RankedChunk(
        chunk_id=UUID(int=number),
        document_id=UUID(int=document),
        filename="report.pdf",
        ordinal=number,
        text=text or f"passage {number} has words of its own {number * 7} {number * 11}",
        spans=(Span(page, 0, 10),),
        heading=None,
        score=1 / number,
        similarity=None,
    )


def choose_by_page(ranked: list[RankedChunk], top_k: int) -> Choice:
    return choose(ranked, top_k, {c.chunk_id: (c.document_id, c.page_start) for c in ranked})


def numbers(chunks: list[RankedChunk]) -> list[int]:
    return [c.chunk_id.int for c in chunks]


def test_one_page_gets_three_places() -> None:
    ranked = [chunk(n, page=1) for n in range(1, 6)] + [chunk(6, page=2), chunk(7, page=3)]
    choice = choose_by_page(ranked, 5)
    assert choice.is_diverse
    chosen, cuts = choice.chunks, choice.cuts
    assert numbers(chosen) == [1, 2, 3, 6, 7]
    assert cuts == {UUID(int=4): Cut.SAME_PAGE, UUID(int=5): Cut.SAME_PAGE}


def test_the_same_page_of_another_document_is_another_page() -> None:
    ranked = [chunk(n, page=1, document=n) for n in range(1, 6)]
    assert numbers(choose_by_page(ranked, 5).chunks) == [1, 2, 3, 4, 5]


def test_the_same_text_gets_one_place() -> None:
    ranked = [chunk(1, 1, SAME), chunk(2, 2, SAME.upper()), chunk(3, 3)]
    choice = choose_by_page(ranked, 2)
    chosen, cuts = choice.chunks, choice.cuts
    assert numbers(chosen) == [1, 3]
    assert cuts == {UUID(int=2): Cut.NEAR_DUPLICATE}


def test_tables_with_other_figures_are_no_duplicates() -> None:
    rows = "Net sales {} {} Cost of sales {} {} Gross profit {} {}"
    ranked = [
        chunk(1, 1, rows.format(10, 11, 12, 13, 14, 15)),
        chunk(2, 2, rows.format(20, 21, 22, 23, 24, 25)),
    ]
    assert numbers(choose_by_page(ranked, 2).chunks) == [1, 2]


def test_places_are_filled_rather_than_left_empty() -> None:
    ranked = [chunk(n, page=1) for n in range(1, 6)] + [chunk(6, 2, SAME), chunk(7, 3, SAME)]
    choice = choose_by_page(ranked, 6)
    assert not choice.is_diverse
    chosen, cuts = choice.chunks, choice.cuts
    assert numbers(chosen) == [1, 2, 3, 4, 5, 6]
    assert cuts == {UUID(int=7): Cut.NEAR_DUPLICATE}
    assert numbers(choose_by_page(ranked, 7).chunks) == [1, 2, 3, 4, 5, 6, 7]


@given(pages=st.lists(st.integers(1, 4), max_size=25), top_k=st.integers(1, 30))
def test_there_are_as_many_as_there_can_be_in_the_order_given(pages: list[int], top_k: int) -> None:
    ranked = [chunk(n, page) for n, page in enumerate(pages, start=1)]
    choice = choose_by_page(ranked, top_k)
    chosen, cuts = choice.chunks, choice.cuts
    assert len(chosen) == min(top_k, len(ranked))
    assert numbers(chosen) == sorted(numbers(chosen))
    assert not {c.chunk_id for c in chosen} & cuts.keys()
    spare = sum(min(pages.count(page), MAX_CHUNKS_PER_PAGE) for page in set(pages))
    if top_k <= spare:
        assert all(
            sum(c.page_start == page for c in chosen) <= MAX_CHUNKS_PER_PAGE for page in set(pages)
        )

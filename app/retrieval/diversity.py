"""Which of the ranked chunks are worth a place: not four of one page, not the same text twice."""

from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from app.retrieval.base import Candidate
from app.retrieval.trace import Cut

MAX_CHUNKS_PER_PAGE = 3
# Shared words of all words of two chunks. Tables of two years share fewer: their figures differ.
DUPLICATE_OVERLAP = 0.9


class Comparable(Protocol):
    """What tells whether two chunks repeat each other."""

    @property
    def page_key(self) -> Hashable: ...

    @property
    def text(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Choice:
    """`cuts` says why chunks before the last one are out."""

    chosen: list[Candidate]
    cuts: dict[UUID, Cut]


def choose(ranked: Sequence[Candidate], top_k: int, passages: Mapping[UUID, Comparable]) -> Choice:
    """Choose `top_k` of the ranked chunks, in their order.

    At most MAX_CHUNKS_PER_PAGE are of one page, and near-duplicates of a better chunk are left out,
    as long as there are other chunks to fill the places.
    """
    chosen: list[Candidate] = []
    cuts: dict[UUID, Cut] = {}
    pages: defaultdict[Hashable, int] = defaultdict(int)
    words: list[frozenset[str]] = []
    for candidate in ranked:
        if len(chosen) == top_k:
            break
        passage = passages[candidate.chunk_id]
        page = passage.page_key
        if pages[page] == MAX_CHUNKS_PER_PAGE:
            cuts[candidate.chunk_id] = Cut.SAME_PAGE
            continue
        own = frozenset(passage.text.casefold().split())
        if any(_is_duplicate(own, other) for other in words):
            cuts[candidate.chunk_id] = Cut.NEAR_DUPLICATE
        else:
            chosen.append(candidate)
            pages[page] += 1
            words.append(own)
    if len(chosen) < top_k and cuts:
        _fill_up(chosen, ranked, cuts, top_k)
    return Choice(chosen, cuts)


def _fill_up(
    chosen: list[Candidate], ranked: Sequence[Candidate], cuts: dict[UUID, Cut], top_k: int
) -> None:
    """Take back cuts for the places that would stay empty."""
    for candidate in list(_second_choice(ranked, cuts, top_k - len(chosen))):
        chosen.append(candidate)
        del cuts[candidate.chunk_id]
    ranks = {candidate.chunk_id: rank for rank, candidate in enumerate(ranked)}
    chosen.sort(key=lambda candidate: ranks[candidate.chunk_id])


def _second_choice(
    ranked: Sequence[Candidate], cuts: dict[UUID, Cut], count: int
) -> Iterator[Candidate]:
    """Yield what fills places that would stay empty: other chunks of a page before duplicates."""
    for reason in (Cut.SAME_PAGE, Cut.NEAR_DUPLICATE):
        for candidate in ranked:
            if count > 0 and cuts.get(candidate.chunk_id) is reason:
                count -= 1
                yield candidate


def _is_duplicate(one: frozenset[str], other: frozenset[str]) -> bool:
    if not one or not other:
        return one == other
    # Sets of very different sizes can't share enough: cheaper than an intersection.
    if min(len(one), len(other)) < DUPLICATE_OVERLAP * max(len(one), len(other)):
        return False
    return len(one & other) >= DUPLICATE_OVERLAP * len(one | other)

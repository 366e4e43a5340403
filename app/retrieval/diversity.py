"""Which of the ranked chunks are worth a place: not four of one page, not the same text twice."""

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from app.retrieval.base import RankedChunk
from app.retrieval.trace import Cut

MAX_CHUNKS_PER_PAGE = 3
# Shared words of all words of two chunks. Tables of two years share fewer: their figures differ.
DUPLICATE_OVERLAP = 0.9


@dataclass(frozen=True, slots=True)
class Choice:
    """`cuts` says why chunks before the last one are out. `is_diverse` is False where places were
    left over and filled with what repeats others."""

    chunks: list[RankedChunk]
    cuts: dict[UUID, Cut]
    is_diverse: bool


def choose(ranked: Sequence[RankedChunk], top_k: int, places: Mapping[UUID, Hashable]) -> Choice:
    """Choose `top_k` of the ranked chunks, in their order.

    At most MAX_CHUNKS_PER_PAGE are of one page, which `places` tells, and near-duplicates of a
    better chunk are left out, as long as there are other chunks to fill the places.
    """
    chosen: list[RankedChunk] = []
    cuts: dict[UUID, Cut] = {}
    pages: Counter[Hashable] = Counter()
    words: list[frozenset[str]] = []
    for chunk in ranked:
        if len(chosen) == top_k:
            break
        page = places[chunk.chunk_id]
        if pages[page] == MAX_CHUNKS_PER_PAGE:
            cuts[chunk.chunk_id] = Cut.SAME_PAGE
            continue
        own = frozenset(chunk.text.casefold().split())
        if any(_is_duplicate(own, other) for other in words):
            cuts[chunk.chunk_id] = Cut.NEAR_DUPLICATE
        else:
            chosen.append(chunk)
            pages[page] += 1
            words.append(own)
    is_diverse = len(chosen) == top_k
    for chunk in list(_second_choice(ranked, cuts, top_k - len(chosen))):
        chosen.append(chunk)
        del cuts[chunk.chunk_id]
    ranks = {chunk.chunk_id: rank for rank, chunk in enumerate(ranked)}
    chosen.sort(key=lambda chunk: ranks[chunk.chunk_id])
    return Choice(chosen, cuts, is_diverse)


def _second_choice(
    ranked: Sequence[RankedChunk], cuts: dict[UUID, Cut], count: int
) -> Iterator[RankedChunk]:
    """Yield what fills places that would stay empty: other chunks of a page before duplicates."""
    for reason in (Cut.SAME_PAGE, Cut.NEAR_DUPLICATE):
        for chunk in ranked:
            if count > 0 and cuts.get(chunk.chunk_id) is reason:
                count -= 1
                yield chunk


def _is_duplicate(one: frozenset[str], other: frozenset[str]) -> bool:
    if not one or not other:
        return one == other
    # Sets of very different sizes can't share enough: cheaper than an intersection.
    if min(len(one), len(other)) < DUPLICATE_OVERLAP * max(len(one), len(other)):
        return False
    return len(one & other) >= DUPLICATE_OVERLAP * len(one | other)

"""What one question's ranks are worth: hit@k, reciprocal rank, nDCG@10.

A question has some relevant items (pages, passages, documents), and a stage finds each of them at
a rank from 1, or not at all. Two items may share a rank: one chunk can cover two pages.
"""

from collections.abc import Callable, Sequence
from math import log2

DEPTH = 10

Ranks = Sequence[int]
Measure = Callable[[Ranks, int], float]


def hit(ranks: Ranks, k: int) -> float:
    """Return 1 if a relevant item is among the first k, else 0."""
    return float(any(rank <= k for rank in ranks))


def reciprocal_rank(ranks: Ranks, depth: int = DEPTH) -> float:
    """Return 1 / rank of the first relevant item; 0 beyond `depth` (Voorhees, TREC-8, 1999)."""
    best = min(ranks, default=depth + 1)
    return 1 / best if best <= depth else 0.0


def ndcg(ranks: Ranks, relevant: int, depth: int = DEPTH) -> float:
    """Return nDCG with a gain of 1 for each of the `relevant` items.

    The sum of 1 / log2(rank + 1) over what was found in the first `depth`, divided by the same sum
    for the best possible ranking (Jaervelin and Kekaelaeinen, TOIS 20, 2002). At most 1, also where
    items share a rank.
    """
    gain = sum(1 / log2(rank + 1) for rank in ranks if rank <= depth)
    best = sum(1 / log2(rank + 1) for rank in range(1, min(relevant, depth) + 1))
    return min(gain / best, 1.0) if best else 0.0


MEASURES: dict[str, Measure] = {
    "hit@1": lambda ranks, relevant: hit(ranks, 1),
    "hit@5": lambda ranks, relevant: hit(ranks, 5),
    "hit@10": lambda ranks, relevant: hit(ranks, 10),
    f"MRR@{DEPTH}": lambda ranks, relevant: reciprocal_rank(ranks),
    f"nDCG@{DEPTH}": ndcg,
}

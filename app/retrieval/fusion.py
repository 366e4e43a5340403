"""Several rankings into one, by reciprocal rank (Cormack, Clarke and Buettcher, SIGIR 2009)."""

from collections.abc import Mapping, Sequence
from uuid import UUID

from app.retrieval.base import Candidate

# How slowly the weight of a rank falls. The paper's 60 suits long rankings of many systems; with
# two, of 50 each, `bench.quality` finds more with 10.
RRF_K = 10


def fuse(
    rankings: Mapping[str, Sequence[Candidate]], weights: Mapping[str, float]
) -> list[Candidate]:
    """Return every candidate once, best first, by the weighted sum of 1 / (RRF_K + rank).

    Scores are divided by the best possible sum, so that 1 means first in every ranking.
    """
    scores: dict[UUID, float] = {}
    for name, candidates in rankings.items():
        for rank, candidate in enumerate(candidates, start=1):
            share = weights[name] / (RRF_K + rank)
            scores[candidate.chunk_id] = scores.get(candidate.chunk_id, 0.0) + share
    best = sum(weights[name] for name in rankings) / (RRF_K + 1)
    fused = [Candidate(chunk_id, score / best) for chunk_id, score in scores.items()]
    return sorted(fused, key=lambda candidate: (-candidate.score, candidate.chunk_id))

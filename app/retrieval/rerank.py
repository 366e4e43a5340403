"""The last word on the order: the best candidates, ordered again by a model that reads them."""

from collections.abc import Mapping, Sequence
from uuid import UUID

import structlog

from app.core.errors import ProviderError
from app.llm.breaker import OUTAGES
from app.llm.metering import UNMETERED, CallMeter
from app.llm.rerankers import MAX_TEXTS, Reranker
from app.retrieval.base import Candidate
from app.retrieval.fallback import fallback_reason
from app.retrieval.loading import Passage
from app.retrieval.trace import StepOutcome, Trace

log = structlog.get_logger()

STEP = "rerank"
STAGE = "reranked"


async def rerank(
    reranker: Reranker | None,
    query: str,
    ranked: Sequence[Candidate],
    passages: Mapping[UUID, Passage],
    trace: Trace,
    *,
    model: str | None = None,
    meter: CallMeter = UNMETERED,
) -> list[Candidate]:
    """Return the candidates with the best MAX_TEXTS in the reranker's order, the rest behind them.

    The reranker decides the order and nothing else. Its relevance is no probability (each model has
    its own scale), so the scores stay those of the plain ranking, dealt out anew from the top: they
    fall as they did before, and say of a place what they said. Without a reranker, or when it is
    slow or down, the order stays. The trace says what happened; its stage `reranked` holds the
    relevances. Never raises ProviderError.
    """
    if reranker is None or not ranked:
        return list(ranked)
    best, rest = ranked[:MAX_TEXTS], ranked[MAX_TEXTS:]
    texts = [_text(passages[candidate.chunk_id]) for candidate in best]
    try:
        relevances = await reranker.rerank(query, texts, meter=meter, model=model)
    except ProviderError as error:
        reason = fallback_reason(error)
        if error.kind not in OUTAGES:  # the breaker logs those, once
            log.warning("reranking_fell_back", reranker=reranker.name, kind=error.kind.value)
        trace.note(STEP, StepOutcome.FELL_BACK, reason)
        return list(ranked)
    # The sort is stable: what the reranker finds equal keeps its place.
    order = sorted(range(len(best)), key=lambda index: -relevances[index])
    trace.note(STEP, StepOutcome.DONE)
    trace.place(STAGE, [Candidate(best[index].chunk_id, relevances[index]) for index in order])
    scores = sorted((candidate.score for candidate in best), reverse=True)
    reranked = [
        Candidate(best[index].chunk_id, score) for index, score in zip(order, scores, strict=True)
    ]
    return [*reranked, *rest]


def _text(passage: Passage) -> str:
    """Return what a reranker reads: the text under the names of its document and section."""
    title = " – ".join(name for name in (passage.filename, passage.heading) if name)
    return f"{title}\n{passage.text}"

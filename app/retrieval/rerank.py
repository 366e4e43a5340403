"""The last word on the order: the best candidates, ordered again by a model that reads them."""

from collections.abc import Sequence
from dataclasses import replace

import structlog

from app.core.errors import ProviderError
from app.llm.breaker import OUTAGES
from app.llm.rerankers import MAX_TEXTS, Reranker
from app.retrieval.base import Candidate, RankedChunk
from app.retrieval.fallback import fallback_reason
from app.retrieval.trace import StepOutcome, Trace

log = structlog.get_logger()

STEP = "rerank"
STAGE = "reranked"


async def rerank(
    reranker: Reranker | None,
    query: str,
    chunks: Sequence[RankedChunk],
    trace: Trace,
    *,
    model: str | None = None,
) -> list[RankedChunk]:
    """Return the chunks with the best MAX_TEXTS in the reranker's order, the rest behind them.

    The reranker decides the order and nothing else. Its relevance is no probability (each model has
    its own scale), so the scores stay those of the plain ranking, dealt out anew from the top: they
    fall as they did before, and say of a place what they said. Without a reranker, or when it is
    slow or down, the order stays. The trace says what happened; its stage `reranked` holds the
    relevances. Never raises ProviderError.
    """
    if reranker is None or not chunks:
        return list(chunks)
    best, rest = chunks[:MAX_TEXTS], chunks[MAX_TEXTS:]
    try:
        relevances = await reranker.rerank(query, [_passage(c) for c in best], model=model)
    except ProviderError as error:
        reason = fallback_reason(error)
        if error.kind not in OUTAGES:  # the breaker logs those, once
            log.warning("reranking_fell_back", reranker=reranker.name, kind=error.kind.value)
        trace.note(STEP, StepOutcome.FELL_BACK, reason)
        return list(chunks)
    # The sort is stable: what the reranker finds equal keeps its place.
    order = sorted(range(len(best)), key=lambda index: -relevances[index])
    trace.note(STEP, StepOutcome.DONE)
    trace.place(STAGE, [Candidate(best[index].chunk_id, relevances[index]) for index in order])
    scores = sorted((chunk.score for chunk in best), reverse=True)
    reranked = [
        replace(best[index], score=score) for index, score in zip(order, scores, strict=True)
    ]
    return [*reranked, *rest]


def _passage(chunk: RankedChunk) -> str:
    """Return what a reranker reads: the text under the names of its document and section."""
    title = " – ".join(name for name in (chunk.filename, chunk.heading) if name)
    return f"{title}\n{chunk.text}"

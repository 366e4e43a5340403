"""How an answer came about, as it is stored: ids and figures, no text of documents, no names."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from app.chat.assembly import TokenBudget
from app.chat.injection import find_injections
from app.chat.safe_text import Removed
from app.llm.attempts import Attempt
from app.llm.base import Source, Usage
from app.retrieval.base import RankedChunk
from app.retrieval.pipeline import Retrieval
from app.retrieval.trace import TracedCandidate


@dataclass(slots=True)
class AnswerTrace:
    """Filled while the answer is made. `attempts` are the models that were tried, in order.

    `budget` is what the tokens of the last one's prompt were spent on.
    """

    retrieval: Retrieval | None
    sources: Sequence[tuple[Source, RankedChunk]]
    budget: TokenBudget
    attempts: Sequence[Attempt] = ()
    timings_ms: dict[str, float] = field(default_factory=dict)
    _end: dict[str, Any] = field(default_factory=dict)
    _shown_sources: list[dict[str, Any]] | None = None

    def show(self, sources: Sequence[tuple[Source, RankedChunk]], budget: TokenBudget) -> None:
        """Note what the model is shown that is asked now."""
        self.sources, self.budget = sources, budget
        self._shown_sources = None

    def conclude(
        self,
        *,
        elapsed_s: float,
        usage: Usage,
        cost_usd: str | None,
        dropped_markers: int,
        removed: Removed,
    ) -> None:
        """`dropped_markers` and `removed` are what was taken out of the model's words."""
        self.timings_ms["total"] = 1000 * elapsed_s
        self._end = {
            "usage": {
                "input_tokens": usage.input_tokens,
                "output_tokens": usage.output_tokens,
                "estimated": usage.is_estimated,
            },
            "cost_usd": cost_usd,
            "dropped_markers": dropped_markers,
            "removed": asdict(removed),
        }

    def to_json(self) -> dict[str, Any]:
        if self._shown_sources is None:  # to look through them takes milliseconds
            self._shown_sources = [_source(source, chunk) for source, chunk in self.sources]
        return {
            "retrieval": None if self.retrieval is None else _retrieval(self.retrieval),
            "sources": self._shown_sources,
            "prompt": {**asdict(self.budget), "total": self.budget.total},
            "attempts": [_attempt(attempt) for attempt in self.attempts],
            "timings_ms": {name: round(value, 3) for name, value in self.timings_ms.items()},
            **self._end,
        }


def _attempt(attempt: Attempt) -> dict[str, Any]:
    """`outcome` is "completed", "skipped" for a model that is known to fail, or an error's code."""
    return {
        "provider": attempt.candidate.provider.name,
        "model": attempt.candidate.model_id,
        "outcome": attempt.outcome,
        "ms": round(attempt.elapsed_ms, 3),
    }


def _retrieval(found: Retrieval) -> dict[str, Any]:
    trace = found.trace
    return {
        "asked": trace.asked,
        "question": found.question,
        "queries": trace.queries,
        "phrases": trace.phrases,
        "steps": [
            {"name": step.name, "outcome": step.outcome, "reason": step.reason}
            for step in trace.steps
        ],
        "plan": trace.plan,
        "space_id": trace.space_id,
        "answerability": found.answerability,
        "is_answerable": found.is_answerable,
        "timings_ms": {name: round(value, 3) for name, value in trace.timings_ms.items()},
        "candidates": [_candidate(each) for each in trace.candidates.values()],
    }


def _candidate(candidate: TracedCandidate) -> dict[str, Any]:
    return {
        "chunk_id": str(candidate.chunk_id),
        "document_id": str(candidate.document_id),
        "chunk_index": candidate.ordinal,
        "page_start": candidate.page_start,
        "page_end": candidate.page_end,
        "similarity": candidate.similarity,
        "fulltext": candidate.fulltext,
        "places": {
            stage: {"rank": place.rank, "score": place.score}
            for stage, place in candidate.places.items()
        },
        "cut": candidate.cut,
    }


def _source(source: Source, chunk: RankedChunk) -> dict[str, Any]:
    """`suspicious` names the known patterns of prompt injection that stand in the passage."""
    return {
        "n": source.n,
        "chunk_id": str(chunk.chunk_id),
        "document_id": str(chunk.document_id),
        "suspicious": list(find_injections(chunk.text)),
    }

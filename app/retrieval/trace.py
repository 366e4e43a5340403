"""What retrieval did for one question: queries, candidates by stage, what was cut, timings."""

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from uuid import UUID

from app.retrieval.base import Candidate


class StepOutcome(StrEnum):
    """`FELL_BACK`: the step was slow or failed, and the plain way was taken in its place."""

    DONE = "done"
    SKIPPED = "skipped"
    FELL_BACK = "fell_back"


class Cut(StrEnum):
    """Why a candidate is not among the results."""

    BELOW_TOP_K = "below_top_k"
    SAME_PAGE = "same_page"
    NEAR_DUPLICATE = "near_duplicate"


@dataclass(frozen=True, slots=True)
class Step:
    """A step that may be left out. `reason` is a short code, never text of a document or model."""

    name: str
    outcome: StepOutcome
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a stage put a candidate: `rank` from 1, and the stage's own score."""

    rank: int
    score: float


@dataclass(slots=True)
class TracedCandidate:
    """`places` by stage, in the order of the stages: dense, fulltext, fused, reranked.

    `similarity` and `fulltext` are what the fused place is made of: see `fusion.Evidence`.
    """

    chunk_id: UUID
    document_id: UUID
    filename: str
    ordinal: int
    page_start: int
    page_end: int
    similarity: float | None
    fulltext: float
    places: dict[str, Place] = field(default_factory=dict)
    cut: Cut | None = None


@dataclass(slots=True)
class Trace:
    """Filled while a question is answered. `queries` are what was searched, the main one first;
    `phrases` are other names of what is asked for, which were searched with it.

    Timings are in milliseconds, by step. `plan` is how the dense stage searched: exact, hnsw, or
    none where nothing was embedded in the space. `candidates` are in the order of the fused stage.
    """

    asked: str
    queries: list[str] = field(default_factory=list)
    phrases: list[str] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    candidates: dict[UUID, TracedCandidate] = field(default_factory=dict)
    timings_ms: dict[str, float] = field(default_factory=dict)
    plan: str = "none"
    space_id: int | None = None
    _rankings: dict[str, Sequence[Candidate]] = field(default_factory=dict)

    def begin(self, queries: Sequence[str], phrases: Sequence[str], space_id: int | None) -> None:
        """Start over: what was traced of an earlier search no longer counts, but its time does."""
        self.queries, self.phrases, self.space_id = list(queries), list(phrases), space_id
        self.candidates, self._rankings = {}, {}

    def note(self, name: str, outcome: StepOutcome, reason: str | None = None) -> None:
        self.steps.append(Step(name, outcome, reason))

    def place(self, stage: str, ranking: Sequence[Candidate]) -> None:
        """Keep the ranking of a stage; of several queries, that of the main one."""
        self._rankings.setdefault(stage, ranking)

    def finish(self, results: Collection[UUID], cuts: Mapping[UUID, Cut]) -> None:
        """Write the places into the candidates, and why those that are no results were cut."""
        for stage, ranking in self._rankings.items():
            for rank, candidate in enumerate(ranking, start=1):
                if traced := self.candidates.get(candidate.chunk_id):
                    traced.places[stage] = Place(rank, candidate.score)
        for traced in self.candidates.values():
            if traced.chunk_id not in results:
                traced.cut = cuts.get(traced.chunk_id, Cut.BELOW_TOP_K)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Add what the block takes to the timing of `name`."""
        started = time.perf_counter()
        try:
            yield
        finally:
            elapsed_ms = (time.perf_counter() - started) * 1000
            self.timings_ms[name] = self.timings_ms.get(name, 0.0) + elapsed_ms

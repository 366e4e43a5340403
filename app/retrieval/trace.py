"""What retrieval did for one question: queries, candidates by stage, what was cut, timings."""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
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
    none where nothing was embedded in the space, or the question could not be. `candidates` are in
    the order of the fused stage; they are made when they are first asked for.
    """

    asked: str
    queries: list[str] = field(default_factory=list)
    phrases: list[str] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    timings_ms: dict[str, float] = field(default_factory=dict)
    plan: str = "none"
    space_id: int | None = None
    _rankings: dict[str, Sequence[Candidate]] = field(default_factory=dict)
    _describe: Callable[[], Iterable[TracedCandidate]] = tuple
    _results: Collection[UUID] = ()
    _cuts: Mapping[UUID, Cut] = field(default_factory=dict)
    _candidates: dict[UUID, TracedCandidate] | None = None

    @property
    def candidates(self) -> Mapping[UUID, TracedCandidate]:
        if self._candidates is None:
            self._candidates = self._make_candidates()
        return self._candidates

    def begin(self, queries: Sequence[str], phrases: Sequence[str], space_id: int | None) -> None:
        """Start over: what was traced of an earlier search no longer counts, but its time does."""
        self.queries, self.phrases, self.space_id = list(queries), list(phrases), space_id
        self._rankings, self._describe, self._candidates = {}, tuple, None

    def note(self, name: str, outcome: StepOutcome, reason: str | None = None) -> None:
        step = Step(name, outcome, reason)
        if step not in self.steps:  # a second search may take the same way
            self.steps.append(step)

    def place(self, stage: str, ranking: Sequence[Candidate]) -> None:
        """Keep the ranking of a stage; of several queries, that of the main one."""
        self._rankings.setdefault(stage, ranking)

    def describe(self, make: Callable[[], Iterable[TracedCandidate]]) -> None:
        """Keep how to make the candidates, without their places and cuts."""
        self._describe = make

    def finish(self, results: Collection[UUID], cuts: Mapping[UUID, Cut]) -> None:
        """Keep which candidates are results, and why others were cut."""
        self._results, self._cuts, self._candidates = results, cuts, None

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Add what the block takes to the timing of `name`."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.add_time(name, (time.perf_counter() - started) * 1000)

    def add_time(self, name: str, elapsed_ms: float) -> None:
        """Add milliseconds to the timing of `name`."""
        self.timings_ms[name] = self.timings_ms.get(name, 0.0) + elapsed_ms

    def _make_candidates(self) -> dict[UUID, TracedCandidate]:
        candidates = {traced.chunk_id: traced for traced in self._describe()}
        for stage, ranking in self._rankings.items():
            for rank, candidate in enumerate(ranking, start=1):
                if traced := candidates.get(candidate.chunk_id):
                    traced.places[stage] = Place(rank, candidate.score)
        for traced in candidates.values():
            if traced.chunk_id not in self._results:
                traced.cut = self._cuts.get(traced.chunk_id, Cut.BELOW_TOP_K)
        return candidates

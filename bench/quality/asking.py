"""From search results and their trace to the ranks of what is relevant."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.quality.records import FINAL, Asked
from bench.quality.sets import Unit

# These always run; a stage that finds nothing has no places in the trace.
_ALWAYS = ("dense", "fulltext", "fused")


@dataclass(frozen=True, slots=True)
class Found:
    """A chunk at a place of a stage."""

    chunk_id: str
    document_id: str
    page_start: int
    page_end: int


@dataclass(frozen=True, slots=True)
class Goal:
    """A target in the product's ids: a document, one of its pages, or any of some chunks."""

    document_id: str
    page: int | None = None
    chunk_ids: frozenset[str] | None = None

    def is_met_by(self, found: Found) -> bool:
        if self.chunk_ids is not None:
            return found.chunk_id in self.chunk_ids
        if found.document_id != self.document_id:
            return False
        return self.page is None or found.page_start <= self.page <= found.page_end


def judge(response: Mapping[str, Any], goals: Sequence[Goal], unit: Unit) -> Asked:
    """Read the answer of `POST /api/v1/search` with `explain`."""
    trace, results = response["trace"], response["results"]
    ranks = {stage: ranks_of(places, goals, unit) for stage, places in _stages(trace["candidates"])}
    final = [(number, found_of(result)) for number, result in enumerate(results, start=1)]
    ranks[FINAL] = ranks_of(final, goals, unit)
    score = results[0]["score"] if results else None
    return Asked(ranks, len(goals), trace["answerability"], trace.get("is_answerable"), score)


def ranks_of(
    places: Iterable[tuple[int, Found]], goals: Sequence[Goal], unit: Unit
) -> tuple[int, ...]:
    """Return the rank of each goal that is met, ascending, from (rank, chunk) in any order.

    With documents as the unit, a rank is the number of documents up to there.
    """
    places = sorted(places, key=lambda place: place[0])
    if unit is Unit.DOCUMENT:
        places = _first_of_each_document(places)
    first: dict[Goal, int] = {}
    for rank, found in places:
        for goal in goals:
            if goal not in first and goal.is_met_by(found):
                first[goal] = rank
    return tuple(sorted(first.values()))


def _stages(candidates: list[dict[str, Any]]) -> Iterable[tuple[str, list[tuple[int, Found]]]]:
    stages: dict[str, list[tuple[int, Found]]] = {stage: [] for stage in _ALWAYS}
    for candidate in candidates:
        for stage, place in candidate["places"].items():
            stages.setdefault(stage, []).append((place["rank"], found_of(candidate)))
    return stages.items()


def _first_of_each_document(places: Iterable[tuple[int, Found]]) -> list[tuple[int, Found]]:
    first: dict[str, Found] = {}
    for _, found in places:
        first.setdefault(found.document_id, found)
    return list(enumerate(first.values(), start=1))


def found_of(chunk: Mapping[str, Any]) -> Found:
    return Found(
        str(chunk["chunk_id"]), str(chunk["document_id"]), chunk["page_start"], chunk["page_end"]
    )

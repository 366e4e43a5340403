"""retrieve(): a question -> the chunks that answer it, best first.

condense -> expand -> embed -> dense, fulltext -> fusion -> diversity -> rerank
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import asyncpg
import numpy as np

from app.core.db import Database, TenantScope
from app.llm.rerankers import MAX_TEXTS, Reranker
from app.retrieval.base import Candidate, RankedChunk, RetrievalQuery
from app.retrieval.condense import QueryRewriter
from app.retrieval.dense import search_dense
from app.retrieval.diversity import choose
from app.retrieval.expansion import ExpandedQuestion, expand_question
from app.retrieval.filters import Filter
from app.retrieval.fulltext import search_fulltext
from app.retrieval.fusion import Calibration, Evidence, answerability, choose_calibration, fuse
from app.retrieval.loading import Fact, load_chunks, load_facts
from app.retrieval.query_terms import analyze_query
from app.retrieval.rerank import rerank
from app.retrieval.spaces import QueryVector, SpaceDirectory
from app.retrieval.trace import Trace, TracedCandidate

CANDIDATES_PER_STAGE = 50
# What a question's other names add to its vector.
PHRASES_WEIGHT = 0.5
# Below this answerability, further queries are worth the call of a model.
HARD = 0.5
# More than asked for, in case that some repeat others.
_SPARE = 10


@dataclass(frozen=True, slots=True)
class Retrieval:
    """Chunks, best first, and how they were found.

    `question` is the one that was searched: of a follow-up, the one that stands alone.
    `answerability` is the probability, in 0..1, that the documents hold an answer. Where
    `is_answerable` is False it is too low for a model to be asked.
    """

    question: str
    chunks: tuple[RankedChunk, ...]
    answerability: float
    is_answerable: bool
    trace: Trace


@dataclass(frozen=True, slots=True)
class _Asked:
    """One phrasing of the question, embedded."""

    question: ExpandedQuestion
    embedded: QueryVector


@dataclass(frozen=True, slots=True)
class _Found:
    """The best chunks, and how sure it is that they answer."""

    chunks: list[RankedChunk]
    answerability: float
    calibration: Calibration


@dataclass(frozen=True, slots=True)
class Retriever:
    """What retrieval stands on, and `retrieve()`."""

    db: Database
    spaces: SpaceDirectory
    rewriter: QueryRewriter
    reranker: Reranker | None

    async def retrieve(self, scope: TenantScope, query: RetrievalQuery) -> Retrieval:
        """Return the chunks of the caller's documents that answer a question, best first.

        No transaction is open while a model works. Raises ProviderError when the question can't be
        embedded; every other model may fail, and the trace says so.
        """
        trace = Trace(query.text)
        with trace.timed("condense"):
            question = await self.rewriter.condense(query, trace)
        found = await self._search(scope, [question], query, trace)
        if query.may_expand and found.answerability < HARD:
            with trace.timed("expand"):
                further = await self.rewriter.expand(question, query.model, trace)
            if further:
                found = await self._search(scope, [question, *further], query, trace)
        with trace.timed("rerank"):
            chunks = await rerank(self.reranker, question, found.chunks, trace, model=query.model)
        best = tuple(chunks[: query.top_k])
        trace.finish({chunk.chunk_id for chunk in best})
        return Retrieval(
            question,
            best,
            found.answerability,
            found.answerability >= found.calibration.min_answerability,
            trace,
        )

    async def _search(
        self, scope: TenantScope, questions: Sequence[str], query: RetrievalQuery, trace: Trace
    ) -> _Found:
        """Search for each phrasing of one question: what any of them finds well is good."""
        with trace.timed("embed"):
            asked = await asyncio.gather(*(self._embed(scope, q) for q in questions))
        space = asked[0].embedded.space
        calibration = choose_calibration(questions[0], space.model if space else None)
        trace.begin(questions, space.id if space else None)
        count = max(query.top_k, MAX_TEXTS) if self.reranker else query.top_k
        evidence: dict[UUID, Evidence] = {}
        facts: dict[UUID, Fact] = {}
        # One snapshot: what a stage found must be there to be loaded.
        async with self.db.reading(scope) as driver:
            for phrasing in asked:
                if phrasing.embedded.space == space:
                    more = await _run_stages(driver, scope.org_id, phrasing, query.filter, trace)
                    facts |= more.facts
                    _keep_best(evidence, more.evidence)
            ranked = fuse(evidence.values(), calibration)
            trace.candidates = {c.chunk_id: _traced(c, facts, evidence) for c in ranked}
            trace.place("fused", ranked)
            with trace.timed("load"):
                chosen = await _load(driver, scope.org_id, ranked, facts, count, trace)
        best = evidence[ranked[0].chunk_id] if ranked else None
        return _Found(chosen, answerability(best, calibration), calibration)

    async def _embed(self, scope: TenantScope, question: str) -> _Asked:
        """Embed a question, with what else it may be called a little beside it."""
        expanded = expand_question(question)
        if not expanded.phrases:
            return _Asked(expanded, await self.spaces.embed_query(scope, expanded.core))
        core, phrases = await asyncio.gather(
            self.spaces.embed_query(scope, expanded.core),
            self.spaces.embed_query(scope, "; ".join(expanded.phrases)),
        )
        if core.space != phrases.space:  # another one went live between the two
            return _Asked(expanded, core)
        mixed = core.vector + PHRASES_WEIGHT * phrases.vector
        return _Asked(expanded, QueryVector(mixed / np.linalg.norm(mixed), core.space))


@dataclass(frozen=True, slots=True)
class _StageResults:
    evidence: dict[UUID, Evidence]
    facts: dict[UUID, Fact]


async def _run_stages(
    driver: asyncpg.Connection, org_id: UUID, asked: _Asked, wanted: Filter, trace: Trace
) -> _StageResults:
    """Find candidates by vectors and by words, and ask each stage for those of the other too."""
    nearest: list[Candidate] = []
    space, vector = asked.embedded.space, asked.embedded.vector
    if space is not None:
        with trace.timed("dense"):
            dense = await search_dense(
                driver,
                org_id,
                space_id=space.id,
                has_hnsw=space.has_hnsw,
                query=vector,
                wanted=wanted,
                limit=CANDIDATES_PER_STAGE,
            )
        nearest, trace.plan = dense.candidates, dense.plan
    with trace.timed("fulltext"):
        hits = await search_fulltext(
            driver,
            org_id,
            query=analyze_query(asked.question.core, asked.question.phrases),
            wanted=wanted,
            limit=CANDIDATES_PER_STAGE,
            also=[candidate.chunk_id for candidate in nearest],
        )
    with trace.timed("facts"):
        facts = await load_facts(
            driver,
            org_id,
            dict.fromkeys([*(c.chunk_id for c in nearest), *(h.chunk_id for h in hits)]),
            space_id=space.id if space else None,
            vector=vector,
        )
    trace.place("dense", nearest)
    trace.place("fulltext", [hit for hit in hits if hit.score > 0])
    scores = {hit.chunk_id: hit.score for hit in hits}
    evidence = {
        chunk_id: Evidence(chunk_id, fact.similarity or 0.0, scores.get(chunk_id, 0.0))
        for chunk_id, fact in facts.items()
    }
    return _StageResults(evidence, facts)


def _keep_best(evidence: dict[UUID, Evidence], more: Mapping[UUID, Evidence]) -> None:
    for chunk_id, item in more.items():
        known = evidence.get(chunk_id, item)
        evidence[chunk_id] = Evidence(
            chunk_id,
            max(known.similarity, item.similarity),
            max(known.fulltext, item.fulltext),
        )


async def _load(
    driver: asyncpg.Connection,
    org_id: UUID,
    ranked: Sequence[Candidate],
    facts: Mapping[UUID, Fact],
    count: int,
    trace: Trace,
) -> list[RankedChunk]:
    """Return the best chunks without those that repeat others."""
    loaded: list[RankedChunk] = []
    # Rarely do so many repeat others that the rest must be loaded.
    for part in (ranked[: count + _SPARE], ranked[count + _SPARE :]):
        loaded += await load_chunks(driver, org_id, part, facts)
        choice = choose(loaded, count)
        if choice.is_diverse:
            break
    for chunk_id, reason in choice.cuts.items():
        trace.cut(chunk_id, reason)
    return choice.chunks


def _traced(
    candidate: Candidate, facts: Mapping[UUID, Fact], evidence: Mapping[UUID, Evidence]
) -> TracedCandidate:
    fact, item = facts[candidate.chunk_id], evidence[candidate.chunk_id]
    return TracedCandidate(
        candidate.chunk_id,
        fact.document_id,
        fact.filename,
        fact.ordinal,
        fact.page_start,
        fact.page_end,
        similarity=item.similarity,
        fulltext=item.fulltext,
    )

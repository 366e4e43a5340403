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
from app.core.errors import ProviderError
from app.llm.rerankers import Reranker
from app.retrieval.base import Candidate, RankedChunk, RetrievalQuery
from app.retrieval.condense import QueryRewriter
from app.retrieval.dense import search_dense
from app.retrieval.diversity import choose
from app.retrieval.expansion import ExpandedQuestion, expand_question
from app.retrieval.fallback import fallback_reason
from app.retrieval.fulltext import search_fulltext
from app.retrieval.fusion import Evidence, Verdict, choose_calibration, fuse, judge
from app.retrieval.loading import Fact, Place, load_facts, to_chunk
from app.retrieval.query_terms import analyze_query
from app.retrieval.rerank import rerank
from app.retrieval.spaces import QueryVector, Space, SpaceDirectory
from app.retrieval.trace import StepOutcome, Trace, TracedCandidate

# Of each stage, or as many as are asked for. On the development sets more find nothing more.
CANDIDATES_PER_STAGE = 30
# What a question's other names add to its vector.
PHRASES_WEIGHT = 0.5
# Below this answerability, further queries are worth the call of a model: unless nothing is there.
HARD = 0.5


@dataclass(frozen=True, slots=True)
class Retrieval:
    """Chunks, best first, and how they were found.

    `question` is the one that was searched: of a follow-up, the one that stands alone; `phrases`
    are other names of what it asks for.
    `answerability` is the probability, in 0..1, that the documents hold an answer. Where
    `is_answerable` is False it is too low for a model to be asked.
    """

    question: str
    phrases: tuple[str, ...]
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
    """All candidates, best first, and whether they answer."""

    chunks: list[RankedChunk]
    places: Mapping[UUID, Place]
    verdict: Verdict


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
        is_hard = found.verdict.is_answerable and found.verdict.answerability < HARD
        if query.may_expand and is_hard:
            found = await self._expand(scope, question, query, trace) or found
        with trace.timed("rerank"):
            chunks = await rerank(self.reranker, question, found.chunks, trace, model=query.model)
        choice = choose(chunks, query.top_k, found.places)
        trace.finish({chunk.chunk_id for chunk in choice.chunks}, choice.cuts)
        return Retrieval(
            question,
            tuple(trace.phrases),
            tuple(choice.chunks),
            found.verdict.answerability,
            found.verdict.is_answerable,
            trace,
        )

    async def _expand(
        self, scope: TenantScope, question: str, query: RetrievalQuery, trace: Trace
    ) -> _Found | None:
        """Search for further queries too; None where there are none, or they can't be embedded."""
        with trace.timed("expand"):
            further = await self.rewriter.expand(question, query.model, trace)
        if not further:
            return None
        try:
            return await self._search(scope, [question, *further], query, trace)
        except ProviderError as error:
            trace.note("expand", StepOutcome.FELL_BACK, fallback_reason(error))
            return None

    async def _search(
        self, scope: TenantScope, questions: Sequence[str], query: RetrievalQuery, trace: Trace
    ) -> _Found:
        """Search for each phrasing of one question: what any of them finds well is good."""
        with trace.timed("embed"):
            asked = await asyncio.gather(*(self._embed(scope, q) for q in questions))
        space = asked[0].embedded.space
        calibration = choose_calibration(questions[0], space.model if space else None)
        trace.begin(
            [phrasing.question.core for phrasing in asked],
            asked[0].question.phrases,
            space.id if space else None,
        )
        evidence: dict[UUID, Evidence] = {}
        facts: dict[UUID, Fact] = {}
        # One snapshot: what a stage found must be there to be loaded.
        async with self.db.reading(scope) as driver:
            for phrasing in asked:
                if _is_same(phrasing.embedded.space, space):
                    more = await _run_stages(driver, scope.org_id, phrasing, query, trace)
                    facts |= more.facts
                    _keep_best(evidence, more.evidence)
            places = {chunk_id: fact.place for chunk_id, fact in facts.items()}
            ranked = fuse(evidence.values(), calibration, places)
            trace.candidates = {c.chunk_id: _traced(c, facts, evidence) for c in ranked}
            trace.place("fused", ranked)
        chunks = [to_chunk(candidate, facts[candidate.chunk_id]) for candidate in ranked]
        best = evidence[ranked[0].chunk_id] if ranked else None
        return _Found(chunks, places, judge(best, calibration))

    async def _embed(self, scope: TenantScope, question: str) -> _Asked:
        """Embed a question, with what else it may be called a little beside it."""
        expanded = expand_question(question)
        if not expanded.phrases:
            return _Asked(expanded, await self.spaces.embed_query(scope, expanded.core))
        core, phrases = await asyncio.gather(
            self.spaces.embed_query(scope, expanded.core),
            self.spaces.embed_query(scope, "; ".join(expanded.phrases)),
        )
        if not _is_same(core.space, phrases.space):  # another one went live between the two
            return _Asked(expanded, core)
        mixed = core.vector + PHRASES_WEIGHT * phrases.vector
        return _Asked(expanded, QueryVector(mixed / np.linalg.norm(mixed), core.space))


@dataclass(frozen=True, slots=True)
class _StageResults:
    evidence: dict[UUID, Evidence]
    facts: dict[UUID, Fact]


async def _run_stages(
    driver: asyncpg.Connection, org_id: UUID, asked: _Asked, query: RetrievalQuery, trace: Trace
) -> _StageResults:
    """Find candidates by vectors and by words, and ask each stage for those of the other too."""
    limit = max(CANDIDATES_PER_STAGE, query.top_k)
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
                wanted=query.filter,
                limit=limit,
            )
        nearest, trace.plan = dense.candidates, dense.plan
    with trace.timed("fulltext"):
        hits = await search_fulltext(
            driver,
            org_id,
            query=analyze_query(asked.question.core, asked.question.phrases),
            wanted=query.filter,
            limit=limit,
            also=[candidate.chunk_id for candidate in nearest],
        )
    with trace.timed("load"):
        facts = await load_facts(
            driver,
            org_id,
            dict.fromkeys([*(c.chunk_id for c in nearest), *(h.chunk_id for h in hits)]),
            space_id=space.id if space else None,
            vector=vector,
        )
    trace.place("dense", nearest)
    # What comes behind are candidates of the other stage, and others between them are not known.
    trace.place("fulltext", [hit for hit in hits[:limit] if hit.score > 0])
    scores = {hit.chunk_id: hit.score for hit in hits}
    evidence = {
        chunk_id: Evidence(chunk_id, fact.similarity, scores.get(chunk_id, 0.0))
        for chunk_id, fact in facts.items()
    }
    return _StageResults(evidence, facts)


def _keep_best(evidence: dict[UUID, Evidence], more: Mapping[UUID, Evidence]) -> None:
    for chunk_id, item in more.items():
        known = evidence.get(chunk_id, item)
        evidence[chunk_id] = Evidence(
            chunk_id,
            max((s for s in (known.similarity, item.similarity) if s is not None), default=None),
            max(known.fulltext, item.fulltext),
        )


def _is_same(one: Space | None, other: Space | None) -> bool:
    return (one.id if one else None) == (other.id if other else None)


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

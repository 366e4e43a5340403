"""retrieve(): a question -> the chunks that answer it, best first.

condense -> expand -> embed -> dense, fulltext -> fusion -> rerank -> diversity
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import asyncpg
import numpy as np

from app.core.db import Database, TenantScope
from app.core.errors import ProviderError, ProviderErrorKind
from app.llm.metering import UNMETERED, CallMeter
from app.llm.rerankers import Reranker
from app.retrieval.base import Candidate, RankedChunk, RetrievalQuery
from app.retrieval.condense import QueryRewriter
from app.retrieval.dense import Plan, search_dense
from app.retrieval.diversity import choose
from app.retrieval.expansion import ExpandedQuestion, expand_question
from app.retrieval.fallback import fallback_reason
from app.retrieval.filters import EVERYTHING
from app.retrieval.fulltext import search_fulltext
from app.retrieval.fusion import (
    Calibration,
    Evidence,
    Verdict,
    choose_calibration,
    find_best,
    fuse,
    judge,
)
from app.retrieval.loading import Passage
from app.retrieval.query_terms import analyze_query
from app.retrieval.rerank import rerank
from app.retrieval.spaces import NO_VECTOR, QueryVector, SpaceDirectory
from app.retrieval.trace import StepOutcome, Trace, TracedCandidate
from app.retrieval.unfiltered import search_unfiltered
from app.retrieval.wording import analyze_wording, measure_closeness

# Of each stage, or as many as are asked for. On the development sets more find nothing more.
CANDIDATES_PER_STAGE = 30
# Whose wording is compared with the question's. Fewer lose what stands behind place ten.
COMPARED_CANDIDATES = 20
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

    ranked: list[Candidate]
    passages: Mapping[UUID, Passage]
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Retriever:
    """What retrieval stands on, and `retrieve()`."""

    db: Database
    spaces: SpaceDirectory
    rewriter: QueryRewriter
    reranker: Reranker | None

    async def retrieve(
        self, scope: TenantScope, query: RetrievalQuery, *, meter: CallMeter = UNMETERED
    ) -> Retrieval:
        """Return the chunks of the caller's documents that answer a question, best first.

        `meter` measures the calls of models; without one they are nobody's.
        No transaction is open while a model works. Raises ProviderError when the question can't be
        embedded, unless for want of a key that is accepted: then words alone tell. That and the
        failure of any other model is in the trace.
        """
        trace = Trace(query.text)
        with trace.timed("condense"):
            question = await self.rewriter.condense(query, trace, meter)
        found = await self._search(scope, [question], query, trace, meter)
        is_hard = found.verdict.is_answerable and found.verdict.answerability < HARD
        if query.may_expand and is_hard:
            found = await self._expand(scope, question, query, trace, meter) or found
        passages = found.passages
        with trace.timed("rerank"):
            ranked = await rerank(
                self.reranker,
                question,
                found.ranked,
                passages,
                trace,
                meter=meter,
                model=query.model,
            )
        choice = choose(ranked, query.top_k, passages)
        trace.finish({candidate.chunk_id for candidate in choice.chosen}, choice.cuts)
        return Retrieval(
            question,
            tuple(trace.phrases),
            tuple(passages[each.chunk_id].to_chunk(each.score) for each in choice.chosen),
            found.verdict.answerability,
            found.verdict.is_answerable,
            trace,
        )

    async def _expand(
        self,
        scope: TenantScope,
        question: str,
        query: RetrievalQuery,
        trace: Trace,
        meter: CallMeter,
    ) -> _Found | None:
        """Search for further queries too; None where there are none, or they can't be embedded."""
        with trace.timed("expand"):
            further = await self.rewriter.expand(question, query.model, trace, meter)
        if not further:
            return None
        try:
            return await self._search(scope, [question, *further], query, trace, meter)
        except ProviderError as error:
            trace.note("expand", StepOutcome.FELL_BACK, fallback_reason(error))
            return None

    async def _search(
        self,
        scope: TenantScope,
        questions: Sequence[str],
        query: RetrievalQuery,
        trace: Trace,
        meter: CallMeter,
    ) -> _Found:
        """Search for each phrasing of one question: what any of them finds well is good."""
        with trace.timed("embed"):
            asked = await self._embed(scope, questions, trace, meter)
        space = asked[0].embedded.space
        calibration = choose_calibration(questions[0], space.model if space else None)
        trace.begin(
            [phrasing.question.core for phrasing in asked],
            asked[0].question.phrases,
            space.id if space else None,
        )
        evidence: dict[UUID, Evidence] = {}
        passages: dict[UUID, Passage] = {}
        for more in await self._run_all_stages(scope, asked, query, trace):
            _keep_best(evidence, more)
            passages |= more
        _compare_wording(asked[0].question, evidence, passages, calibration)
        pages = {chunk_id: passage.page_key for chunk_id, passage in passages.items()}
        ranked = fuse(evidence.values(), calibration, pages)
        trace.place("fused", ranked)
        trace.describe(lambda: (_traced(c, passages, evidence) for c in ranked))
        best = evidence[ranked[0].chunk_id] if ranked else None
        return _Found(ranked, passages, judge(best, calibration))

    async def _run_all_stages(
        self, scope: TenantScope, asked: Sequence[_Asked], query: RetrievalQuery, trace: Trace
    ) -> list[dict[UUID, Passage]]:
        """Return what is found for each phrasing, over one snapshot."""
        space = asked[0].embedded.space
        has_index = space is not None and space.has_hnsw
        if len(asked) == 1 and query.filter == EVERYTHING and not has_index:
            async with self.db.lone_statements() as driver:
                return [await _run_stages_at_once(driver, scope, asked[0], query, trace)]
        async with self.db.reading(scope) as driver:
            return [
                await _run_stages(driver, scope.org_id, phrasing, query, trace)
                for phrasing in asked
            ]

    async def _embed(
        self, scope: TenantScope, questions: Sequence[str], trace: Trace, meter: CallMeter
    ) -> list[_Asked]:
        """Embed the phrasings, each with what else it may be called a little beside it."""
        expanded = [expand_question(question) for question in questions]
        others = ["; ".join(one.phrases) for one in expanded]
        texts: list[str] = []
        for one, other in zip(expanded, others, strict=True):
            texts += [one.core, other] if other else [one.core]
        try:
            vectors = iter(await self.spaces.embed_queries(scope, texts, meter))
        except ProviderError as error:
            # Anything else may pass, and words alone find less.
            if error.kind is not ProviderErrorKind.AUTH:
                raise
            trace.note("dense", StepOutcome.FELL_BACK, fallback_reason(error))
            return [_Asked(one, NO_VECTOR) for one in expanded]
        return [
            _Asked(one, _mix(next(vectors), next(vectors)) if other else next(vectors))
            for one, other in zip(expanded, others, strict=True)
        ]


def _mix(core: QueryVector, phrases: QueryVector) -> QueryVector:
    mixed = core.vector + PHRASES_WEIGHT * phrases.vector
    return QueryVector(mixed / np.linalg.norm(mixed), core.space)


async def _run_stages(
    driver: asyncpg.Connection, org_id: UUID, asked: _Asked, query: RetrievalQuery, trace: Trace
) -> dict[UUID, Passage]:
    """Find candidates by vectors and by words, and ask the latter for those of the former too."""
    limit = _limit(query)
    nearest: list[Candidate] = []
    space = asked.embedded.space
    if space is not None:
        with trace.timed("dense"):
            dense = await search_dense(
                driver,
                org_id,
                space_id=space.id,
                has_hnsw=space.has_hnsw,
                query=asked.embedded.vector,
                wanted=query.filter,
                limit=limit,
            )
        nearest, trace.plan = dense.candidates, dense.plan
    with trace.timed("fulltext"):
        passages = await search_fulltext(
            driver,
            org_id,
            query=analyze_query(asked.question.core, asked.question.phrases),
            wanted=query.filter,
            limit=limit,
            embedded=asked.embedded,
            also=[candidate.chunk_id for candidate in nearest],
        )
    _place(nearest, passages, limit, trace)
    return {passage.chunk_id: passage for passage in passages}


async def _run_stages_at_once(
    driver: asyncpg.Connection,
    scope: TenantScope,
    asked: _Asked,
    query: RetrievalQuery,
    trace: Trace,
) -> dict[UUID, Passage]:
    """Do the same where nothing is filtered and no index of vectors is to be asked."""
    limit = _limit(query)
    started = time.perf_counter()
    found = await search_unfiltered(
        driver,
        scope,
        query=analyze_query(asked.question.core, asked.question.phrases),
        limit=limit,
        embedded=asked.embedded,
    )
    if asked.embedded.space is not None:
        trace.plan = Plan.EXACT
        trace.add_time("dense", found.nearest_ms)
    elapsed_ms = (time.perf_counter() - started) * 1000
    trace.add_time("fulltext", elapsed_ms - found.nearest_ms)
    _place(found.nearest, found.passages, limit, trace)
    return {passage.chunk_id: passage for passage in found.passages}


def _limit(query: RetrievalQuery) -> int:
    return max(CANDIDATES_PER_STAGE, query.top_k)


def _place(
    nearest: Sequence[Candidate], passages: Sequence[Passage], limit: int, trace: Trace
) -> None:
    trace.place("dense", nearest)
    # What comes behind are candidates of the other stage, and others between them are not known.
    trace.place(
        "fulltext", [Candidate(p.chunk_id, p.fulltext) for p in passages[:limit] if p.fulltext > 0]
    )


def _keep_best(evidence: dict[UUID, Evidence], more: Mapping[UUID, Passage]) -> None:
    """Add what is known of the passages; of one that was known, keep the better of each figure."""
    for chunk_id, passage in more.items():
        similarity, fulltext = passage.similarity, passage.fulltext
        if known := evidence.get(chunk_id):
            similarity = max(
                (s for s in (known.similarity, similarity) if s is not None), default=None
            )
            fulltext = max(known.fulltext, fulltext)
        evidence[chunk_id] = Evidence(chunk_id, similarity, fulltext)


def _compare_wording(
    question: ExpandedQuestion,
    evidence: dict[UUID, Evidence],
    passages: Mapping[UUID, Passage],
    calibration: Calibration,
) -> None:
    """Add how closely the best candidates follow the question's wording, where that tells."""
    if not calibration.wording:
        return
    best = find_best(evidence.values(), calibration, COMPARED_CANDIDATES)
    wording = analyze_wording(question.core, question.phrases)
    closeness = measure_closeness(wording, [passages[chunk_id].text for chunk_id in best])
    for chunk_id, close in zip(best, closeness, strict=True):
        _, similarity, fulltext, _ = evidence[chunk_id]
        evidence[chunk_id] = Evidence(chunk_id, similarity, fulltext, close)


def _traced(
    candidate: Candidate, passages: Mapping[UUID, Passage], evidence: Mapping[UUID, Evidence]
) -> TracedCandidate:
    passage, item = passages[candidate.chunk_id], evidence[candidate.chunk_id]
    return TracedCandidate(
        candidate.chunk_id,
        passage.document_id,
        passage.filename,
        passage.ordinal,
        passage.page_start,
        passage.page_end,
        similarity=item.similarity,
        fulltext=item.fulltext,
    )

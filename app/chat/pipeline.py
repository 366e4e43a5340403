"""answer(): a question -> admit -> retrieve -> assemble -> generate -> cite -> events."""

import asyncio
import hashlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any
from uuid import UUID

from app.chat.admission import (
    Policy,
    check_messages,
    find_unready,
    load_policy,
    wait_until_ready,
)
from app.chat.answer_trace import AnswerTrace
from app.chat.assembly import SOURCES_MAX_TOKENS, Outline, TokenBudget, assemble, outline_prompt
from app.chat.citations import Marker, MarkerFilter, TextPiece
from app.chat.events import Citation, Done, Event, SourceInfo, Start, Token, UnreadyDocument
from app.chat.injection import find_injections
from app.chat.quotes import SourceIndex, find_claim, find_opening, find_page_quote
from app.chat.safe_text import Removed, SafeText, hosts_in
from app.chat.support import find_unsupported
from app.core.db import TenantScope
from app.core.errors import AppError
from app.core.ids import new_id
from app.core.metrics import FIRST_TOKEN_SECONDS, TOKENS_PER_SECOND
from app.core.text import storable
from app.llm.base import (
    NOT_IN_DOCUMENTS,
    ChatRequest,
    Finish,
    FinishReason,
    LLMProvider,
    Message,
    Source,
    TextDelta,
    Usage,
)
from app.llm.model_names import EXTRACTIVE, OLLAMA
from app.llm.registry import Models
from app.llm.wire import usage_or_estimate
from app.models.conversations import RunStatus
from app.retrieval.base import RankedChunk, RetrievalQuery
from app.retrieval.filters import EVERYTHING, Filter
from app.retrieval.page_labels import load_page_labels
from app.retrieval.pipeline import Retrieval, Retriever

TOP_K = 10
# Without a model there is no window to fill, and the best row is often not in the best chunks.
EXTRACTIVE_TOP_K = 30
EXTRACTIVE_MAX_TOKENS = 15_000
# Providers that cost nothing; what others cost is unknown until there are prices.
_FREE_PROVIDERS = frozenset({EXTRACTIVE, OLLAMA})

# Characters. To judge a longer one takes the event loop's time.
_LONG_ANSWER = 1_500

# By document and page number, where a page has a printed name.
PageLabels = Mapping[tuple[UUID, int], str]


@dataclass(frozen=True, slots=True)
class Question:
    """One turn. The last message is the user's and is what is asked.

    `wait_s`: how long named documents may take to get ready.
    """

    messages: tuple[Message, ...]
    model: str | None
    temperature: float
    max_tokens: int
    use_rag: bool
    filter: Filter = EVERYTHING
    wait_s: float = 0.0

    @property
    def text(self) -> str:
        return self.messages[-1].content


@dataclass(frozen=True, slots=True)
class AnswerIds:
    """What an answer is called. `conversation_id` is None for one that is not kept."""

    run_id: UUID = field(default_factory=new_id)
    message_id: UUID = field(default_factory=new_id)
    conversation_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Admitted:
    """A question that may be answered: what could be refused has been looked at.

    `outline` is None where the history has become another since.
    """

    question: Question
    provider: LLMProvider
    model: str
    policy: Policy
    unready: tuple[UnreadyDocument, ...]
    started: float
    outline: Outline | None = None

    def behind(self, messages: tuple[Message, ...]) -> "Admitted":
        """Return the question as the last of these messages."""
        if messages == self.question.messages:
            return self
        return replace(self, question=replace(self.question, messages=messages), outline=None)

    @property
    def model_id(self) -> str:
        return f"{self.provider.name}/{self.model}"

    @property
    def is_extractive(self) -> bool:
        return self.provider.name == EXTRACTIVE


@dataclass(frozen=True, slots=True)
class Prepared:
    """All that can fail before a model is asked has been done."""

    ids: AnswerIds
    admitted: Admitted
    request: ChatRequest
    sources: tuple[tuple[Source, RankedChunk], ...]
    page_labels: PageLabels
    budget: TokenBudget
    retrieval: Retrieval | None
    retrieval_s: float

    @property
    def model_id(self) -> str:
        return self.admitted.model_id

    @property
    def fits_documents(self) -> bool:
        return self.retrieval is None or self.retrieval.is_answerable


@dataclass(frozen=True, slots=True)
class Answerer:
    """What answering stands on."""

    retriever: Retriever
    models: Models

    async def admit(self, scope: TenantScope, question: Question) -> Admitted:
        """Choose the model and look at all that can be refused before anything begins.

        Raises NotFound, InvalidRequest, Conflict (see `admission`). Holds no connection.
        """
        started = time.monotonic()
        provider, model = await self.models.resolve(question.model)
        unready: tuple[UnreadyDocument, ...] = ()
        async with self.retriever.db.reading(scope) as driver:
            policy = await load_policy(driver, scope)
            if question.use_rag:
                unready = await find_unready(driver, scope, question.filter)
        check_messages(policy, question.messages)
        if unready and question.filter.document_ids:
            await wait_until_ready(
                self.retriever.db, scope, question.filter, unready, wait_s=question.wait_s
            )
            unready = ()
        admitted = Admitted(question, provider, model, policy, unready, started)
        return replace(admitted, outline=await _outline(admitted))

    async def prepare(
        self, scope: TenantScope, admitted: Admitted, ids: AnswerIds | None = None
    ) -> Prepared:
        """Retrieve and assemble. Raises ProviderError. Holds no connection when it returns."""
        question = admitted.question
        began = time.monotonic()
        found = await self._retrieve(scope, admitted) if question.use_rag else None
        retrieval_s = time.monotonic() - began
        assembled = await assemble(
            admitted.outline or await _outline(admitted),
            found.chunks if found else (),
            sources_max_tokens=(
                EXTRACTIVE_MAX_TOKENS if admitted.is_extractive else SOURCES_MAX_TOKENS
            ),
        )
        request = ChatRequest(
            model=admitted.model,
            messages=assembled.messages,
            temperature=question.temperature,
            max_tokens=assembled.budget.answer,
            question=found.question if found else "",
            phrases=found.phrases if found else (),
            sources=tuple(source for source, _ in assembled.sources),
        )
        return Prepared(
            ids=ids or AnswerIds(),
            admitted=admitted,
            request=request,
            sources=assembled.sources,
            page_labels=await self._load_labels(scope, [chunk for _, chunk in assembled.sources]),
            budget=assembled.budget,
            retrieval=found,
            retrieval_s=retrieval_s,
        )

    async def _retrieve(self, scope: TenantScope, admitted: Admitted) -> Retrieval:
        question = admitted.question
        query = RetrievalQuery(
            question.text,
            EXTRACTIVE_TOP_K if admitted.is_extractive else TOP_K,
            question.filter,
            question.messages[:-1],
            question.model,
            may_expand=True,
        )
        return await self.retriever.retrieve(scope, query)

    async def _load_labels(self, scope: TenantScope, chunks: Sequence[RankedChunk]) -> PageLabels:
        pages = {(chunk.document_id, span.page) for chunk in chunks for span in chunk.spans}
        if not pages:
            return {}
        async with self.retriever.db.reading(scope) as driver:
            return await load_page_labels(driver, scope.org_id, pages)


async def _outline(admitted: Admitted) -> Outline:
    """Raises InvalidRequest (`context_length_exceeded`) when the question does not fit."""
    question = admitted.question
    return await outline_prompt(
        admitted.provider,
        admitted.model,
        history=question.messages[:-1],
        question=question.text,
        with_sources=question.use_rag,
        max_tokens=question.max_tokens,
        organization_prompt=admitted.policy.system_prompt,
    )


class Answer:
    """One answer in the making: its events, and what there is of it so far."""

    def __init__(self, prepared: Prepared) -> None:
        self.start = _start(prepared)
        self._prepared = prepared
        self._provider = prepared.admitted.provider.name
        self._writer = _AnswerWriter(prepared.sources, prepared.page_labels)
        self._finish: Finish | None = None
        self._first_token_at: float | None = None
        self._unsupported: tuple[tuple[int, int], ...] = ()
        self._trace = AnswerTrace(prepared.retrieval, prepared.sources, prepared.budget)
        self._trace.timings_ms["retrieval"] = 1000 * prepared.retrieval_s

    @property
    def text(self) -> str:
        return self._writer.text

    @property
    def citations(self) -> Sequence[Citation]:
        return self._writer.citations

    async def describe(self) -> dict[str, Any]:
        """Return what is stored of how it came about: no text of documents, and no file names.

        In a thread: to look through all sources takes milliseconds.
        """
        return await asyncio.to_thread(self._trace.to_json)

    async def events(self) -> AsyncGenerator[Event]:
        """Yield Start, then Token and Citation events, then exactly one Done.

        A citation comes before the token that holds its marker. Raises AppError, which ends the
        answer without Done: `conclude` makes one. Closing it closes the provider's socket.
        """
        yield self.start
        async with aclosing(self._generate()) as deltas:
            async for delta in deltas:
                if isinstance(delta, Finish):
                    self._finish = delta
                    continue
                self._note_first_token()
                for event in self._writer.feed(delta.text):
                    yield event
        for event in self._writer.close():
            yield event
        assert self._finish is not None  # noqa: S101  # the provider's contract: or an error
        _observe_rate(self._provider, self._finish.usage, self._first_token_at)
        self._unsupported = await self._find_unsupported()
        yield self.conclude(RunStatus.COMPLETED, self._finish.reason)

    def conclude(self, status: RunStatus, finish_reason: str) -> Done:
        """Return the end of the answer as it is now.

        Of one that is not whole, what a model would say it used is estimated, and no sentence is
        judged.
        """
        prepared, finish, writer = self._prepared, self._finish, self._writer
        usage = finish.usage if finish else self._usage_so_far()
        is_free = self._provider in _FREE_PROVIDERS or not self._trace.attempts
        cost_usd = "0" if is_free else None
        self._trace.conclude(
            elapsed_s=time.monotonic() - prepared.admitted.started,
            usage=usage,
            cost_usd=cost_usd,
            dropped_markers=writer.dropped_markers,
            removed=writer.removed,
        )
        return Done(
            status=status,
            finish_reason=finish_reason,
            usage=usage,
            model_version=finish.model if finish else prepared.model_id,
            cost_usd=cost_usd,
            answer_sha256=hashlib.sha256(self.text.encode()).hexdigest(),
            degraded=self._provider == EXTRACTIVE,
            dropped_markers=writer.dropped_markers,
            unsupported=self._unsupported,
        )

    async def _find_unsupported(self) -> tuple[tuple[int, int], ...]:
        if not self._prepared.sources:
            return ()
        if len(self.text) < _LONG_ANSWER:
            return self._writer.find_unsupported()
        return await asyncio.to_thread(self._writer.find_unsupported)

    async def _generate(self) -> AsyncGenerator[TextDelta | Finish]:
        """Ask the model; where nothing in the documents fits, say so without asking."""
        prepared = self._prepared
        if not prepared.fits_documents:
            yield TextDelta(NOT_IN_DOCUMENTS)
            yield Finish(FinishReason.STOP, Usage(0, 0), prepared.model_id)
            return
        provider = prepared.admitted.provider
        attempt = self._trace.attempt(prepared.model_id)
        stream: AsyncIterator[TextDelta | Finish] = provider.stream(prepared.request)
        try:
            async for delta in stream:
                yield delta
            attempt["outcome"] = "completed"
        except AppError as error:
            attempt["outcome"] = error.code
            raise
        finally:
            if isinstance(stream, AsyncGenerator):
                await stream.aclose()

    def _usage_so_far(self) -> Usage:
        if not self._trace.attempts:
            return Usage(0, 0)
        messages = self._prepared.request.messages
        return usage_or_estimate(None, None, messages=messages, text=self.text)

    def _note_first_token(self) -> None:
        if self._first_token_at is None:
            self._first_token_at = time.monotonic()
            elapsed_s = self._first_token_at - self._prepared.admitted.started
            self._trace.timings_ms["first_token"] = 1000 * elapsed_s
            FIRST_TOKEN_SECONDS.labels(provider=self._provider).observe(elapsed_s)


class _AnswerWriter:
    """Turns deltas into tokens and citations, and keeps both."""

    def __init__(
        self, sources: Sequence[tuple[Source, RankedChunk]], page_labels: PageLabels
    ) -> None:
        self._sources = {source.n: (chunk, SourceIndex(chunk.text)) for source, chunk in sources}
        self._page_labels = page_labels
        self._safe = SafeText(_SourceHosts([chunk.text for _, chunk in sources]))
        self._filter = MarkerFilter(self._sources)
        self._pieces: list[str] = []
        self._length = 0
        self.citations: list[Citation] = []

    @property
    def text(self) -> str:
        if len(self._pieces) > 1:
            self._pieces = ["".join(self._pieces)]
        return self._pieces[0] if self._pieces else ""

    @property
    def dropped_markers(self) -> int:
        return self._filter.dropped_markers

    @property
    def removed(self) -> Removed:
        return self._safe.removed

    def feed(self, delta: str) -> list[Token | Citation]:
        safe = self._safe.feed(storable(delta))
        return [self._write(piece) for piece in self._filter.feed(safe)]

    def close(self) -> list[Token | Citation]:
        rest = self._filter.feed(self._safe.close()) + self._filter.close()
        return [self._write(piece) for piece in rest]

    def find_unsupported(self) -> tuple[tuple[int, int], ...]:
        """Return the spans of the answer so far that no source supports."""
        verified_at = [each.answer_start for each in self.citations if each.verified]
        indexes = [index for _, index in self._sources.values()]
        return tuple(find_unsupported(self.text, indexes, verified_at))

    def _write(self, piece: TextPiece | Marker) -> Token | Citation:
        if isinstance(piece, Marker):
            citation = self._cite(piece.n)
            self.citations.append(citation)
            return citation
        token = Token(piece.text, self._length)
        self._pieces.append(piece.text)
        self._length += len(piece.text)
        return token

    def _cite(self, n: int) -> Citation:
        chunk, index = self._sources[n]
        located = find_page_quote(find_claim(self.text), index, chunk.spans)
        quote, place = located or (None, find_opening(index, chunk.spans))
        return Citation(
            n=n,
            document_id=chunk.document_id,
            filename=chunk.filename,
            chunk_id=chunk.chunk_id,
            chunk_index=chunk.ordinal,
            text=chunk.text,
            page_start=place.page,
            page_end=place.page,
            page_label=self._page_labels.get((chunk.document_id, place.page)),
            quote=chunk.text[place.chunk_start : place.chunk_end],
            quote_start=place.start,
            quote_end=place.end,
            chunk_start=place.chunk_start,
            chunk_end=place.chunk_end,
            answer_start=self._length,
            score=chunk.score,
            verified=quote is not None and quote.verified,
            missing_numbers=quote.missing_numbers if quote else (),
        )


class _SourceHosts:
    """The hosts that answers may link to: those in the sources, but for suspicious ones.

    Looked for when an answer first has a link: most have none, and to judge a source takes 1 ms.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = texts

    def __contains__(self, host: object) -> bool:
        return host in self._hosts

    @cached_property
    def _hosts(self) -> frozenset[str]:
        return hosts_in(text for text in self._texts if not find_injections(text))


def _start(prepared: Prepared) -> Start:
    ids = prepared.ids
    return Start(
        ids.run_id,
        ids.message_id,
        ids.conversation_id,
        prepared.model_id,
        tuple(_info(source, chunk) for source, chunk in prepared.sources),
        prepared.admitted.unready,
    )


def _info(source: Source, chunk: RankedChunk) -> SourceInfo:
    return SourceInfo(
        source.n,
        chunk.document_id,
        chunk.chunk_id,
        chunk.filename,
        chunk.page_start,
        chunk.page_end,
        chunk.score,
    )


def _observe_rate(provider: str, usage: Usage, first_token_at: float | None) -> None:
    if first_token_at is None:
        return
    elapsed_s = time.monotonic() - first_token_at
    if elapsed_s > 0.05:
        TOKENS_PER_SECOND.labels(provider=provider).observe(usage.output_tokens / elapsed_s)

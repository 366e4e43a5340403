"""answer(): a question -> retrieve -> assemble -> generate -> cite -> events."""

import hashlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from uuid import UUID

from app.chat.assembly import SOURCES_MAX_TOKENS, build_messages, number_sources
from app.chat.citations import (
    Marker,
    MarkerFilter,
    TextPiece,
    find_claim,
    find_opening,
    find_page_quote,
)
from app.chat.events import Citation, Done, Event, SourceInfo, Start, Token
from app.core.db import TenantScope
from app.core.ids import new_id
from app.core.metrics import FIRST_TOKEN_SECONDS, TOKENS_PER_SECOND
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
from app.retrieval.base import RankedChunk, RetrievalQuery
from app.retrieval.filters import EVERYTHING, Filter
from app.retrieval.pipeline import Retriever

TOP_K = 10
# Without a model there is no window to fill, and the best row is often not in the best chunks.
EXTRACTIVE_TOP_K = 30
EXTRACTIVE_MAX_TOKENS = 15_000
# Providers that cost nothing; what others cost is unknown until there are prices.
_FREE_PROVIDERS = frozenset({EXTRACTIVE, OLLAMA})


@dataclass(frozen=True, slots=True)
class Question:
    """One turn. The last message is the user's and is what is asked."""

    messages: tuple[Message, ...]
    model: str | None
    temperature: float
    max_tokens: int
    use_rag: bool
    filter: Filter = EVERYTHING

    @property
    def text(self) -> str:
        return self.messages[-1].content


@dataclass(frozen=True, slots=True)
class Prepared:
    """All that can fail before a model is asked has been done."""

    run_id: UUID
    message_id: UUID
    provider: LLMProvider
    model_id: str
    request: ChatRequest
    sources: tuple[tuple[Source, RankedChunk], ...]
    fits_documents: bool
    started: float


@dataclass(frozen=True, slots=True)
class Answerer:
    """What answering stands on."""

    retriever: Retriever
    models: Models

    async def prepare(self, scope: TenantScope, question: Question) -> Prepared:
        """Choose the model, retrieve and assemble. Raises NotFound or ProviderError.

        Holds no connection when it returns.
        """
        started = time.monotonic()
        provider, model = await self.models.resolve(question.model)
        sources: list[tuple[Source, RankedChunk]] = []
        asked, fits_documents = "", True
        phrases: tuple[str, ...] = ()
        if question.use_rag:
            is_extractive = provider.name == EXTRACTIVE
            found = await self.retriever.retrieve(
                scope,
                RetrievalQuery(
                    question.text,
                    EXTRACTIVE_TOP_K if is_extractive else TOP_K,
                    question.filter,
                    question.messages[:-1],
                    question.model,
                    may_expand=True,
                ),
            )
            asked, phrases = found.question, found.phrases
            fits_documents = found.is_answerable
            max_tokens = EXTRACTIVE_MAX_TOKENS if is_extractive else SOURCES_MAX_TOKENS
            sources = number_sources(found.chunks, max_tokens=max_tokens)
        request = ChatRequest(
            model=model,
            messages=build_messages(
                question.messages[:-1],
                question.text,
                sources if question.use_rag else None,
                not_in_documents=NOT_IN_DOCUMENTS,
            ),
            temperature=question.temperature,
            max_tokens=question.max_tokens,
            question=asked,
            phrases=phrases,
            sources=tuple(source for source, _ in sources),
        )
        return Prepared(
            run_id=new_id(),
            message_id=new_id(),
            provider=provider,
            model_id=f"{provider.name}/{model}",
            request=request,
            sources=tuple(sources),
            fits_documents=fits_documents,
            started=started,
        )


async def answer(prepared: Prepared) -> AsyncGenerator[Event]:
    """Yield Start, then Token and Citation events, then exactly one Done.

    A citation comes before the token that holds its marker. Raises ProviderError, which ends the
    answer without Done. Closing the generator closes the provider's socket.
    """
    yield Start(prepared.run_id, prepared.message_id, prepared.model_id, _infos(prepared.sources))
    writer = _AnswerWriter(prepared.sources)
    finish: Finish | None = None
    first_token_at: float | None = None
    async with aclosing(_generate(prepared)) as deltas:
        async for delta in deltas:
            if isinstance(delta, Finish):
                finish = delta
                continue
            if first_token_at is None:
                first_token_at = time.monotonic()
                FIRST_TOKEN_SECONDS.labels(provider=prepared.provider.name).observe(
                    first_token_at - prepared.started
                )
            for event in writer.feed(delta.text):
                yield event
    assert finish is not None  # noqa: S101  # the provider's contract: a Finish, or an error
    for event in writer.close():
        yield event
    _observe_rate(prepared.provider.name, finish.usage, first_token_at)
    yield Done(
        finish_reason=finish.reason,
        usage=finish.usage,
        model_version=finish.model,
        cost_usd="0" if prepared.provider.name in _FREE_PROVIDERS else None,
        answer_sha256=writer.sha256.hexdigest(),
        degraded=prepared.provider.name == EXTRACTIVE,
        dropped_markers=writer.dropped_markers,
    )


async def _generate(prepared: Prepared) -> AsyncGenerator[TextDelta | Finish]:
    """Ask the model; where nothing in the documents fits, say so without asking."""
    if not prepared.fits_documents:
        yield TextDelta(NOT_IN_DOCUMENTS)
        yield Finish(FinishReason.STOP, Usage(0, 0), prepared.model_id)
        return
    stream: AsyncIterator[TextDelta | Finish] = prepared.provider.stream(prepared.request)
    try:
        async for delta in stream:
            yield delta
    finally:
        if isinstance(stream, AsyncGenerator):
            await stream.aclose()


class _AnswerWriter:
    """Turns deltas into tokens and citations, and keeps the text so far."""

    def __init__(self, sources: Sequence[tuple[Source, RankedChunk]]) -> None:
        self._chunks = {source.n: chunk for source, chunk in sources}
        self._filter = MarkerFilter(self._chunks)
        self._text = ""
        self.sha256 = hashlib.sha256()

    @property
    def dropped_markers(self) -> int:
        return self._filter.dropped_markers

    def feed(self, delta: str) -> list[Token | Citation]:
        return [self._write(piece) for piece in self._filter.feed(delta)]

    def close(self) -> list[Token | Citation]:
        return [self._write(piece) for piece in self._filter.close()]

    def _write(self, piece: TextPiece | Marker) -> Token | Citation:
        if isinstance(piece, Marker):
            return _cite(piece.n, self._chunks[piece.n], find_claim(self._text))
        token = Token(piece.text, len(self._text))
        self._text += piece.text
        self.sha256.update(piece.text.encode())
        return token


def _cite(n: int, chunk: RankedChunk, claim: str) -> Citation:
    located = find_page_quote(claim, chunk.text, chunk.spans)
    place = located[1] if located else find_opening(chunk.text, chunk.spans)
    return Citation(
        n=n,
        document_id=chunk.document_id,
        filename=chunk.filename,
        chunk_id=chunk.chunk_id,
        chunk_index=chunk.ordinal,
        text=chunk.text,
        page_start=place.page,
        page_end=place.page,
        quote=chunk.text[place.chunk_start : place.chunk_end],
        quote_start=place.start,
        quote_end=place.end,
        score=chunk.score,
        verified=located is not None and located[0].verified,
    )


def _infos(sources: Sequence[tuple[Source, RankedChunk]]) -> tuple[SourceInfo, ...]:
    return tuple(
        SourceInfo(
            source.n,
            chunk.document_id,
            chunk.filename,
            chunk.page_start,
            chunk.page_end,
            chunk.score,
        )
        for source, chunk in sources
    )


def _observe_rate(provider: str, usage: Usage, first_token_at: float | None) -> None:
    if first_token_at is None:
        return
    elapsed_s = time.monotonic() - first_token_at
    if elapsed_s > 0.05:
        TOKENS_PER_SECOND.labels(provider=provider).observe(usage.output_tokens / elapsed_s)

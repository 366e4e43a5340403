"""answer(): a question -> admit -> retrieve -> assemble -> generate -> cite -> events."""

import asyncio
import hashlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any
from uuid import UUID

from app.accounts.principal import Principal
from app.chat.admission import (
    Policies,
    Policy,
    check_messages,
    find_unready,
    wait_until_ready,
)
from app.chat.answer_trace import AnswerTrace
from app.chat.assembly import SOURCES_MAX_TOKENS, Outline, TokenBudget, assemble, outline_prompt
from app.chat.citations import Marker, MarkerFilter, TextPiece
from app.chat.costs import cost_of
from app.chat.events import Citation, Done, Event, SourceInfo, Start, Token, UnreadyDocument
from app.chat.injection import find_injections
from app.chat.quotes import SourceIndex, find_claim, find_opening, find_page_quote
from app.chat.safe_text import Removed, SafeText, hosts_in
from app.chat.support import find_unsupported
from app.core.db import TenantScope
from app.core.errors import InvalidRequest
from app.core.ids import new_id
from app.core.metrics import FIRST_TOKEN_SECONDS, TOKENS_PER_SECOND
from app.core.text import storable
from app.llm.attempts import CONTEXT_LENGTH, Attempts, Prompt
from app.llm.base import (
    NOT_IN_DOCUMENTS,
    ChatOption,
    ChatRequest,
    Finish,
    FinishReason,
    Message,
    Source,
    TextDelta,
    Usage,
)
from app.llm.metering import CallMeter, Unmetered
from app.llm.model_names import EXTRACTIVE
from app.llm.routing import Candidate, Chain, ModelRouter
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

# A temperature or a top_p that leaves a model's words as likely as they are.
_NEUTRAL = 1.0

# Characters. To judge a longer one takes the event loop's time.
_LONG_ANSWER = 1_500

# By document and page number, where a page has a printed name.
PageLabels = Mapping[tuple[UUID, int], str]

# Who asks, and the answer's run -> who keeps the accounts of its calls.
MeterFor = Callable[[Principal, UUID], CallMeter]
# Whether somebody has money for a model (provider, its own name). Raises BudgetExceeded.
BudgetCheck = Callable[[Principal, str, str], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Question:
    """One turn. The last message is the user's and is what is asked.

    `wait_s`: how long named documents may take to get ready. `top_k` None leaves to us how many
    passages the model is shown; none scores below `min_score`. A `verbatim` one is not about
    documents: the model gets the messages as they are, and its words come as they are. Who
    `insists_on_temperature` is refused where no model takes one, which is else left out.
    """

    messages: tuple[Message, ...]
    model: str | None
    temperature: float
    max_tokens: int
    use_rag: bool
    filter: Filter = EVERYTHING
    wait_s: float = 0.0
    top_k: int | None = None
    min_score: float = 0.0
    verbatim: bool = False
    insists_on_temperature: bool = False
    stop: tuple[str, ...] = ()
    seed: int | None = None
    top_p: float | None = None
    user: str = ""

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
class Route:
    """Who answers: `model` is `provider/model`, `fallbacks` how many were passed over for it.

    None of them as long as another model may take over.
    """

    provider: str
    model: str
    fallbacks: int | None


@dataclass(frozen=True, slots=True)
class Admitted:
    """A question that may be answered: what could be refused has been looked at.

    `chain` are the models in the order of trying, and the question fits into the first one's
    window. `outline` is None where the history has become another since.
    """

    question: Question
    chain: Chain
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
    def candidate(self) -> Candidate:
        return self.chain[0]

    @property
    def model_id(self) -> str:
        return self.candidate.model_id

    @property
    def is_extractive(self) -> bool:
        return self.candidate.is_extractive


@dataclass(frozen=True, slots=True)
class ModelPrompt:
    """What one model of the chain is asked with: windows and tokenizers differ."""

    candidate: Candidate
    request: ChatRequest
    sources: tuple[tuple[Source, RankedChunk], ...]
    budget: TokenBudget

    @property
    def input_tokens(self) -> int:
        return self.budget.total - self.budget.answer


@dataclass(frozen=True, slots=True)
class Prepared:
    """All that can fail before a model is asked has been done. `prompt` is the first model's."""

    ids: AnswerIds
    admitted: Admitted
    prompt: ModelPrompt
    page_labels: PageLabels
    retrieval: Retrieval | None
    retrieval_s: float
    attempts: Attempts

    @property
    def fits_documents(self) -> bool:
        return self.retrieval is None or self.retrieval.is_answerable

    async def prompt_for(self, candidate: Candidate) -> ModelPrompt:
        """Return the prompt of a model, from what was retrieved.

        Raises InvalidRequest (`context_length_exceeded`).
        """
        if candidate == self.prompt.candidate:
            return self.prompt
        outline = await _outline(self.admitted, candidate)
        return await _make_prompt(self.admitted, candidate, outline, self.retrieval)


@dataclass(frozen=True, slots=True)
class Answerer:
    """What answering stands on."""

    retriever: Retriever
    router: ModelRouter
    policies: Policies
    meter_for: MeterFor = lambda _principal, _run_id: Unmetered()
    check_budget: BudgetCheck | None = None

    async def admit(self, principal: Principal, question: Question) -> Admitted:
        """Choose the models and look at all that can be refused before anything begins.

        Raises NotFound, InvalidRequest, Conflict (see `admission`), BudgetExceeded. Holds no
        connection.
        """
        started = time.monotonic()
        chain = await self.router.route(
            question.model, allowed=principal.allowed_models, with_documents=question.use_rag
        )
        if self.check_budget is not None:
            await self.check_budget(principal, chain[0].provider.name, chain[0].model)
        unready: tuple[UnreadyDocument, ...] = ()
        policy = await self.policies.get(principal)
        if question.use_rag:
            async with self.retriever.db.reading(principal) as driver:
                unready = await find_unready(driver, principal, question.filter)
        check_messages(policy, question.messages)
        if unready and question.filter.document_ids:
            await wait_until_ready(
                self.retriever.db, principal, question.filter, unready, wait_s=question.wait_s
            )
            unready = ()
        chain = _supporting(chain, question)
        return await _fit(Admitted(question, chain, policy, unready, started))

    async def prepare(
        self, principal: Principal, admitted: Admitted, ids: AnswerIds | None = None
    ) -> Prepared:
        """Retrieve and assemble. Raises ProviderError. Holds no connection when it returns."""
        question = admitted.question
        ids = ids or AnswerIds()
        began = time.monotonic()
        meter = self.meter_for(principal, ids.run_id)
        found = await self._retrieve(principal, admitted, meter) if question.use_rag else None
        retrieval_s = time.monotonic() - began
        admitted = await _fit(admitted)
        assert admitted.outline is not None  # noqa: S101  # _fit makes one
        prompt = await _make_prompt(admitted, admitted.candidate, admitted.outline, found)
        # Of all that was found: another model may be shown more of it.
        labels = await self._load_labels(principal, found.chunks if found else ())
        return Prepared(
            ids=ids,
            admitted=admitted,
            prompt=prompt,
            page_labels=labels,
            retrieval=found,
            retrieval_s=retrieval_s,
            attempts=Attempts(
                self.router.deployments,
                meter,
                total_s=self.router.total_s,
            ),
        )

    async def _retrieve(
        self, scope: TenantScope, admitted: Admitted, meter: CallMeter
    ) -> Retrieval:
        question = admitted.question
        query = RetrievalQuery(
            question.text,
            question.top_k or (EXTRACTIVE_TOP_K if admitted.is_extractive else TOP_K),
            question.filter,
            question.messages[:-1],
            admitted.model_id,
            may_expand=True,
        )
        return await self.retriever.retrieve(scope, query, meter=meter)

    async def _load_labels(self, scope: TenantScope, chunks: Sequence[RankedChunk]) -> PageLabels:
        pages = {(chunk.document_id, span.page) for chunk in chunks for span in chunk.spans}
        if not pages:
            return {}
        async with self.retriever.db.reading(scope) as driver:
            return await load_page_labels(driver, scope.org_id, pages)


async def _fit(admitted: Admitted) -> Admitted:
    """Return it with the first model into whose window the question fits, and those behind it.

    Raises InvalidRequest (`context_length_exceeded`) when it fits into none. Quotes are no way out:
    they are for when models fail.
    """
    if admitted.outline is not None:
        return admitted
    error: InvalidRequest | None = None
    for index, candidate in enumerate(admitted.chain):
        if error is not None and candidate.is_extractive:
            break
        try:
            outline = await _outline(admitted, candidate)
        except InvalidRequest as exc:
            if exc.code != CONTEXT_LENGTH:
                raise
            error = error or exc
        else:
            return replace(admitted, chain=admitted.chain[index:], outline=outline)
    assert error is not None  # noqa: S101  # a chain is never empty
    raise error


async def _outline(admitted: Admitted, candidate: Candidate) -> Outline:
    """Raises InvalidRequest (`context_length_exceeded`) when the question does not fit."""
    question = admitted.question
    return await outline_prompt(
        candidate.provider,
        candidate.model,
        history=question.messages[:-1],
        question=question.text,
        with_sources=question.use_rag,
        max_tokens=question.max_tokens,
        organization_prompt=admitted.policy.system_prompt,
        verbatim=question.verbatim,
    )


async def _make_prompt(
    admitted: Admitted, candidate: Candidate, outline: Outline, found: Retrieval | None
) -> ModelPrompt:
    question = admitted.question
    assembled = await assemble(
        outline,
        [chunk for chunk in found.chunks if chunk.score >= question.min_score] if found else (),
        sources_max_tokens=(
            EXTRACTIVE_MAX_TOKENS if candidate.is_extractive else SOURCES_MAX_TOKENS
        ),
    )
    request = ChatRequest(
        model=candidate.model,
        messages=assembled.messages,
        temperature=question.temperature,
        max_tokens=assembled.budget.answer,
        question=found.question if found else "",
        phrases=found.phrases if found else (),
        sources=tuple(source for source, _ in assembled.sources),
        stop=question.stop,
        seed=question.seed,
        top_p=question.top_p,
        user=question.user,
    )
    return ModelPrompt(candidate, request, assembled.sources, assembled.budget)


def _supporting(chain: Chain, question: Question) -> Chain:
    """Return the models that know what the question asks for beyond an answer.

    Raises InvalidRequest (`unsupported_parameter`) where none does. Quotes stay last.
    """
    asked = {
        ChatOption.STOP: bool(question.stop),
        ChatOption.SEED: question.seed is not None,
        # What a model does that takes neither of these: 1 changes nothing.
        ChatOption.TOP_P: question.top_p not in (None, _NEUTRAL),
        ChatOption.TEMPERATURE: question.insists_on_temperature
        and question.temperature != _NEUTRAL,
    }
    wanted = {option for option, is_asked in asked.items() if is_asked}
    if not wanted:
        return chain
    able = tuple(each for each in chain if wanted <= each.provider.supports(each.model))
    if not able:
        lacking = min(wanted - chain[0].provider.supports(chain[0].model))
        raise InvalidRequest(
            f"The model {chain[0].model_id} does not take `{lacking}`: leave it out.",
            code="unsupported_parameter",
            param=lacking,
        )
    return (*able, *(each for each in chain if each.is_extractive and each not in able))


class Answer:
    """One answer in the making: its events, and what there is of it so far."""

    def __init__(self, prepared: Prepared) -> None:
        self.route: Route | None = None
        self._prepared = prepared
        self._attempts = prepared.attempts
        self._prompts: dict[Candidate, ModelPrompt] = {}
        self._finish: Finish | None = None
        self._first_token_at: float | None = None
        self._unsupported: tuple[tuple[int, int], ...] = ()
        self._trace = AnswerTrace(
            prepared.retrieval, prepared.prompt.sources, prepared.prompt.budget, self._attempts.made
        )
        self._trace.timings_ms["retrieval"] = 1000 * prepared.retrieval_s
        self._take(prepared.prompt)

    def _take(self, prompt: ModelPrompt) -> None:
        """Go on with a model, before there is any text."""
        prepared = self._prepared
        self.start = _start(prepared, prompt)
        self._provider = prompt.candidate.provider.name
        self._prompt = prompt
        self._writer = _AnswerWriter(
            prompt.sources,
            prepared.page_labels,
            verbatim=prepared.admitted.question.verbatim,
        )
        self._trace.show(prompt.sources, prompt.budget)

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

        Where another model takes over, which is before any of the others, another Start replaces
        the first one. A citation comes before the token that holds its marker. Raises AppError,
        which ends the answer without Done: `conclude` makes one. Closing it closes the provider's
        socket.
        """
        async with aclosing(self._generate()) as deltas:
            async for delta in deltas:
                if isinstance(delta, Start):
                    yield delta
                    continue
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
        finish, writer = self._finish, self._writer
        usage = finish.usage if finish else self._usage_so_far()
        cost_usd = cost_of(self._attempts.made)
        self._trace.conclude(
            elapsed_s=time.monotonic() - self._prepared.admitted.started,
            usage=usage,
            cost_usd=cost_usd,
            dropped_markers=writer.dropped_markers,
            removed=writer.removed,
        )
        return Done(
            status=status,
            finish_reason=finish_reason,
            usage=usage,
            model_version=finish.model if finish else self.start.model,
            cost_usd=cost_usd,
            answer_sha256=hashlib.sha256(self.text.encode()).hexdigest(),
            degraded=self._provider == EXTRACTIVE,
            dropped_markers=writer.dropped_markers,
            unsupported=self._unsupported,
            provider=self._provider,
            attempts=self._attempts.calls,
            fallbacks=self._fallbacks,
        )

    @property
    def _fallbacks(self) -> int:
        return max(0, len(self._attempts.made) - 1)

    async def _find_unsupported(self) -> tuple[tuple[int, int], ...]:
        if not self._prompt.sources:
            return ()
        if len(self.text) < _LONG_ANSWER:
            return self._writer.find_unsupported()
        return await asyncio.to_thread(self._writer.find_unsupported)

    async def _generate(self) -> AsyncGenerator[Start | TextDelta | Finish]:
        """Ask the models; where nothing in the documents fits, say so without asking."""
        prepared = self._prepared
        if not prepared.fits_documents:
            yield self.start
            yield TextDelta(NOT_IN_DOCUMENTS)
            yield Finish(FinishReason.STOP, Usage(0, 0), self.start.model)
            return
        asked = self._attempts.ask(prepared.admitted.chain, self._prompt_for)
        async with aclosing(asked) as deltas:
            async for delta in deltas:
                if isinstance(delta, Candidate):
                    self._take(self._prompts[delta])
                    yield self.start
                else:
                    yield delta

    async def _prompt_for(self, candidate: Candidate) -> Prompt:
        prompt = self._prompts[candidate] = await self._prepared.prompt_for(candidate)
        return Prompt(prompt.request, prompt.input_tokens)

    def _usage_so_far(self) -> Usage:
        if not self._attempts.calls:
            return Usage(0, 0)
        messages = self._prompt.request.messages
        return usage_or_estimate(None, None, messages=messages, text=self.text)

    def _note_first_token(self) -> None:
        if self._first_token_at is None:
            self._first_token_at = time.monotonic()
            elapsed_s = self._first_token_at - self._prepared.admitted.started
            self._trace.timings_ms["first_token"] = 1000 * elapsed_s
            self.route = Route(self._provider, self.start.model, self._fallbacks)
            FIRST_TOKEN_SECONDS.labels(provider=self._provider).observe(elapsed_s)


class _AnswerWriter:
    """Turns deltas into tokens and citations, and keeps both."""

    def __init__(
        self,
        sources: Sequence[tuple[Source, RankedChunk]],
        page_labels: PageLabels,
        *,
        verbatim: bool,
    ) -> None:
        self._verbatim = verbatim
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
        if self._verbatim:
            return [self._write(TextPiece(storable(delta)))]
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


def _start(prepared: Prepared, prompt: ModelPrompt) -> Start:
    ids = prepared.ids
    return Start(
        ids.run_id,
        ids.message_id,
        ids.conversation_id,
        prompt.candidate.model_id,
        tuple(_info(source, chunk) for source, chunk in prompt.sources),
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

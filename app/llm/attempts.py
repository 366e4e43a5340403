"""The way of one question through its chain of models: who is asked, and who takes over.

Another model takes over before the first text only, and only where the error says nothing against
the question itself.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field

import structlog
from prometheus_client import Counter

from app.core.errors import AppError, InvalidRequest, ProviderError, ProviderErrorKind, Unavailable
from app.core.metrics import PROVIDER_ERRORS
from app.llm.base import ChatRequest, Finish, TextDelta, Usage
from app.llm.breaker import Admission, Refusal
from app.llm.metering import CallKind, CallMeter, CallResult, ModelCall
from app.llm.routing import HELD, Candidate, Chain, Deployment, Deployments
from app.llm.wire import provider_error, usage_or_estimate

log = structlog.get_logger(__name__)

MAX_ATTEMPTS = 3
MODEL_FALLBACKS = Counter(
    "footnote_model_fallbacks_total",
    "Models that were passed over for the next one of a chain",
    ["provider", "kind"],
)
SKIPPED = "skipped"
# Far more than they take.
_QUOTES_S = 60.0
# With less left of the whole time no other model is asked: it could not show what it can do.
_LEAST_S = 0.5

K = ProviderErrorKind
# Another model may do better. Of CONTEXT_LENGTH only one with a larger window.
_ANOTHER_MAY = frozenset(
    {
        *(K.AUTH, K.QUOTA, K.RATE_LIMITED, K.OVERLOADED, K.TIMEOUT, K.UNREACHABLE),
        *(K.TRUNCATED, K.PROTOCOL, K.MODEL_NOT_FOUND),
    }
)
# The vendor may have worked, and charge for it.
_MAY_COST = frozenset({K.TIMEOUT, K.TRUNCATED, K.PROTOCOL})
CONTEXT_LENGTH = "context_length_exceeded"


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a model is sent. `input_tokens` are counted or estimated."""

    request: ChatRequest
    input_tokens: int


@dataclass(slots=True)
class Attempt:
    """One model of a chain: asked, or `skipped` as it is known to fail.

    `outcome` becomes "completed" or the code of an error. `cost_nano` is in nano-USD, None where
    that is not known.
    """

    candidate: Candidate
    number: int = 0
    outcome: str = "interrupted"
    elapsed_ms: float = 0.0
    usage: Usage | None = None
    cost_nano: int | None = None
    texts: list[str] = field(default_factory=list)

    @property
    def is_call(self) -> bool:
        return self.number > 0


@dataclass(slots=True)
class Attempts:
    """`made` are the attempts so far, in order. `total_s` bounds all of them together."""

    deployments: Deployments
    meter: CallMeter
    total_s: float
    made: list[Attempt] = field(default_factory=list)

    @property
    def calls(self) -> int:
        return sum(attempt.is_call for attempt in self.made)

    async def ask(
        self, chain: Chain, prompt_for: Callable[[Candidate], Awaitable[Prompt]]
    ) -> AsyncGenerator[Candidate | TextDelta | Finish]:
        """Yield a candidate when it is asked, then its text, then exactly one Finish.

        A second candidate before any text has taken the place of the first. Raises what the last
        one failed with, Unavailable (`no_provider_available`) when all are known to fail, and at
        once what `prompt_for` and the meter raise; but a prompt that is too long for one model
        (InvalidRequest, `context_length_exceeded`) may fit another. When the time is over only
        quotes may follow: else it raises what the model failed with that took the rest of it.
        """
        deadline = asyncio.get_running_loop().time() + self.total_s
        pending = list(chain)
        refusals: list[Refusal] = []
        error: AppError | None = None
        while pending and self.calls < MAX_ATTEMPTS:
            # The last attempt is for who answers in any case.
            is_last = self.calls == MAX_ATTEMPTS - 1 or (error and _is_over(deadline))
            if is_last and pending[-1].is_extractive:
                del pending[:-1]
            elif error and _is_over(deadline):
                raise error
            candidate = pending.pop(0)
            try:
                prompt = await prompt_for(candidate)
            except InvalidRequest as exc:
                if exc.code != CONTEXT_LENGTH:
                    raise
                error = error or exc
                pending = _without_extractive(pending)
                continue
            deployment = self.deployments.get(candidate)
            admission = await deployment.ask()
            if admission.refusal and not _is_worth_asking(admission.refusal, chain):
                refusals.append(admission.refusal)
                self._skip(candidate, admission.refusal)
                continue
            attempt = Attempt(candidate)
            self.made.append(attempt)
            call = self._call(prompt, deployment, admission, attempt, deadline)
            try:
                async with aclosing(call) as deltas:
                    async for delta in deltas:
                        yield delta
                return
            except ProviderError as exc:
                if attempt.texts:
                    raise
                pending = await _who_may_do_better(exc, candidate, pending)
                if not pending:
                    raise
                error = exc
                _count_fallback(candidate, exc.kind)
                log.warning(
                    "model_fell_back", provider=candidate.provider.name, kind=exc.kind.value
                )
        raise error or _none_available(refusals)

    async def _call(
        self,
        prompt: Prompt,
        deployment: Deployment,
        admission: Admission,
        attempt: Attempt,
        deadline: float,
    ) -> AsyncGenerator[Candidate | TextDelta | Finish]:
        """Yield the candidate and what it says. The call is settled before its Finish is told."""
        began = time.monotonic()
        call = _model_call(attempt.candidate, prompt, self.calls + 1)
        report = _Report(deployment, admission)
        result = CallResult()
        finish: Finish | None = None
        try:
            async with self.meter.measure(call) as result:
                attempt.number = call.attempt
                result.error_code = attempt.outcome
                deployment.in_flight += 1
                try:
                    yield attempt.candidate
                    said = _deltas(attempt.candidate, prompt.request, deadline)
                    async with aclosing(said) as deltas:
                        async for delta in deltas:
                            if isinstance(delta, Finish):
                                finish = delta
                                continue
                            if admission.is_probe:
                                await report.success()
                            attempt.texts.append(delta.text)
                            yield delta
                    assert finish is not None  # noqa: S101  # the provider's contract: or an error
                    result.error_code, attempt.outcome = None, "completed"
                    result.usage, result.cost_usd = finish.usage, finish.cost_usd
                    await report.success()
                except ProviderError as error:
                    result.error_code = attempt.outcome = error.code
                    if error.kind not in _MAY_COST:
                        result.usage = Usage(0, 0)
                    await report.failure(error)
                    raise
                finally:
                    deployment.in_flight -= 1
                    if attempt.texts and finish is None:
                        result.usage = _usage_so_far(prompt.request, attempt)
        except AppError as error:
            if not attempt.is_call:  # the meter refused it
                attempt.outcome = error.code
            raise
        finally:
            attempt.elapsed_ms = 1000 * (time.monotonic() - began)
            attempt.usage, attempt.cost_nano = result.usage, result.cost_nano
            await report.nothing()
        yield finish

    def _skip(self, candidate: Candidate, refusal: Refusal) -> None:
        """Not logged: the breaker did it once, and questions are many."""
        self.made.append(Attempt(candidate, outcome=SKIPPED))
        _count_fallback(candidate, refusal.kind)


class _Report:
    """What the breaker is told of a call: one thing, once."""

    def __init__(self, deployment: Deployment, admission: Admission) -> None:
        self._deployment = deployment
        self._admission = admission
        self._is_told = False

    async def success(self) -> None:
        if not self._is_told:
            self._is_told = True
            await self._deployment.report_success(self._admission)

    async def failure(self, error: ProviderError) -> None:
        self._is_told = True
        await self._deployment.report_failure(error)

    async def nothing(self) -> None:
        if not self._is_told:
            self._is_told = True
            await self._deployment.release(self._admission)


async def _deltas(
    candidate: Candidate, request: ChatRequest, deadline: float
) -> AsyncGenerator[TextDelta | Finish]:
    """Yield what a model says. Raises ProviderError, also (TIMEOUT) behind the deadline."""
    loop = asyncio.get_running_loop()
    stream: AsyncIterator[TextDelta | Finish] = candidate.provider.stream(request)
    if candidate.is_extractive:  # takes no time, and is left when others took all of it
        deadline = loop.time() + _QUOTES_S
    try:
        try:
            async with asyncio.timeout_at(deadline):
                delta = await anext(stream)
        except TimeoutError as exc:
            raise _too_late(candidate) from exc
        yield delta
        # From here on the provider's own time-outs see to it that this goes on.
        async for delta in stream:
            if loop.time() > deadline and isinstance(delta, TextDelta):
                raise _too_late(candidate)
            yield delta
    finally:
        if isinstance(stream, AsyncGenerator):
            await stream.aclose()


def _is_over(deadline: float) -> bool:
    return asyncio.get_running_loop().time() > deadline - _LEAST_S


def _model_call(candidate: Candidate, prompt: Prompt, number: int) -> ModelCall:
    return ModelCall(
        CallKind.CHAT,
        candidate.provider.name,
        candidate.model,
        input_tokens=prompt.input_tokens,
        max_output_tokens=prompt.request.max_tokens,
        attempt=number,
    )


def _count_fallback(candidate: Candidate, kind: ProviderErrorKind) -> None:
    MODEL_FALLBACKS.labels(provider=candidate.provider.name, kind=kind.value).inc()


def _is_worth_asking(refusal: Refusal, chain: Chain) -> bool:
    """With no other model at hand, who repairs the settings must not wait to see that they work."""
    return len(chain) == 1 and refusal.kind in HELD


async def _who_may_do_better(
    error: ProviderError, failed: Candidate, pending: list[Candidate]
) -> list[Candidate]:
    if error.kind in _ANOTHER_MAY:
        return pending
    if error.kind is not K.CONTEXT_LENGTH or not pending:
        return []
    window = await failed.provider.context_window(failed.model)
    return [
        candidate
        for candidate in _without_extractive(pending)
        if await candidate.provider.context_window(candidate.model) > window
    ]


def _without_extractive(chain: list[Candidate]) -> list[Candidate]:
    """Quotes are for when models fail, not for what was asked too long."""
    return [candidate for candidate in chain if not candidate.is_extractive]


def _usage_so_far(request: ChatRequest, attempt: Attempt) -> Usage:
    return usage_or_estimate(None, None, messages=request.messages, text="".join(attempt.texts))


def _too_late(candidate: Candidate) -> ProviderError:
    name = candidate.provider.name
    PROVIDER_ERRORS.labels(provider=name, kind=K.TIMEOUT.value).inc()
    return provider_error(K.TIMEOUT, name)


def _none_available(refusals: list[Refusal]) -> Unavailable:
    wait_s = min((refusal.wait_s for refusal in refusals), default=1.0)
    return Unavailable(
        "None of the models that may answer this can do so just now: try again later.",
        code="no_provider_available",
        retry_after_s=max(1.0, wait_s),
        details={"reasons": sorted({refusal.kind.value for refusal in refusals})},
    )

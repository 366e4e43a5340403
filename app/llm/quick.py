"""Side tasks of a chat model: one short answer within a strict budget, or none."""

import asyncio
from collections.abc import Sequence

from redis.asyncio import Redis

from app.core.errors import (
    BudgetExceeded,
    NotFound,
    ProviderError,
    ProviderErrorKind,
    RateLimited,
    Unavailable,
)
from app.core.metrics import PROVIDER_ERRORS
from app.llm.base import ChatRequest, Finish, FinishReason, LLMProvider, Message
from app.llm.breaker import CircuitBreaker
from app.llm.metering import UNMETERED, CallKind, CallMeter, CallResult, ModelCall
from app.llm.model_names import EXTRACTIVE
from app.llm.registry import Models
from app.llm.wire import estimate_prompt_tokens, provider_error, usage_or_estimate

# A model that is too slow for a task is asked again now and then: it may have been loading.
PROBE_INTERVAL_S = 30.0
# Requests name the models, so that there may be any number of them.
_MAX_BREAKERS = 64


class QuickModel:
    """A chat model for one kind of side task, which the plain way can do without.

    `budget_s` bounds all of a call: choosing the model, the connection, the answer. With `redis`, a
    model that was too slow or away five times in a row is left alone but for one call in
    `probe_interval_s`.
    """

    def __init__(
        self,
        models: Models,
        *,
        task: str,
        kind: CallKind,
        budget_s: float,
        redis: Redis | None = None,
        probe_interval_s: float = PROBE_INTERVAL_S,
    ) -> None:
        self._models = models
        self._task = task
        self._kind = kind
        self._budget_s = budget_s
        self._redis = redis
        self._probe_interval_s = probe_interval_s
        self._breakers: dict[str, CircuitBreaker] = {}

    async def ask(
        self,
        model_id: str | None,
        messages: Sequence[Message],
        *,
        max_tokens: int,
        meter: CallMeter = UNMETERED,
    ) -> str:
        """Return the whole answer, stripped, at temperature 0; no `model_id` is the default model.

        Raises ProviderError: MODEL_NOT_FOUND without a language model, TIMEOUT after the budget,
        PROTOCOL on an empty answer or a cut one, QUOTA where the caller's own money or tokens do
        not allow it. The socket is closed in any case.
        """
        deadline = asyncio.get_running_loop().time() + self._budget_s
        try:
            async with asyncio.timeout_at(deadline):
                provider, model = await self._resolve(model_id)
        except TimeoutError as exc:
            raise self._timeout(self._task) from exc
        breaker = self._breaker(f"{provider.name}/{model}")
        if breaker and (refusal := await breaker.admit()):
            raise provider_error(refusal.kind, provider.name, retry_after_s=refusal.wait_s)
        request = ChatRequest(model, tuple(messages), 0.0, max_tokens)
        prompt_tokens = estimate_prompt_tokens(messages)
        call = ModelCall(self._kind, provider.name, model, prompt_tokens, max_tokens)
        try:
            async with meter.measure(call) as result:
                return await self._read_in_time(provider, request, breaker, deadline, result)
        except (BudgetExceeded, RateLimited, Unavailable) as exc:
            raise provider_error(ProviderErrorKind.QUOTA, self._task) from exc

    async def _read_in_time(
        self,
        provider: LLMProvider,
        request: ChatRequest,
        breaker: CircuitBreaker | None,
        deadline: float,
        result: CallResult,
    ) -> str:
        try:
            async with asyncio.timeout_at(deadline):
                answer = await _read(provider, request, result)
        except (TimeoutError, ProviderError) as exc:
            error = exc if isinstance(exc, ProviderError) else self._timeout(provider.name)
            if breaker:
                await breaker.report_failure(error)
            raise error from exc
        if breaker:
            await breaker.report_success()
        return answer

    async def _resolve(self, model_id: str | None) -> tuple[LLMProvider, str]:
        try:
            provider, model = await self._models.resolve(model_id)
        except NotFound as exc:
            raise provider_error(ProviderErrorKind.MODEL_NOT_FOUND, self._task) from exc
        if provider.name == EXTRACTIVE:
            raise provider_error(ProviderErrorKind.MODEL_NOT_FOUND, EXTRACTIVE)
        return provider, model

    def _breaker(self, model_id: str) -> CircuitBreaker | None:
        if self._redis is None:
            return None
        if model_id not in self._breakers:
            if len(self._breakers) >= _MAX_BREAKERS:
                self._breakers.clear()
            self._breakers[model_id] = CircuitBreaker(
                self._redis,
                provider=self._task,
                model=model_id,
                probe_interval_s=self._probe_interval_s,
            )
        return self._breakers[model_id]

    @staticmethod
    def _timeout(provider: str) -> ProviderError:
        kind = ProviderErrorKind.TIMEOUT
        PROVIDER_ERRORS.labels(provider=provider, kind=kind.value).inc()
        return provider_error(kind, provider)


async def _read(provider: LLMProvider, request: ChatRequest, result: CallResult) -> str:
    texts: list[str] = []
    reason: FinishReason | None = None
    try:
        # Cancelled by the deadline, the provider's generator closes its socket.
        async for delta in provider.stream(request):
            if isinstance(delta, Finish):
                reason = delta.reason
                result.usage, result.cost_usd = delta.usage, delta.cost_usd
            else:
                texts.append(delta.text)
    finally:
        if result.usage is None and texts:
            written = "".join(texts)
            result.usage = usage_or_estimate(None, None, messages=request.messages, text=written)
    answer = "".join(texts).strip()
    if not answer or reason is not FinishReason.STOP:
        raise provider_error(ProviderErrorKind.PROTOCOL, provider.name)
    return answer

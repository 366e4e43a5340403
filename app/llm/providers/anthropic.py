"""Anthropic over the official SDK. Importing this module imports the SDK: 0.7 s and 39 MB.

As with OpenAI, streams are read from the SDK's raw response: it reports no stream that ends early.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from typing import Any, cast

import anthropic

from app.core.errors import ProviderError, ProviderErrorKind
from app.core.tokens import Tokenizer
from app.llm.aiohttp_transport import body_of
from app.llm.base import (
    ChatOption,
    ChatRequest,
    Finish,
    FinishReason,
    Role,
    TextDelta,
    Timeouts,
)
from app.llm.context_windows import Remembered, token_count
from app.llm.http_errors import translated_sdk_http_errors
from app.llm.model_names import ANTHROPIC
from app.llm.providers.openai import drain, open_http_client
from app.llm.wire import (
    StreamClock,
    StreamedAnswer,
    counted_errors,
    failure_kind,
    finish_answer,
    parse_retry_after,
    provider_error,
    read_event,
    usage_or_estimate,
)

# Every model that is sold takes as much.
DEFAULT_CONTEXT_WINDOW = 200_000
_FINISH_REASONS = {
    "max_tokens": FinishReason.LENGTH,
    "model_context_window_exceeded": FinishReason.LENGTH,
    "refusal": FinishReason.CONTENT_FILTER,
}
# Errors are told by their type: in a stream, the status is 200.
_KINDS = {
    "authentication_error": ProviderErrorKind.AUTH,
    "permission_error": ProviderErrorKind.AUTH,
    "billing_error": ProviderErrorKind.QUOTA,
    "rate_limit_error": ProviderErrorKind.RATE_LIMITED,
    "overloaded_error": ProviderErrorKind.OVERLOADED,
    "api_error": ProviderErrorKind.OVERLOADED,
    "timeout_error": ProviderErrorKind.TIMEOUT,
    "not_found_error": ProviderErrorKind.MODEL_NOT_FOUND,
    "request_too_large": ProviderErrorKind.CONTEXT_LENGTH,
}
_LISTED_MODELS = 1000
_EMPTY: Mapping[str, Any] = {}


class AnthropicProvider:
    """Chat over `/v1/messages`. Its models take no temperature: none is sent."""

    name = ANTHROPIC

    def __init__(self, *, api_key: str, base_url: str, timeouts: Timeouts | None = None) -> None:
        self._timeouts = timeouts or Timeouts()
        self._client = anthropic.AsyncAnthropic(
            api_key=api_key,
            base_url=base_url,
            max_retries=0,
            # All but connecting is timed by our own clocks.
            timeout=None,
            open_telemetry=False,
            http_client=open_http_client(self._timeouts),
        )
        # The SDK has taken ANTHROPIC_CUSTOM_HEADERS from the environment.
        self._client._custom_headers = {}
        self._windows = Remembered(self._list_windows)

    async def stream(self, request: ChatRequest) -> AsyncIterator[TextDelta | Finish]:
        """See LLMProvider. A refusal has the finish reason CONTENT_FILTER."""
        answer = _Answer(request)
        create: Any = self._client.messages.with_streaming_response.create
        with (
            counted_errors(),
            _translated_errors(request.model),
            StreamClock(self._timeouts) as clock,
        ):
            async with AsyncExitStack() as stack:
                call = create(stream=True, **_parameters(request))
                response = await clock.wait(stack.enter_async_context(call))
                body = body_of(response.http_response)
                while not answer.is_over:
                    for text in await answer.read_on(clock, body.read_available):
                        yield TextDelta(text)
                await drain(body)
            yield answer.finish()

    def supports(self, _model: str) -> frozenset[ChatOption]:
        """See LLMProvider."""
        return frozenset({ChatOption.STOP, ChatOption.USER})

    async def list_models(self) -> list[str]:
        """See LLMProvider; sorted."""
        with _translated_errors(""):
            return sorted(str(model["id"]) for model in await self._list())

    async def context_window(self, model: str) -> int:
        """See LLMProvider."""
        listed = await self._windows.get("") or {}
        return listed.get(model, DEFAULT_CONTEXT_WINDOW)

    async def tokenizer(self, _model: str) -> Tokenizer | None:
        """See LLMProvider; counting takes a call of the server."""
        return None

    async def _list_windows(self, _key: str) -> dict[str, int]:
        with _translated_errors(""):
            windows = {m["id"]: token_count(m.get("max_input_tokens")) for m in await self._list()}
        return {name: window for name, window in windows.items() if window}

    async def _list(self) -> Any:
        async with asyncio.timeout(self._timeouts.first_content_s):
            response = await self._client.models.with_raw_response.list(limit=_LISTED_MODELS)
            return json.loads(await response.read())["data"]

    async def aclose(self) -> None:
        await self._windows.aclose()
        await self._client.close()


class _Answer(StreamedAnswer):
    """What has been read of one streamed message."""

    def __init__(self, request: ChatRequest) -> None:
        super().__init__(request, ANTHROPIC)
        self._reason: str | None = None
        self._usage: dict[str, Any] = {}
        self._model = request.model

    def finish(self) -> Finish:
        """Raises ProviderError: TRUNCATED if `message_stop` never came, PROTOCOL without text."""
        if not self.is_done:
            raise provider_error(ProviderErrorKind.TRUNCATED, ANTHROPIC)
        text = self.text
        cached = self._usage.get("cache_read_input_tokens") or 0
        fresh = self._usage.get("input_tokens")
        if fresh is not None:
            # It leaves out what went through the cache.
            fresh += cached + (self._usage.get("cache_creation_input_tokens") or 0)
        usage = usage_or_estimate(
            fresh,
            self._usage.get("output_tokens"),
            messages=self._request.messages,
            text=text,
            cached_input_tokens=cached,
        )
        reason = _FINISH_REASONS.get(self._reason or "", FinishReason.STOP)
        return finish_answer(Finish(reason, usage, self._model), text, ANTHROPIC)

    def _read_line(self, line: bytes) -> str:
        payload = read_event(line)
        if self.is_done or not payload:
            return ""
        event = json.loads(payload.decode())
        kind = event["type"]
        if kind == "ping":
            return ""
        self._chunks += 1
        if kind == "error":
            raise _failure(None, event, self._request.model)
        if kind == "content_block_delta":
            delta = event["delta"]
            thinks = delta["type"] in {"thinking_delta", "signature_delta"}
            return self._take(delta.get("text"), is_thinking=thinks)
        self._read_frame(kind, event)
        return ""

    def _read_frame(self, kind: str, event: Mapping[str, Any]) -> None:
        if kind == "message_start":
            self._model = event["message"].get("model") or self._model
            self._usage.update(event["message"].get("usage") or _EMPTY)
        elif kind == "message_delta":
            self._reason = event["delta"].get("stop_reason") or self._reason
            # Cumulative, and of input only where it has changed.
            counts = event.get("usage") or _EMPTY
            self._usage.update({k: v for k, v in counts.items() if v is not None})
        elif kind == "message_stop":
            self.is_done = True


def _parameters(request: ChatRequest) -> dict[str, Any]:
    """Return the parameters of `messages.create`: the system's words apart, roles by turns."""
    system = [m.content for m in request.messages if m.role is Role.SYSTEM]
    turns: list[dict[str, str]] = []
    for message in request.messages:
        if message.role is Role.SYSTEM:
            continue
        if turns and turns[-1]["role"] == message.role.value:
            turns[-1]["content"] += "\n\n" + message.content
        else:
            turns.append({"role": message.role.value, "content": message.content})
    return {
        "model": request.model,
        "max_tokens": request.max_tokens,
        "messages": turns,
        "system": "\n\n".join(system) or anthropic.omit,
        "stop_sequences": list(request.stop) or anthropic.omit,
        "metadata": {"user_id": request.user} if request.user else anthropic.omit,
    }


def _failure(
    status: int | None, body: object, model: str, retry_after_s: float | None = None
) -> ProviderError:
    error = body.get("error") if isinstance(body, Mapping) else None
    error = cast("Mapping[str, object]", error) if isinstance(error, Mapping) else _EMPTY
    kind_name, detail = str(error.get("type")), str(error.get("message"))
    kind = _KINDS.get(kind_name) or failure_kind(status, f"{kind_name} {detail}")
    if kind is ProviderErrorKind.BAD_REQUEST and "credit balance" in detail.lower():
        kind = ProviderErrorKind.QUOTA
    return provider_error(kind, ANTHROPIC, model=model, retry_after_s=retry_after_s)


@contextmanager
def _translated_errors(model: str) -> Iterator[None]:
    """Turn what the SDK, its HTTP client and odd bodies raise into ProviderError."""
    try:
        with translated_sdk_http_errors(ANTHROPIC):
            yield
    except anthropic.APIStatusError as exc:
        retry_after_s = parse_retry_after(exc.response.headers)
        raise _failure(exc.status_code, exc.body, model, retry_after_s) from exc
    except anthropic.APITimeoutError as exc:
        raise provider_error(ProviderErrorKind.TIMEOUT, ANTHROPIC) from exc
    except anthropic.APIConnectionError as exc:
        raise provider_error(ProviderErrorKind.UNREACHABLE, ANTHROPIC) from exc
    except anthropic.AnthropicError as exc:
        raise provider_error(ProviderErrorKind.PROTOCOL, ANTHROPIC) from exc

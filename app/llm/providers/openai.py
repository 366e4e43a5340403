"""OpenAI and the servers that speak its API, over the official SDK: chat and embeddings.

Streams are read from the SDK's raw response: its own objects cost 20 times as much per chunk, and
it reports neither a stream that ends early nor an HTML page.
"""

import asyncio
import base64
import binascii
import json
import math
import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal, cast

import httpx2
import numpy as np
import openai
from openai._models import SecurityOptions
from openai._types import Headers
from openai.types.chat import ChatCompletionMessageParam

from app.core.errors import ProviderError, ProviderErrorKind
from app.core.tokens import EstimatingTokenizer, Tokenizer
from app.llm.aiohttp_transport import AiohttpTransport, Body, body_of, stay_with_origin
from app.llm.base import (
    ChatOption,
    ChatRequest,
    Finish,
    FinishReason,
    FloatMatrix,
    Purpose,
    TextDelta,
    Timeouts,
)
from app.llm.context_windows import (
    DEFAULT_CONTEXT_WINDOW,
    Remembered,
    find_published_window,
    read_listed_windows,
)
from app.llm.http_errors import translated_sdk_http_errors
from app.llm.vectors import unit_rows
from app.llm.vocabularies import Vocabularies
from app.llm.wire import (
    DRAIN_TIMEOUT_S,
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

NAME = "openai"
MAX_BATCH = 100
OPENAI_MAX_INPUT_TOKENS = 8191
COMPATIBLE_MAX_INPUT_TOKENS = 512  # what the smaller open models take

# They refuse a temperature; their `-chat` variants do not think and accept one.
_REASONING_MODEL = re.compile(r"(?:^|/)(?:o\d|gpt-(?:[5-9]|\d\d))(?!.*chat)")
_OPENAI_EMBEDDING = re.compile(r"^text-embedding-")
_FINISH_REASONS = {
    "length": FinishReason.LENGTH,
    "max_tokens": FinishReason.LENGTH,
    "content_filter": FinishReason.CONTENT_FILTER,
}
# The prompt itself is refused: OpenAI's own code and Azure's.
_FILTER_CODES = frozenset({"content_filter", "content_policy_violation"})
_EMPTY: Mapping[str, Any] = {}
# What `with_streaming_response` says to the SDK.
_RAW_RESPONSE = "X-Stainless-Raw-Response"


@dataclass(frozen=True, slots=True)
class Dialect:
    """Where OpenAI's own API and the servers that imitate it differ."""

    max_tokens_field: Literal["max_completion_tokens", "max_tokens"]
    encoding_format: Literal["base64", "float"]
    # Others often close the stream after the finish_reason, without `[DONE]`.
    needs_done: bool
    # OpenAI pads each chunk with noise unless told not to; others refuse the unknown option.
    has_obfuscation: bool
    # Others may call any model by any name, and many say in `/models` what it takes.
    has_own_models: bool
    # OpenRouter says in `usage.cost` what a call took, in dollars.
    has_cost: bool = False
    # What every request carries beside the parameters of OpenAI's API.
    extra_body: Mapping[str, Any] = field(default_factory=dict)


OPENAI_DIALECT = Dialect(
    "max_completion_tokens",
    "base64",
    needs_done=True,
    has_obfuscation=True,
    has_own_models=False,
)
COMPATIBLE_DIALECT = Dialect(
    "max_tokens", "float", needs_done=False, has_obfuscation=False, has_own_models=True
)


def dialect_of(base_url: str) -> Dialect:
    host = httpx2.URL(base_url).host
    is_openai = host == "api.openai.com" or host.endswith(".api.openai.com")
    return OPENAI_DIALECT if is_openai else COMPATIBLE_DIALECT


class OpenAIProvider:
    """Chat over `/chat/completions`. `dialect` is told from the URL unless given."""

    name: str = NAME

    def __init__(
        self,
        *,
        api_key: str,
        base_url: str,
        timeouts: Timeouts | None = None,
        dialect: Dialect | None = None,
        vocabularies: Vocabularies | None = None,
    ) -> None:
        self._timeouts = timeouts or Timeouts()
        self._dialect = dialect or dialect_of(base_url)
        self._vocabularies = vocabularies or Vocabularies(None)
        self._client = self._open_client(api_key, base_url)
        self._windows = Remembered(self._list_windows)

    async def stream(self, request: ChatRequest) -> AsyncIterator[TextDelta | Finish]:
        """See LLMProvider. A refusal comes as text with the finish reason CONTENT_FILTER."""
        answer = _Answer(request, self.name, self._dialect)
        with (
            counted_errors(),
            _translated_errors(self.name, request.model),
            StreamClock(self._timeouts) as clock,
        ):
            try:
                async with AsyncExitStack() as stack:
                    response = await clock.wait(self._send(request, answer))
                    stack.push_async_callback(response.aclose)
                    body = body_of(response)
                    while not answer.is_over:
                        for text in await answer.read_on(clock, body.read_available):
                            yield TextDelta(text)
                    await drain(body)
            except openai.APIStatusError as exc:
                if not _is_filtered(exc):
                    raise
                answer.is_filtered = True
            yield answer.finish()

    def _open_client(self, api_key: str, base_url: str) -> openai.AsyncOpenAI:
        return IsolatedClient(api_key, base_url, self._timeouts)

    async def _send(self, request: ChatRequest, answer: "_Answer") -> httpx2.Response:
        """Return the open response, whose body is not read yet.

        By the SDK's `post`: `create` looks through the body by its types, for a third of a
        millisecond.
        """
        options: dict[str, bool] = {"include_usage": True}
        if self._dialect.has_obfuscation:
            options["include_obfuscation"] = False
        return await self._client.post(
            "/chat/completions",
            body={
                "model": request.model,
                "messages": answer.messages,
                "stream": True,
                "stream_options": options,
                self._dialect.max_tokens_field: request.max_tokens,
                **_options(request),
                **self._dialect.extra_body,
            },
            cast_to=httpx2.Response,
            options={"headers": {_RAW_RESPONSE: "stream"}, "security": {"bearer_auth": True}},
        )

    def supports(self, model: str) -> frozenset[ChatOption]:
        """See LLMProvider; models that think take none of what changes the draw of a word."""
        return _options_of(model)

    async def list_models(self) -> list[str]:
        """See LLMProvider; sorted."""
        with _translated_errors(self.name, ""):
            return sorted(str(model["id"]) for model in await self._list())

    async def context_window(self, model: str) -> int:
        """See LLMProvider; OpenAI itself is not asked: its API does not tell."""
        listed: Mapping[str, int] = {}
        if self._dialect.has_own_models:
            listed = await self._windows.get("") or {}
        window = listed.get(model)
        if window is None and len(set(listed.values())) == 1:
            # llama.cpp answers to any name with the one model that it has.
            window = next(iter(listed.values()))
        return window or find_published_window(model) or DEFAULT_CONTEXT_WINDOW

    async def tokenizer(self, model: str) -> Tokenizer | None:
        """See LLMProvider. Of other servers only OpenRouter's `openai/…` is surely OpenAI's."""
        if self._dialect.has_own_models and not model.startswith("openai/"):
            return None
        return await self._vocabularies.find(model)

    async def _list_windows(self, _key: str) -> dict[str, int]:
        with _translated_errors(self.name, ""):
            return read_listed_windows(await self._list())

    async def _list(self) -> Any:
        async with asyncio.timeout(self._timeouts.first_content_s):
            response = await self._client.models.with_raw_response.list()
        return _parse(response.content, self.name)["data"]

    async def aclose(self) -> None:
        await self._windows.aclose()
        await self._client.close()


class OpenAIEmbedding:
    """One embedding model over `/embeddings`."""

    name: str = NAME
    max_batch = MAX_BATCH

    def __init__(
        self,
        *,
        api_key: str,
        base_url: str,
        model: str,
        timeouts: Timeouts | None = None,
        dialect: Dialect | None = None,
    ) -> None:
        self.model = model
        self.endpoint = base_url.rstrip("/")
        self.max_input_tokens = (
            OPENAI_MAX_INPUT_TOKENS
            if _OPENAI_EMBEDDING.match(model)
            else COMPATIBLE_MAX_INPUT_TOKENS
        )
        self.tokenizer: Tokenizer = EstimatingTokenizer()
        self._timeouts = timeouts or Timeouts()
        self._dialect = dialect or dialect_of(base_url)
        self._client = self._open_client(api_key, base_url)

    async def embed(self, texts: Sequence[str], *, purpose: Purpose) -> FloatMatrix:
        """See EmbeddingProvider."""
        if not 0 < len(texts) <= MAX_BATCH:
            raise ValueError(f"1 to {MAX_BATCH} texts a call, not {len(texts)}")
        is_query = purpose is Purpose.QUERY
        timeout_s = self._timeouts.first_content_s if is_query else self._timeouts.embed_batch_s
        with _translated_errors(self.name, self.model):
            async with asyncio.timeout(timeout_s):
                response = await self._client.embeddings.with_raw_response.create(
                    input=list(texts),
                    model=self.model,
                    encoding_format=self._dialect.encoding_format,
                )
            rows = _rows_in_order(_parse(response.content, self.name)["data"])
        return unit_rows(rows, count=len(texts), provider=self.name)

    def _open_client(self, api_key: str, base_url: str) -> openai.AsyncOpenAI:
        return IsolatedClient(api_key, base_url, self._timeouts)

    async def aclose(self) -> None:
        await self._client.close()


class IsolatedClient(openai.AsyncOpenAI):
    """Sends what it is given and nothing that the SDK finds in the environment.

    Without this, OPENAI_ORG_ID, OPENAI_PROJECT_ID and OPENAI_CUSTOM_HEADERS go to any base URL.
    Without a key it sends no credentials at all.
    """

    def __init__(self, api_key: str, base_url: str, timeouts: Timeouts) -> None:
        super().__init__(
            # The SDK would look for an empty one in the environment.
            api_key=api_key or "none",
            base_url=base_url,
            max_retries=0,
            # All but connecting is timed by our own clocks, which comments can't keep alive.
            timeout=None,
            http_client=open_http_client(timeouts),
        )
        self._has_key = bool(api_key)
        isolate(self)

    def _auth_headers(self, security: SecurityOptions) -> dict[str, str]:
        return super()._auth_headers(security) if self._has_key else {}

    def _validate_headers(self, headers: Headers, custom_headers: Headers) -> None:
        """The SDK insists on credentials."""


# In a client's headers: leave this one out.
NOT_SENT = cast(str, openai.omit)


def isolate(client: openai.AsyncOpenAI, **headers: str) -> None:
    """Let a client send these headers, and none that the SDK finds in the environment."""
    client._custom_headers = {
        "OpenAI-Organization": NOT_SENT,
        "OpenAI-Project": NOT_SENT,
        **headers,
    }


def open_http_client(timeouts: Timeouts, *, follows_redirects: bool = True) -> httpx2.AsyncClient:
    """Return the HTTP client of an SDK: it times the connecting, `body_of` reads its bodies.

    It follows no redirect to another origin: prompts and keys are for the one that is configured.
    """
    return httpx2.AsyncClient(
        transport=AiohttpTransport(connect_timeout_s=timeouts.connect_s),
        follow_redirects=follows_redirects,
        headers={"Accept-Encoding": "gzip, deflate"},
        event_hooks={"response": [stay_with_origin]},
    )


def _options_of(model: str) -> frozenset[ChatOption]:
    thinks = _REASONING_MODEL.search(model)
    lacking = {ChatOption.TEMPERATURE, ChatOption.TOP_P} if thinks else set()
    return frozenset(ChatOption) - lacking


def _options(request: ChatRequest) -> dict[str, Any]:
    """Return what the request sets, by the names of OpenAI's API."""
    options: dict[str, Any] = {"seed": request.seed}
    if ChatOption.TEMPERATURE in _options_of(request.model):
        options |= {"temperature": request.temperature, "top_p": request.top_p}
    options["stop"] = list(request.stop) or None
    options["user"] = request.user or None
    return {name: value for name, value in options.items() if value is not None}


class _Answer(StreamedAnswer):
    """What has been read of one streamed completion."""

    def __init__(self, request: ChatRequest, provider: str, dialect: Dialect) -> None:
        super().__init__(request, provider)
        self.messages = cast(
            "list[ChatCompletionMessageParam]",
            [{"role": m.role.value, "content": m.content} for m in request.messages],
        )
        self.is_filtered = False
        self._dialect = dialect
        self._reason: str | None = None
        self._usage = _EMPTY
        self._model = request.model

    def finish(self) -> Finish:
        """Raises ProviderError: TRUNCATED without the terminal marker, PROTOCOL without text."""
        if not self.is_filtered:
            self._check_is_whole()
        reason = _FINISH_REASONS.get(self._reason or "", FinishReason.STOP)
        text = self.text
        usage = usage_or_estimate(
            self._usage.get("prompt_tokens"),
            self._usage.get("completion_tokens"),
            messages=self._request.messages,
            text=text,
            cached_input_tokens=(self._usage.get("prompt_tokens_details") or _EMPTY).get(
                "cached_tokens"
            ),
        )
        if self.is_filtered:
            reason = FinishReason.CONTENT_FILTER
        cost_usd = _cost(self._usage.get("cost")) if self._dialect.has_cost else None
        return finish_answer(Finish(reason, usage, self._model, cost_usd), text, self._provider)

    def _check_is_whole(self) -> None:
        if self._reason is None or (self._dialect.needs_done and not self.is_done):
            raise provider_error(ProviderErrorKind.TRUNCATED, self._provider)
        if self._reason == "error":
            raise provider_error(ProviderErrorKind.OVERLOADED, self._provider)

    def _read_line(self, line: bytes) -> str:
        payload = read_event(line)
        if payload == b"[DONE]":
            self.is_done = True
        if self.is_done or not payload:
            return ""
        return self._read_chunk(json.loads(payload.decode()))

    def _read_chunk(self, chunk: Mapping[str, Any]) -> str:
        self._chunks += 1
        if error := chunk.get("error"):
            if not isinstance(error, Mapping) or error.get("code") not in _FILTER_CODES:
                raise _inline_error(self._provider, error)
            self.is_filtered = self.is_done = True
            return ""
        if usage := chunk.get("usage"):
            self._usage = usage
        # The usage chunk has no choices, OpenRouter's repeats the last one.
        if not (choices := chunk.get("choices")):
            return ""
        choice = choices[0]
        self._reason = choice.get("finish_reason") or self._reason
        delta = choice["delta"] or _EMPTY
        if model := chunk.get("model"):
            self._model = model
        text = delta.get("content")
        if not text and (refusal := delta.get("refusal")):
            self.is_filtered = True
            text = refusal
        thinks = delta.get("reasoning_content") or delta.get("reasoning")
        return self._take(text, is_thinking=bool(thinks))


async def drain(body: Body) -> None:
    """Read to the end of a finished body: only then can the connection serve the next call."""
    with suppress(TimeoutError, httpx2.HTTPError):
        async with asyncio.timeout(DRAIN_TIMEOUT_S):
            while await body.read_available():
                pass


@contextmanager
def _translated_errors(provider: str, model: str) -> Iterator[None]:
    """Turn what the SDK, its HTTP client and odd bodies raise into ProviderError."""
    try:
        with translated_sdk_http_errors(provider):
            yield
    except openai.APIStatusError as exc:
        raise _status_error(provider, exc, model) from exc
    except openai.APITimeoutError as exc:
        raise provider_error(ProviderErrorKind.TIMEOUT, provider) from exc
    except openai.APIConnectionError as exc:
        raise provider_error(ProviderErrorKind.UNREACHABLE, provider) from exc
    except openai.OpenAIError as exc:
        raise provider_error(ProviderErrorKind.PROTOCOL, provider) from exc


def _status_error(provider: str, exc: openai.APIStatusError, model: str) -> ProviderError:
    kind = failure_kind(exc.status_code, f"{exc.code} {exc.type} {exc.message}")
    retry_after_s = parse_retry_after(exc.response.headers)
    return provider_error(kind, provider, model=model, retry_after_s=retry_after_s)


def _is_filtered(exc: openai.APIStatusError) -> bool:
    """Tell whether the prompt was refused for what it says; OpenRouter quotes the passage."""
    metadata = exc.body.get("metadata") if isinstance(exc.body, Mapping) else None
    return exc.code in _FILTER_CODES or (
        isinstance(metadata, Mapping) and "flagged_input" in metadata
    )


def _inline_error(provider: str, error: object) -> ProviderError:
    """The error of a stream that had begun with status 200. OpenRouter's `code` is a status."""
    if not isinstance(error, Mapping):
        return provider_error(failure_kind(None, str(error)), provider)
    code = error.get("code")
    status = code if isinstance(code, int) and 400 <= code < 600 else None
    detail = f"{code} {error.get('type')} {error.get('message')}"
    return provider_error(failure_kind(status, detail), provider)


def _parse(content: bytes, provider: str) -> dict[str, Any]:
    """Return a JSON object, or raise its error or ValueError."""
    parsed = json.loads(content)
    if not isinstance(parsed, dict):
        raise TypeError("not a JSON object")
    if error := parsed.get("error"):
        raise _inline_error(provider, error)
    return parsed


def _rows_in_order(data: Sequence[Mapping[str, Any]]) -> list[object]:
    """Return the vectors by `index`. Raises ValueError when an index is missing or doubled."""
    by_index = {item.get("index", position): item for position, item in enumerate(data)}
    if set(by_index) != set(range(len(data))):
        raise ValueError("indexes are not 0 to n-1")
    return [_vector(by_index[index]["embedding"]) for index in range(len(data))]


def _vector(embedding: object) -> object:
    """Decode base64, which also servers send that were asked for floats, as little-endian."""
    if not isinstance(embedding, str):
        return embedding
    try:
        return np.frombuffer(base64.b64decode(embedding, validate=True), dtype="<f4")
    except binascii.Error as exc:
        raise ValueError("bad base64") from exc


def _cost(value: object) -> Decimal | None:
    """Return a price in dollars out of someone's JSON, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return Decimal(str(value)) if math.isfinite(value) and value >= 0 else None

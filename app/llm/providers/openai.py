"""OpenAI and the servers that speak its API, over the official SDK: chat and embeddings.

Streams are read from the SDK's raw response: its own objects cost 20 times as much per chunk, and
it reports neither a stream that ends early nor an HTML page.
"""

import asyncio
import base64
import binascii
import json
import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    contextmanager,
    suppress,
)
from dataclasses import dataclass
from typing import Any, Literal, cast

import httpx2
import numpy as np
import openai
from openai.types.chat import ChatCompletionMessageParam

from app.core.errors import ProviderError, ProviderErrorKind
from app.core.tokens import EstimatingTokenizer, Tokenizer
from app.llm.aiohttp_transport import AiohttpTransport, Body, body_of
from app.llm.base import (
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
from app.llm.vectors import unit_rows
from app.llm.vocabularies import Vocabularies
from app.llm.wire import (
    DRAIN_TIMEOUT_S,
    LineSplitter,
    StreamClock,
    counted_errors,
    failure_kind,
    finish_answer,
    parse_retry_after,
    provider_error,
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
_EMPTY: Mapping[str, Any] = {}


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

    name = NAME

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
        self._client = _IsolatedClient(api_key, base_url, self._timeouts)
        self._windows = Remembered(self._list_windows)

    async def stream(self, request: ChatRequest) -> AsyncIterator[TextDelta | Finish]:
        """See LLMProvider. A refusal comes as text with the finish reason CONTENT_FILTER."""
        answer = _Answer(request, needs_done=self._dialect.needs_done)
        with (
            counted_errors(),
            _translated_errors(request.model),
            StreamClock(self._timeouts) as clock,
        ):
            async with AsyncExitStack() as stack:
                response = await clock.wait(
                    stack.enter_async_context(self._request(request, answer))
                )
                body = body_of(response.http_response)
                while not answer.is_done:
                    block = await clock.wait(body.read_available())
                    for text in answer.feed(block) if block else answer.end():
                        yield TextDelta(text)
                    if not block:
                        break
                    if answer.has_progressed():
                        clock.saw_chunk(has_content=answer.has_content)
                await _drain(body)
            yield answer.finish()

    def _request(self, request: ChatRequest, answer: "_Answer") -> AbstractAsyncContextManager[Any]:
        """Return the call, not yet sent, as a context that holds the open response."""
        create: Any = self._client.chat.completions.with_streaming_response.create
        options: dict[str, bool] = {"include_usage": True}
        if self._dialect.has_obfuscation:
            options["include_obfuscation"] = False
        has_temperature = not _REASONING_MODEL.search(request.model)
        return cast(
            "AbstractAsyncContextManager[Any]",
            create(
                model=request.model,
                messages=answer.messages,
                stream=True,
                stream_options=options,
                temperature=request.temperature if has_temperature else openai.omit,
                **{self._dialect.max_tokens_field: request.max_tokens},
            ),
        )

    async def list_models(self) -> list[str]:
        """See LLMProvider; sorted."""
        with _translated_errors(""):
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
        with _translated_errors(""):
            return read_listed_windows(await self._list())

    async def _list(self) -> Any:
        async with asyncio.timeout(self._timeouts.first_content_s):
            response = await self._client.models.with_raw_response.list()
        return _parse(response.content)["data"]

    async def aclose(self) -> None:
        await self._windows.aclose()
        await self._client.close()


class OpenAIEmbedding:
    """One embedding model over `/embeddings`."""

    name = NAME
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
        self._client = _IsolatedClient(api_key, base_url, self._timeouts)

    async def embed(self, texts: Sequence[str], *, purpose: Purpose) -> FloatMatrix:
        """See EmbeddingProvider."""
        if not 0 < len(texts) <= MAX_BATCH:
            raise ValueError(f"1 to {MAX_BATCH} texts a call, not {len(texts)}")
        is_query = purpose is Purpose.QUERY
        timeout_s = self._timeouts.first_content_s if is_query else self._timeouts.embed_batch_s
        with _translated_errors(self.model):
            async with asyncio.timeout(timeout_s):
                response = await self._client.embeddings.with_raw_response.create(
                    input=list(texts),
                    model=self.model,
                    encoding_format=self._dialect.encoding_format,
                )
            rows = _rows_in_order(_parse(response.content)["data"])
        return unit_rows(rows, count=len(texts), provider=NAME)

    async def aclose(self) -> None:
        await self._client.close()


class _IsolatedClient(openai.AsyncOpenAI):
    """Sends what it is given and nothing that the SDK finds in the environment.

    Without this, OPENAI_ORG_ID, OPENAI_PROJECT_ID and OPENAI_CUSTOM_HEADERS go to any base URL.
    """

    def __init__(self, api_key: str, base_url: str, timeouts: Timeouts) -> None:
        super().__init__(
            api_key=api_key,
            base_url=base_url,
            max_retries=0,
            # All but connecting is timed by our own clocks, which comments can't keep alive.
            timeout=None,
            http_client=httpx2.AsyncClient(
                transport=AiohttpTransport(connect_timeout_s=timeouts.connect_s),
                follow_redirects=True,
                headers={"Accept-Encoding": "gzip, deflate"},
            ),
        )
        omitted = {"OpenAI-Organization": openai.omit, "OpenAI-Project": openai.omit}
        self._custom_headers = cast("Mapping[str, str]", omitted)


class _Answer:
    """What has been read of one streamed completion."""

    def __init__(self, request: ChatRequest, *, needs_done: bool) -> None:
        self.messages = cast(
            "list[ChatCompletionMessageParam]",
            [{"role": m.role.value, "content": m.content} for m in request.messages],
        )
        self.is_done = False
        self.has_content = False
        self._request = request
        self._needs_done = needs_done
        self._lines = LineSplitter()
        self._texts: list[str] = []
        self._chunks = self._chunks_reported = 0
        self._reason: str | None = None
        self._is_refusal = False
        self._usage = _EMPTY
        self._model = request.model

    def feed(self, block: bytes) -> Iterator[str]:
        """Yield the non-empty texts in a block of the body, in order."""
        for line in self._lines.feed(block):
            if text := self._feed_line(line):
                yield text

    def end(self) -> Iterator[str]:
        """Yield the text of a last line without an end."""
        if text := self._feed_line(self._lines.end()):
            yield text

    def has_progressed(self) -> bool:
        """Tell whether a chunk came since the last call; comments are none."""
        has_new = self._chunks > self._chunks_reported
        self._chunks_reported = self._chunks
        return has_new

    def finish(self) -> Finish:
        """Raises ProviderError: TRUNCATED without the terminal marker, PROTOCOL without text."""
        if self._reason is None or (self._needs_done and not self.is_done):
            raise provider_error(ProviderErrorKind.TRUNCATED, NAME)
        if self._reason == "error":
            raise provider_error(ProviderErrorKind.OVERLOADED, NAME)
        reason = _FINISH_REASONS.get(self._reason, FinishReason.STOP)
        text = "".join(self._texts)
        usage = usage_or_estimate(
            self._usage.get("prompt_tokens"),
            self._usage.get("completion_tokens"),
            messages=self._request.messages,
            text=text,
        )
        if self._is_refusal:
            reason = FinishReason.CONTENT_FILTER
        return finish_answer(Finish(reason, usage, self._model), text, NAME)

    def _feed_line(self, line: bytes) -> str:
        if line.startswith(b"data:"):
            payload = line[5:].strip()
        elif line.startswith(b"{"):
            payload = line  # an error as plain JSON, from servers that ignored `stream`
        elif line.lstrip()[:1] == b"<":
            raise ValueError("HTML instead of events")
        else:
            return ""
        if payload == b"[DONE]":
            self.is_done = True
        if self.is_done or not payload:
            return ""
        return self._feed_chunk(json.loads(payload.decode()))

    def _feed_chunk(self, chunk: Mapping[str, Any]) -> str:
        self._chunks += 1
        if error := chunk.get("error"):
            raise _inline_error(error)
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
            self._is_refusal = True
            text = refusal
        if not text:
            # A model that shows its thinking is alive.
            thinks = delta.get("reasoning_content") or delta.get("reasoning")
            self.has_content = self.has_content or bool(thinks)
            return ""
        if not isinstance(text, str):
            raise TypeError("content is no text")
        self.has_content = True
        self._texts.append(text)
        return text


async def _drain(body: Body) -> None:
    """Read to the end of a finished body: only then can the connection serve the next call."""
    with suppress(TimeoutError, httpx2.HTTPError):
        async with asyncio.timeout(DRAIN_TIMEOUT_S):
            while await body.read_available():
                pass


@contextmanager
def _translated_errors(model: str) -> Iterator[None]:
    """Turn what the SDK, its HTTP client and odd bodies raise into ProviderError."""
    try:
        yield
    except openai.APIStatusError as exc:
        raise _status_error(exc, model) from exc
    except (openai.APITimeoutError, httpx2.TimeoutException, TimeoutError) as exc:
        raise provider_error(ProviderErrorKind.TIMEOUT, NAME) from exc
    except openai.APIConnectionError as exc:
        raise provider_error(ProviderErrorKind.UNREACHABLE, NAME) from exc
    except httpx2.RequestError as exc:  # after the headers, while reading the body
        raise provider_error(ProviderErrorKind.TRUNCATED, NAME) from exc
    except (
        openai.OpenAIError,
        httpx2.InvalidURL,
        # ValueError covers bad JSON and bad UTF-8, the others a body of another shape.
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        RecursionError,
    ) as exc:
        raise provider_error(ProviderErrorKind.PROTOCOL, NAME) from exc


def _status_error(exc: openai.APIStatusError, model: str) -> ProviderError:
    kind = failure_kind(exc.status_code, f"{exc.code} {exc.type} {exc.message}")
    message = None
    if kind is ProviderErrorKind.MODEL_NOT_FOUND and model:
        message = f"The model provider {NAME} does not have the model {model}."
    return provider_error(
        kind, NAME, message=message, retry_after_s=parse_retry_after(exc.response.headers)
    )


def _inline_error(error: object) -> ProviderError:
    """The error of a stream that had begun with status 200. OpenRouter's `code` is a status."""
    if not isinstance(error, Mapping):
        return provider_error(failure_kind(None, str(error)), NAME)
    code = error.get("code")
    status = code if isinstance(code, int) and 400 <= code < 600 else None
    detail = f"{code} {error.get('type')} {error.get('message')}"
    return provider_error(failure_kind(status, detail), NAME)


def _parse(content: bytes) -> dict[str, Any]:
    """Return a JSON object, or raise its error or ValueError."""
    parsed = json.loads(content)
    if not isinstance(parsed, dict):
        raise TypeError("not a JSON object")
    if error := parsed.get("error"):
        raise _inline_error(error)
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

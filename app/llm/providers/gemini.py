"""Google's Gemini over the official SDK. Importing this module imports the SDK: 0.3 s and 17 MB."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from contextvars import ContextVar
from typing import Any, cast

import httpx2
from google import genai
from google.genai import errors, types

from app.core.errors import ProviderError, ProviderErrorKind
from app.core.tokens import EstimatingTokenizer, Tokenizer
from app.llm.aiohttp_transport import stay_with_origin
from app.llm.base import (
    ChatOption,
    ChatRequest,
    Finish,
    FinishReason,
    FloatMatrix,
    Purpose,
    Role,
    TextDelta,
    Timeouts,
)
from app.llm.context_windows import DEFAULT_CONTEXT_WINDOW, Remembered, token_count
from app.llm.http_errors import translated_sdk_http_errors
from app.llm.model_names import GEMINI
from app.llm.providers.openai import open_http_client
from app.llm.vectors import unit_rows
from app.llm.wire import (
    StreamClock,
    counted_errors,
    failure_kind,
    finish_answer,
    parse_retry_after,
    provider_error,
    usage_or_estimate,
)

API_VERSION = "v1beta"
MAX_BATCH = 100
MAX_INPUT_TOKENS = 2048
# Google refuses a shorter deadline.
_MIN_TIMEOUT_MS = 10_000
_LISTED_MODELS = 1000
# By Google's words for what a model can: chat, embed.
_USED_ACTIONS = frozenset({"generateContent", "embedContent"})

_LENGTH_REASONS = frozenset({"MAX_TOKENS", "CONTINUATION"})
_FILTER_REASONS = frozenset(
    {
        *("SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII"),
        *("ESCALATION", "PUP_LIMITED_DISABLED", "MODEL_ARMOR"),
    }
)
_ROLES = {Role.USER: "user", Role.ASSISTANT: "model"}
_TASK_TYPES = {Purpose.DOCUMENT: "RETRIEVAL_DOCUMENT", Purpose.QUERY: "RETRIEVAL_QUERY"}
_DELAY = re.compile(r"^(\d+(?:\.\d+)?)s$")
_BAD_KEY = "API_KEY_INVALID"


# The SDK closes a stream that is not read to its end when the garbage collector comes by: its
# iterators refer to each other. So each call knows its response, and closes it.
_open_call: ContextVar[AsyncExitStack | None] = ContextVar("gemini_call", default=None)


async def _close_with_call(response: httpx2.Response) -> None:
    if stack := _open_call.get():
        stack.push_async_callback(response.aclose)


class GeminiProvider:
    """Chat over `:streamGenerateContent`. A blocked prompt is an answer without a word."""

    name = GEMINI

    def __init__(self, *, api_key: str, base_url: str, timeouts: Timeouts | None = None) -> None:
        self._timeouts = timeouts or Timeouts()
        self._http = open_http_client(self._timeouts, follows_redirects=False)
        self._http.event_hooks = {"response": [stay_with_origin, _close_with_call]}
        self._models = open_models_api(api_key, base_url, self._timeouts, self._http)
        self._windows = Remembered(self._list_windows)

    async def stream(self, request: ChatRequest) -> AsyncIterator[TextDelta | Finish]:
        """See LLMProvider."""
        answer = _Answer(request)
        with (
            counted_errors(),
            _translated_errors(request.model),
            StreamClock(self._timeouts) as clock,
        ):
            async with AsyncExitStack() as stack:
                _open_call.set(stack)
                call = self._models.generate_content_stream(
                    model=request.model,
                    contents=cast("types.ContentListUnion", _contents(request)),
                    config=_config(request),
                )
                chunks = cast(
                    "AsyncIterator[types.GenerateContentResponse]", await clock.wait(call)
                )
                while (chunk := await clock.wait(anext(chunks, None))) is not None:
                    if text := answer.read(chunk):
                        yield TextDelta(text)
                    clock.saw_chunk(has_content=answer.has_content)
            yield answer.finish()

    def supports(self, _model: str) -> frozenset[ChatOption]:
        """See LLMProvider."""
        return frozenset(ChatOption) - {ChatOption.USER}

    async def list_models(self) -> list[str]:
        """See LLMProvider; those that can chat or embed, sorted."""
        with _translated_errors(""):
            return sorted(
                _name_of(model)
                for model in await self._list()
                if _USED_ACTIONS & set(model.supported_actions or ())
            )

    async def context_window(self, model: str) -> int:
        """See LLMProvider."""
        listed = await self._windows.get("") or {}
        return listed.get(model, DEFAULT_CONTEXT_WINDOW)

    async def tokenizer(self, _model: str) -> Tokenizer | None:
        """See LLMProvider; counting takes a call of the server."""
        return None

    async def _list_windows(self, _key: str) -> dict[str, int]:
        with _translated_errors(""):
            return _windows_of(await self._list())

    async def _list(self) -> Sequence[types.Model]:
        async with asyncio.timeout(self._timeouts.first_content_s):
            config = types.ListModelsConfig(page_size=_LISTED_MODELS)
            listed: Sequence[types.Model] = (await self._models.list(config=config)).page
        return listed

    async def aclose(self) -> None:
        await self._windows.aclose()
        await self._http.aclose()


def _windows_of(models: Sequence[types.Model]) -> dict[str, int]:
    """Return how many tokens models read and write, by name."""
    return {
        _name_of(model): (token_count(model.input_token_limit) or 0)
        + (token_count(model.output_token_limit) or 0)
        or DEFAULT_CONTEXT_WINDOW
        for model in models
    }


def _name_of(model: types.Model) -> str:
    return str(model.name).removeprefix("models/")


class GeminiEmbedding:
    """One embedding model over `:batchEmbedContents`."""

    name = GEMINI
    max_batch = MAX_BATCH
    max_input_tokens = MAX_INPUT_TOKENS

    def __init__(
        self, *, api_key: str, base_url: str, model: str, timeouts: Timeouts | None = None
    ) -> None:
        self.model = model
        self.endpoint = base_url.rstrip("/")
        self.tokenizer: Tokenizer = EstimatingTokenizer()
        self._timeouts = timeouts or Timeouts()
        self._http = open_http_client(self._timeouts, follows_redirects=False)
        self._models = open_models_api(api_key, base_url, self._timeouts, self._http)

    async def embed(self, texts: Sequence[str], *, purpose: Purpose) -> FloatMatrix:
        """See EmbeddingProvider."""
        if not 0 < len(texts) <= MAX_BATCH:
            raise ValueError(f"1 to {MAX_BATCH} texts a call, not {len(texts)}")
        is_query = purpose is Purpose.QUERY
        timeout_s = self._timeouts.first_content_s if is_query else self._timeouts.embed_batch_s
        # Each a content of its own: several parts of one would become one vector.
        contents = [types.Content(parts=[types.Part(text=text)]) for text in texts]
        with _translated_errors(self.model):
            async with asyncio.timeout(timeout_s):
                response = await self._models.embed_content(
                    model=self.model,
                    contents=cast("types.ContentListUnion", contents),
                    config=types.EmbedContentConfig(task_type=_TASK_TYPES[purpose]),
                )
            rows = [embedding.values for embedding in response.embeddings or ()]
        return unit_rows(rows, count=len(texts), provider=GEMINI)

    async def aclose(self) -> None:
        await self._http.aclose()


class _Answer:
    """What has been read of one streamed answer."""

    def __init__(self, request: ChatRequest) -> None:
        self.has_content = False
        self._request = request
        self._texts: list[str] = []
        self._reason: str | None = None
        self._usage: types.GenerateContentResponseUsageMetadata | None = None
        self._model = request.model

    def read(self, chunk: types.GenerateContentResponse) -> str:
        """Return the text of a chunk, or ""."""
        self._usage = chunk.usage_metadata or self._usage
        self._model = chunk.model_version or self._model
        if chunk.prompt_feedback and chunk.prompt_feedback.block_reason:
            self._reason = "PROHIBITED_CONTENT"
        text = ""
        for candidate in (chunk.candidates or ())[:1]:
            if candidate.finish_reason:
                self._reason = candidate.finish_reason.value
            parts = (candidate.content and candidate.content.parts) or ()
            self.has_content = self.has_content or bool(parts)
            text = "".join(part.text or "" for part in parts if not part.thought)
        if text:
            self._texts.append(text)
        return text

    def finish(self) -> Finish:
        """Raises ProviderError: TRUNCATED without a finish reason, PROTOCOL without text."""
        if self._reason is None:
            raise provider_error(ProviderErrorKind.TRUNCATED, GEMINI)
        text = "".join(self._texts)
        counted = self._usage or types.GenerateContentResponseUsageMetadata()
        written = counted.candidates_token_count
        usage = usage_or_estimate(
            counted.prompt_token_count,
            None if written is None else written + (counted.thoughts_token_count or 0),
            messages=self._request.messages,
            text=text,
            cached_input_tokens=counted.cached_content_token_count,
        )
        reason = FinishReason.STOP
        if self._reason in _LENGTH_REASONS:
            reason = FinishReason.LENGTH
        elif self._reason in _FILTER_REASONS:
            reason = FinishReason.CONTENT_FILTER
        return finish_answer(Finish(reason, usage, self._model), text, GEMINI)


def open_models_api(
    api_key: str, base_url: str, timeouts: Timeouts, http: httpx2.AsyncClient
) -> Any:
    """Return the SDK's calls of models, asynchronous, over one HTTP client.

    All is said that the SDK would else look for in the environment: Vertex AI or not, the address,
    the version. Its own client for synchronous calls has no connection and is never used.
    """
    options = types.HttpOptions(
        base_url=base_url,
        api_version=API_VERSION,
        timeout=max(_MIN_TIMEOUT_MS, int(timeouts.total_s * 1000)),
        httpx_async_client=http,
        httpx_client=httpx2.Client(transport=httpx2.MockTransport(lambda _: httpx2.Response(501))),
    )
    return genai.Client(enterprise=False, api_key=api_key, http_options=options).aio.models


def _contents(request: ChatRequest) -> list[types.Content]:
    """Return the messages but the system's: roles by turns."""
    contents: list[types.Content] = []
    for message in request.messages:
        if message.role is Role.SYSTEM:
            continue
        role, part = _ROLES[message.role], types.Part(text=message.content)
        if contents and contents[-1].role == role:
            contents[-1].parts = [*(contents[-1].parts or ()), part]
        else:
            contents.append(types.Content(role=role, parts=[part]))
    return contents


def _config(request: ChatRequest) -> types.GenerateContentConfig:
    system = [m.content for m in request.messages if m.role is Role.SYSTEM]
    return types.GenerateContentConfig(
        system_instruction="\n\n".join(system) or None,
        max_output_tokens=request.max_tokens,
        temperature=request.temperature,
        top_p=request.top_p,
        seed=request.seed,
        stop_sequences=list(request.stop) or None,
        # One call is one call: no tools, and no further calls after an error or for a long answer.
        automatic_continuation=False,
        automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
    )


def _failure(exc: errors.APIError, model: str) -> ProviderError:
    status = exc.code if isinstance(exc.code, int) else None
    detail = f"{exc.status} {exc.message}"
    reasons = list(_details(exc.details))
    if any(reason.get("reason") == _BAD_KEY for reason in reasons):
        status = 401  # Google says 400
    kind = failure_kind(status, detail)
    retry_after_s = _retry_delay(exc, reasons)
    if status == 429 and retry_after_s is not None:
        # Its words for a limit per minute speak of the plan and of billing, too.
        kind = ProviderErrorKind.RATE_LIMITED
    return provider_error(kind, GEMINI, model=model, retry_after_s=retry_after_s)


def _details(body: object) -> Iterator[Mapping[str, Any]]:
    """Yield the objects in `error.details` of an error's body, whatever it is."""
    error = body.get("error") if isinstance(body, Mapping) else None
    details = error.get("details") if isinstance(error, Mapping) else None
    for detail in details if isinstance(details, list) else ():
        if isinstance(detail, Mapping):
            yield detail


def _retry_delay(exc: errors.APIError, details: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the seconds to wait: Google says so in the body, a proxy before it in a header."""
    for detail in details:
        found = _DELAY.match(str(detail.get("retryDelay")))
        if found:
            return parse_retry_after({"retry-after": found[1]})
    return parse_retry_after(getattr(exc.response, "headers", None) or {})


@contextmanager
def _translated_errors(model: str) -> Iterator[None]:
    """Turn what the SDK, its HTTP client and odd bodies raise into ProviderError."""
    try:
        with translated_sdk_http_errors(GEMINI):
            yield
    except errors.APIError as exc:
        raise _failure(exc, model) from exc

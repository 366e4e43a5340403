"""Ollama over its native API: its `/v1` can't set the context window and cuts prompts silently."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from typing import Any

import aiohttp

from app.core.errors import ProviderError, ProviderErrorKind
from app.core.tokens import EstimatingTokenizer, Tokenizer, with_margin
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
from app.llm.context_windows import DEFAULT_CONTEXT_WINDOW, Remembered, token_count
from app.llm.http_errors import translated_aiohttp_errors
from app.llm.vectors import unit_rows
from app.llm.wire import (
    DRAIN_TIMEOUT_S,
    StreamClock,
    StreamedAnswer,
    counted_errors,
    estimate_prompt_tokens,
    failure_kind,
    finish_answer,
    parse_retry_after,
    provider_error,
    usage_or_estimate,
)

NAME = "ollama"
# A computer without a graphics card takes seconds for a few texts: many would look like a hang.
MAX_BATCH = 25
MIN_CONTEXT_TOKENS = 4096
MAX_CONTEXT_TOKENS = 131_072
DEFAULT_MAX_INPUT_TOKENS = 512

_NUM_CTX = re.compile(r"^num_ctx\s+(\d+)\s*$", re.MULTILINE)
# (document, query): models that were trained with a prefix retrieve badly without it.
_PREFIXES = {
    "nomic-embed-text": ("search_document: ", "search_query: "),
    "mxbai-embed-large": ("", "Represent this sentence for searching relevant passages: "),
}
_MAX_INPUT_TOKENS = {"nomic-embed-text": 2048, "bge-m3": 8192, "all-minilm": 256}


class OllamaProvider:
    """Chat over `/api/chat`. Must be made inside a running event loop."""

    name = NAME

    def __init__(self, *, base_url: str, timeouts: Timeouts | None = None) -> None:
        self._timeouts = timeouts or Timeouts()
        self._session = _open_session(base_url, self._timeouts)
        self._windows = Remembered(self._show_window)

    async def stream(self, request: ChatRequest) -> AsyncIterator[TextDelta | Finish]:
        """See LLMProvider."""
        answer = _Answer(request)
        with (
            counted_errors(),
            _translated_errors(),
            StreamClock(self._timeouts) as clock,
        ):
            body = _chat_body(request, self._windows.peek(request.model))
            response = await clock.wait(
                # A redirect is no answer: prompts are for this server alone.
                self._session.post("api/chat", json=body, allow_redirects=False)
            )
            try:
                await _raise_for_status(response, request.model)
                while not answer.is_over:
                    for text in await answer.read_on(clock, response.content.readany):
                        yield TextDelta(text)
                finish = answer.finish()
                await _drain(response)
            finally:
                response.close()  # a no-op once the body was read to its end
            yield finish

    def supports(self, _model: str) -> frozenset[ChatOption]:
        """See LLMProvider."""
        return frozenset(ChatOption) - {ChatOption.USER}

    async def list_models(self) -> list[str]:
        """See LLMProvider; the pulled models, newest first, with their tags."""
        with _translated_errors():
            async with (
                asyncio.timeout(self._timeouts.first_content_s),
                self._session.get("api/tags") as response,
            ):
                await _raise_for_status(response, "")
                listed = json.loads(await response.read())
            return [str(model["name"]) for model in listed["models"]]

    async def context_window(self, model: str) -> int:
        """See LLMProvider; MAX_CONTEXT_TOKENS at most, for what a larger one takes of memory."""
        return await self._windows.get(model) or DEFAULT_CONTEXT_WINDOW

    async def tokenizer(self, _model: str) -> Tokenizer | None:
        """See LLMProvider; Ollama has no route that counts."""
        return None

    async def _show_window(self, model: str) -> int:
        with _translated_errors():
            async with self._session.post(
                "api/show", json={"model": model}, allow_redirects=False
            ) as response:
                await _raise_for_status(response, model)
                shown = json.loads(await response.read())
            return _window_in(shown)

    async def aclose(self) -> None:
        await self._windows.aclose()
        await self._session.close()


class OllamaEmbedding:
    """One embedding model over `/api/embed`. Must be made inside a running event loop."""

    name = NAME
    max_batch = MAX_BATCH

    def __init__(self, *, base_url: str, model: str, timeouts: Timeouts | None = None) -> None:
        family = model.rpartition("/")[2].partition(":")[0]
        self.model = model
        self.endpoint = base_url.rstrip("/")
        self.max_input_tokens = _MAX_INPUT_TOKENS.get(family, DEFAULT_MAX_INPUT_TOKENS)
        self.tokenizer: Tokenizer = EstimatingTokenizer()
        self._prefixes = _PREFIXES.get(family, ("", ""))
        self._timeouts = timeouts or Timeouts()
        self._session = _open_session(base_url, self._timeouts)

    async def embed(self, texts: Sequence[str], *, purpose: Purpose) -> FloatMatrix:
        """See EmbeddingProvider."""
        if not 0 < len(texts) <= MAX_BATCH:
            raise ValueError(f"1 to {MAX_BATCH} texts a call, not {len(texts)}")
        is_query = purpose is Purpose.QUERY
        timeout_s = self._timeouts.first_content_s if is_query else self._timeouts.embed_batch_s
        prefix = self._prefixes[is_query]
        # truncate: false, so that a text that is too long is an error and not half a vector.
        body = {"model": self.model, "input": [prefix + t for t in texts], "truncate": False}
        with _translated_errors():
            async with (
                asyncio.timeout(timeout_s),
                self._session.post("api/embed", json=body, allow_redirects=False) as response,
            ):
                await _raise_for_status(response, self.model)
                parsed = json.loads(await response.read())
            if error := parsed.get("error"):
                raise _failure(None, str(error), self.model)
            return unit_rows(parsed["embeddings"], count=len(texts), provider=NAME)

    async def aclose(self) -> None:
        await self._session.close()


class _Answer(StreamedAnswer):
    """What has been read of one streamed answer."""

    def __init__(self, request: ChatRequest) -> None:
        super().__init__(request, NAME)
        self._last: Mapping[str, Any] = {}

    def finish(self) -> Finish:
        """Raises ProviderError: TRUNCATED if `done` never came, PROTOCOL without text."""
        if not self.is_done:
            raise provider_error(ProviderErrorKind.TRUNCATED, NAME)
        text = self.text
        usage = usage_or_estimate(
            self._last.get("prompt_eval_count"),
            self._last.get("eval_count"),
            messages=self._request.messages,
            text=text,
        )
        is_cut = self._last.get("done_reason") == "length"
        reason = FinishReason.LENGTH if is_cut else FinishReason.STOP
        model = str(self._last.get("model") or self._request.model)
        return finish_answer(Finish(reason, usage, model), text, NAME)

    def _read_line(self, line: bytes) -> str:
        if self.is_done or not line.strip():
            return ""
        chunk = json.loads(line.decode())
        self._chunks += 1
        if error := chunk.get("error"):
            raise _failure(None, str(error), self._request.model)
        if chunk["done"] is True:
            self.is_done = True
            self._last = chunk
        message = chunk.get("message") or {}
        return self._take(message.get("content"), is_thinking=bool(message.get("thinking")))


def context_tokens(request: ChatRequest, limit: int | None = None) -> int:
    """Return the window to ask for: the next power of two that holds prompt and answer.

    Powers of two, because Ollama loads the model anew whenever the number changes; at most `limit`,
    the model's own window. Ollama cuts what does not fit without a word, hence the margin.
    """
    limit = limit or MAX_CONTEXT_TOKENS
    needed = with_margin(estimate_prompt_tokens(request.messages)) + request.max_tokens
    window = MIN_CONTEXT_TOKENS
    while window < needed and window < limit:
        window *= 2
    return min(window, limit)


def _window_in(shown: Mapping[str, Any]) -> int:
    """Return the window out of an answer of `/api/show`. Raises ValueError if it has none.

    The model's own is a bound, and so is the `num_ctx` that whoever made it chose.
    """
    info = shown.get("model_info") or {}
    architecture = info.get("general.architecture")
    chosen = _NUM_CTX.search(str(shown.get("parameters") or ""))
    bounds = [
        token_count(info.get(f"{architecture}.context_length")),
        token_count(int(chosen[1])) if chosen else None,
    ]
    found = [bound for bound in bounds if bound]
    if not found:
        raise ValueError("no context length")
    return min(*found, MAX_CONTEXT_TOKENS)


def _chat_body(request: ChatRequest, window: int | None) -> dict[str, Any]:
    options = {
        "num_ctx": context_tokens(request, window),
        "num_predict": request.max_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "seed": request.seed,
        "stop": list(request.stop) or None,
    }
    return {
        "model": request.model,
        "messages": [{"role": m.role.value, "content": m.content} for m in request.messages],
        "stream": True,
        "options": {name: value for name, value in options.items() if value is not None},
    }


def _open_session(base_url: str, timeouts: Timeouts) -> aiohttp.ClientSession:
    # Reading is timed by our own clocks; aiohttp's own total is 5 minutes.
    return aiohttp.ClientSession(
        base_url=base_url.rstrip("/") + "/",
        timeout=aiohttp.ClientTimeout(total=None, connect=timeouts.connect_s),
        trust_env=False,
        cookie_jar=aiohttp.DummyCookieJar(),
    )


async def _drain(response: aiohttp.ClientResponse) -> None:
    """Read to the end of a finished body: only then can the connection serve the next call."""
    with suppress(TimeoutError, aiohttp.ClientError):
        async with asyncio.timeout(DRAIN_TIMEOUT_S):
            while await response.content.readany():
                pass


async def _raise_for_status(response: aiohttp.ClientResponse, model: str) -> None:
    if response.status == 200:
        return
    detail = (await response.content.read(4096)).decode(errors="replace")
    raise _failure(response.status, detail, model, parse_retry_after(response.headers))


def _failure(
    status: int | None, detail: str, model: str, retry_after_s: float | None = None
) -> ProviderError:
    kind = failure_kind(status, detail)
    message = None
    if kind is ProviderErrorKind.MODEL_NOT_FOUND and model:
        message = f"Ollama has not pulled the model {model}: run `ollama pull {model}`."
    return provider_error(kind, NAME, message=message, retry_after_s=retry_after_s)


def _translated_errors() -> AbstractContextManager[None]:
    return translated_aiohttp_errors(
        NAME, unreachable="Ollama can't be reached: is `ollama serve` running at OLLAMA_BASE_URL?"
    )

"""A stand-in for the vendors of models and for rerankers: a real HTTP server that fails on demand.

OpenAI is at `/v1`, Ollama and Azure at the root, OpenRouter, Anthropic and Gemini at their names.

In a test: `async with ProviderServer() as server: ...`. Alone:
`python -m tests.provider_server --port 9100 --delay-ms 40 --delay-per-input-ms 0.2`.

How a request is answered is decided by, in this order: the queue of `script()`, `chaos()` for
embeddings, `by_model`, a suffix of the model's name (`gpt-4.1-mini@cut`), `default`; but what only
looks at the models (`/v1/models`, `/api/tags`, `/api/show`) by `looks` or `default`. From another
process the queue is filled with `POST /_script {"failure": "cut", "repeat": 2}`, chaos is set with
`POST /_chaos {"seed": 1, "share": 0.1}` (or `--chaos-seed 1 --chaos-share 0.1`; a share of 0 ends
it), `GET /_calls` lists what came in, and `GET /_stats` counts it:
`{"embedding_calls": 3, "embedding_inputs": 250, "by_failure": {"429": 1}}`.
"""

import argparse
import asyncio
import base64
import hashlib
import json
import random
import re
import socket
import struct
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import lru_cache
from typing import Any, Self

import numpy as np
from aiohttp import web

DIMENSIONS = 384
DEFAULT_ANSWER = "According to the documents, this is the answer [1]."
OLLAMA_MODELS = ("nomic-embed-text:latest", "qwen3:8b", "llama3.2:latest")
OPENAI_MODELS = ("gpt-4.1-mini", "text-embedding-3-small")
OPENROUTER_MODELS = ("anthropic/claude-sonnet-5", "openai/gpt-4.1-mini")
ANTHROPIC_MODELS = ("claude-haiku-5", "claude-sonnet-5")
GEMINI_MODELS = ("gemini-3.8-flash", "gemini-3.8-pro", "gemini-embedding-001")
OLLAMA_SHOW = {
    "parameters": 'stop                           "<|eot_id|>"',
    "details": {"family": "llama", "parameter_size": "3.2B"},
    "model_info": {"general.architecture": "llama", "llama.context_length": 131072},
    "capabilities": ["completion"],
}
_LOOKS = frozenset(
    {
        *("/v1/models", "/api/tags", "/api/show", "/openrouter/v1/models"),
        *("/anthropic/v1/models", "/gemini/v1beta/models"),
    }
)
_WORD = re.compile(r"\w+")
_PREFIX = re.compile(r"^(search_document|search_query): ")
_STOP_WORDS = re.compile(
    r"(an?|and|are|as|at|be|by|did|do|does|for|from|had|has|have|how|in|is|it|its|of|on|or|that|"
    r"the|their|this|to|was|were|what|when|where|which|who|why|will|with)"
)


class Failure(StrEnum):
    """What goes wrong. The middle of a stream is after its first content."""

    NONE = "none"
    STATUS = "status"  # Reply.status, with Reply.retry_after
    HANG = "hang"  # nothing, not even headers
    HANG_CONTENT = "hang_content"  # headers, then comments or blank lines for ever
    STALL = "stall"  # silence in the middle
    STALL_COMMENTS = "stall_comments"  # only comments from the middle on
    CUT = "cut"  # a clean end in the middle
    CUT_BODY = "cut_body"  # the connection closes in the middle of the body
    RESET = "reset"  # RST in the middle
    RESET_EARLY = "reset_early"  # RST before the headers
    MALFORMED = "malformed"  # a chunk that is no JSON
    WRONG_SHAPE = "wrong_shape"  # JSON, but not of this format
    INLINE_ERROR = "inline_error"  # an error inside a 200
    HTML = "html"  # a page with status 200
    BLOCKED = "blocked"  # the vendor refuses the prompt for what it says
    INLINE_BLOCKED = "inline_blocked"  # Azure: the same inside a 200
    NO_DONE = "no_done"  # OpenAI: finish_reason, but no [DONE]
    SHORT_BATCH = "short_batch"
    WRONG_DIMENSION = "wrong_dimension"
    UNEVEN = "uneven"
    NAN = "nan"
    ZERO = "zero"
    SHUFFLED = "shuffled"  # OpenAI: out of order, with the right indexes
    DOUBLE_INDEX = "double_index"
    WRONG_INDEX = "wrong_index"  # rerankers: an index of no text


@dataclass(frozen=True)
class Reply:
    """One answer of the server."""

    text: str = DEFAULT_ANSWER
    failure: Failure = Failure.NONE
    status: int = 500
    retry_after: str | None = None
    location: str | None = None  # of a redirect
    code: str | None = None  # OpenAI's error.code
    error: str = "the vendor's own words, with sk-secret in them"
    finish_reason: str = "stop"
    has_usage: bool = True
    cached_tokens: int = 0  # of the prompt's
    cost: float | None = 0.00042  # OpenRouter: of the call, in dollars
    is_refusal: bool = False
    chunk_delay_s: float = 0.0
    scores: tuple[float, ...] = ()  # rerankers: of the texts in order; empty compares words


# What embedding calls meet in a chaos, each as often as the others.
CHAOS = (
    Reply(failure=Failure.STATUS, status=429, retry_after="1"),
    Reply(failure=Failure.STATUS, status=500),
    Reply(failure=Failure.HANG),
    Reply(failure=Failure.SHORT_BATCH),
    Reply(failure=Failure.WRONG_DIMENSION),
    Reply(failure=Failure.NAN),
)


@dataclass(frozen=True)
class Call:
    """A request as it came in. Header names are in lower case."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    peer: tuple[str, int]  # tells connections apart


@dataclass
class ProviderServer:
    """The server and what it saw. `delay_s` and `delay_per_input_s` slow every answer down.

    Without `keeps_calls` calls are only counted: a benchmark sends more than memory should hold.
    """

    port: int = 0
    dimensions: int = DIMENSIONS
    # These models have a width and a space of their own: their vectors fit no other model's.
    dimensions_by_model: dict[str, int] = field(default_factory=dict)
    delay_s: float = 0.0
    delay_per_input_s: float = 0.0
    default: Reply = Reply()
    by_model: dict[str, Reply] = field(default_factory=dict)
    openai_models: tuple[str, ...] = OPENAI_MODELS
    ollama_models: tuple[str, ...] = OLLAMA_MODELS
    # Further fields of a model in `/v1/models`, and what `/api/show` says of one.
    openai_fields: dict[str, dict[str, Any]] = field(default_factory=dict)
    ollama_shows: dict[str, dict[str, Any]] = field(default_factory=dict)
    looks: Reply | None = None  # None is `default`
    keeps_calls: bool = True
    calls: list[Call] = field(default_factory=list)
    embedding_calls: int = 0
    embedding_inputs: int = 0
    by_failure: Counter[str] = field(default_factory=Counter)  # of embedding calls
    open_streams: int = 0
    aborts: int = 0

    def __post_init__(self) -> None:
        self._queue: deque[Reply] = deque()
        self._chaos_share = 0.0
        self._chaos_dice = random.Random()  # until `chaos()` seeds one
        self._changed = asyncio.Condition()
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def openai_url(self) -> str:
        return f"{self.url}/v1"

    def script(self, *replies: Reply) -> None:
        """Answer the next requests like this, one each, whatever they ask."""
        self._queue.extend(replies)

    def chaos(self, *, seed: int, share: float) -> None:
        """Let a share of the embedding calls from now on fail, decided call by call from a seed.

        Calls are not kept from then on.
        """
        self._chaos_dice = random.Random(seed)
        self._chaos_share = share
        self.keeps_calls = self.keeps_calls and not share

    async def wait_until(self, is_true: Callable[[], bool]) -> None:
        """Wait until a condition on the counters holds. Raises TimeoutError after 10 s."""
        async with asyncio.timeout(10), self._changed:
            await self._changed.wait_for(is_true)

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_post("/v1/chat/completions", self._openai_chat)
        app.router.add_post("/v1/embeddings", self._openai_embeddings)
        app.router.add_get("/v1/models", self._openai_list)
        deployment = "/openai/deployments/{model}"
        app.router.add_post(f"{deployment}/chat/completions", self._azure_chat)
        app.router.add_post(f"{deployment}/embeddings", self._openai_embeddings)
        app.router.add_post("/openrouter/v1/chat/completions", self._openrouter_chat)
        app.router.add_get("/openrouter/v1/models", self._openrouter_list)
        app.router.add_post("/anthropic/v1/messages", self._anthropic_chat)
        app.router.add_get("/anthropic/v1/models", self._anthropic_list)
        app.router.add_post(
            "/gemini/v1beta/models/{model}:streamGenerateContent", self._gemini_chat
        )
        app.router.add_post("/gemini/v1beta/models/{model}:batchEmbedContents", self._gemini_embed)
        app.router.add_get("/gemini/v1beta/models", self._gemini_list)
        app.router.add_post("/api/chat", self._ollama_chat)
        app.router.add_post("/api/embed", self._ollama_embed)
        app.router.add_get("/api/tags", self._ollama_tags)
        app.router.add_post("/api/show", self._ollama_show)
        app.router.add_post("/rerank", self._rerank)
        app.router.add_post("/v1/rerank", self._rerank)
        app.router.add_post("/v2/rerank", self._rerank)
        app.router.add_post("/_script", self._fill_script)
        app.router.add_post("/_chaos", self._set_chaos)
        app.router.add_get("/_calls", self._list_calls)
        app.router.add_get("/_stats", self._count_calls)
        # Cancel handlers whose client went away: that is how an abort is seen at once.
        self._runner = web.AppRunner(
            app, handler_cancellation=True, access_log=None, shutdown_timeout=0.2
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner:
            await self._runner.cleanup()

    # What is shared by the endpoints

    async def _begin(self, request: web.Request) -> tuple[dict[str, Any], Reply]:
        body = await request.json() if request.can_read_body else {}
        headers = {name.lower(): value for name, value in request.headers.items()}
        peer = request.get_extra_info("peername")
        inputs = body.get("input", body.get("requests", ()))
        count = len(inputs) if isinstance(inputs, list) else 1
        is_embedding = "input" in body or "requests" in body
        model = str(body.get("model", request.match_info.get("model", "")))
        if request.path in _LOOKS:
            reply = self.looks or self.default
        else:
            reply = self._choose(model, is_embedding=is_embedding)
        if self.keeps_calls:
            self.calls.append(Call(request.path, headers, body, (str(peer[0]), int(peer[1]))))
        if is_embedding:
            self._count(count, reply)
        await self._notify()
        if delay_s := self.delay_s + self.delay_per_input_s * count * bool(inputs):
            await asyncio.sleep(delay_s)
        return body, reply

    def _count(self, inputs: int, reply: Reply) -> None:
        self.embedding_calls += 1
        self.embedding_inputs += inputs
        if reply.failure is not Failure.NONE:
            is_status = reply.failure is Failure.STATUS
            self.by_failure[str(reply.status) if is_status else reply.failure] += 1

    def _choose(self, model: str, *, is_embedding: bool) -> Reply:
        if self._queue:
            return self._queue.popleft()
        if is_embedding and self._chaos_dice.random() < self._chaos_share:
            return self._chaos_dice.choice(CHAOS)
        if model in self.by_model:
            return self.by_model[model]
        _, _, suffix = model.partition("@")
        if suffix.isdigit():
            return replace(self.default, failure=Failure.STATUS, status=int(suffix))
        return replace(self.default, failure=Failure(suffix)) if suffix else self.default

    async def _fail_early(
        self,
        request: web.Request,
        reply: Reply,
        error: Callable[[Reply], Any],
        *,
        has_retry_header: bool = True,
    ) -> web.StreamResponse | None:
        """Do what goes wrong before the body begins; None if nothing does."""
        if reply.failure is Failure.HANG:
            await self._watch(asyncio.Event().wait())
        if reply.failure is Failure.RESET_EARLY:
            _reset(request)
            return web.Response()
        if reply.failure is Failure.HTML:
            return web.Response(text="<html><body>Sign in</body></html>", content_type="text/html")
        if reply.failure is not Failure.STATUS:
            return None
        given = {"Retry-After": reply.retry_after, "Location": reply.location}
        headers = {name: value for name, value in given.items() if value}
        if not has_retry_header:
            headers.pop("Retry-After", None)
        return web.json_response(error(reply), status=reply.status, headers=headers)

    async def _watch(self, work: Any) -> None:
        """Await work as an open stream; count it as aborted if the client goes away."""
        self.open_streams += 1
        try:
            await work
        except (asyncio.CancelledError, ConnectionError):
            self.aborts += 1
            raise
        finally:
            self.open_streams -= 1
            await self._notify()

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _stream(
        self,
        request: web.Request,
        reply: Reply,
        *,
        content_type: str,
        lines: list[bytes],
        comment: bytes,
        broken: bytes,
        odd: bytes,
        error: bytes,
    ) -> web.StreamResponse:
        """Send lines (the first `len(lines) // 2` of them before the middle) or fail on the way."""
        response = web.StreamResponse(headers={"Content-Type": content_type})
        await response.prepare(request)

        async def send() -> None:
            failure = reply.failure
            if failure is Failure.HANG_CONTENT:
                await _repeat(response, comment)
            middle = len(lines) // 2
            for line in lines[:middle]:
                await response.write(line)
                await asyncio.sleep(reply.chunk_delay_s)
            if failure is Failure.STALL:
                await asyncio.Event().wait()
            elif failure is Failure.STALL_COMMENTS:
                await _repeat(response, comment)
            elif failure is Failure.CUT_BODY and request.transport:
                await asyncio.sleep(0.02)  # lets the first half leave
                request.transport.close()
            elif failure is Failure.RESET:
                await asyncio.sleep(0.02)
                _reset(request)
            else:
                tail = {
                    Failure.CUT: [],
                    Failure.MALFORMED: [broken],
                    Failure.WRONG_SHAPE: [odd],
                    Failure.INLINE_ERROR: [error],
                    Failure.INLINE_BLOCKED: [error],
                }.get(failure, lines[middle:])
                for line in tail:
                    await response.write(line)
                    await asyncio.sleep(reply.chunk_delay_s)
                await response.write_eof()

        await self._watch(send())
        return response

    # OpenAI

    async def _openai_chat(self, request: web.Request) -> web.StreamResponse:
        body, reply = await self._begin(request)
        if reply.failure is Failure.BLOCKED:
            return web.json_response(_azure_filter_error(reply), status=400)
        if early := await self._fail_early(request, reply, _openai_error):
            return early
        usage = _openai_usage(body, reply)
        if not body.get("stream"):
            return web.json_response(_completion(body["model"], reply, usage))
        wants_usage = (body.get("stream_options") or {}).get("include_usage")
        return await self._stream(
            request,
            reply,
            content_type="text/event-stream; charset=utf-8",
            lines=_openai_lines(body["model"], reply, usage if wants_usage else None),
            comment=b": keep-alive\n\n",
            broken=b'data: {"choices": [{"delta"\n\n',
            odd=b'data: {"choices": ["text"]}\n\n',
            error=_event(_openai_error(reply)),
        )

    async def _openai_embeddings(self, request: web.Request) -> web.StreamResponse:
        body, reply = await self._begin(request)
        if early := await self._fail_early(request, reply, _openai_error):
            return early
        if reply.failure is Failure.INLINE_ERROR:
            return web.json_response(_openai_error(reply))
        if reply.failure is Failure.MALFORMED:
            return web.Response(text='{"data": [', content_type="application/json")
        texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
        rows = self._rows(texts, reply.failure, body["model"])
        encode = _encode_base64 if body.get("encoding_format") == "base64" else list
        data = [
            {"object": "embedding", "index": index, "embedding": encode(row)}
            for index, row in enumerate(rows)
        ]
        if reply.failure is Failure.SHUFFLED:
            data.reverse()
        if reply.failure is Failure.DOUBLE_INDEX:
            data[-1]["index"] = 0
        tokens = sum(map(_count_words, texts))
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        answer = {"object": "list", "data": data, "model": body["model"], "usage": usage}
        return web.json_response(answer)

    async def _openai_list(self, request: web.Request) -> web.StreamResponse:
        _, reply = await self._begin(request)
        if early := await self._fail_early(request, reply, _openai_error):
            return early
        data = [
            {"id": model, "object": "model", "created": 1, "owned_by": "stand-in"}
            | self.openai_fields.get(model, {})
            for model in self.openai_models
        ]
        return web.json_response({"object": "list", "data": data})

    # Azure and OpenRouter: OpenAI's format with things of their own

    async def _azure_chat(self, request: web.Request) -> web.StreamResponse:
        body, reply = await self._begin(request)
        if not request.query.get("api-version"):
            return web.json_response({"error": {"code": "404", "message": "no"}}, status=404)
        if reply.failure is Failure.BLOCKED:
            return web.json_response(_azure_filter_error(reply), status=400)
        if early := await self._fail_early(request, reply, _openai_error):
            return early
        usage = _openai_usage(body, reply) if reply.has_usage else None
        filtered = {"choices": [], "model": "", "prompt_filter_results": [{"prompt_index": 0}]}
        lines = [_event(filtered), *_openai_lines(body["model"], reply, usage)]
        is_blocked = reply.failure is Failure.INLINE_BLOCKED
        return await self._stream_openai(
            request, reply, lines, error=_azure_filter_error(reply) if is_blocked else None
        )

    async def _openrouter_chat(self, request: web.Request) -> web.StreamResponse:
        body, reply = await self._begin(request)
        if reply.failure is Failure.BLOCKED:
            metadata = {"reasons": ["violence"], "flagged_input": "kill", "provider_name": "m"}
            error = {"code": 403, "message": "Your input was flagged", "metadata": metadata}
            return web.json_response({"error": error}, status=403)
        if early := await self._fail_early(request, reply, _openai_error):
            return early
        lines = _openai_lines(body["model"], reply, None)
        *chunks, done = lines if reply.failure is not Failure.NO_DONE else [*lines, b""]
        if reply.has_usage:
            # It has a choice, which repeats the end.
            choice = {"index": 0, "delta": {"content": ""}, "finish_reason": reply.finish_reason}
            usage = _openai_usage(body, reply) | {"cost": reply.cost, "is_byok": False}
            last = {"id": "gen-1", "model": body["model"], "choices": [choice], "usage": usage}
            chunks.append(_event(last))
        error = {
            "error": {"code": 502, "message": reply.error, "metadata": {}},
            "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}],
        }
        return await self._stream_openai(request, reply, [*chunks, done], error=error)

    async def _stream_openai(
        self,
        request: web.Request,
        reply: Reply,
        lines: list[bytes],
        *,
        error: dict[str, Any] | None = None,
    ) -> web.StreamResponse:
        return await self._stream(
            request,
            reply,
            content_type="text/event-stream; charset=utf-8",
            lines=lines,
            comment=b": OPENROUTER PROCESSING\n\n",
            broken=b'data: {"choices": [{"delta"\n\n',
            odd=b'data: {"choices": ["text"]}\n\n',
            error=_event(error or _openai_error(reply)),
        )

    async def _openrouter_list(self, request: web.Request) -> web.StreamResponse:
        _, reply = await self._begin(request)
        if early := await self._fail_early(request, reply, _openai_error):
            return early
        data = [{"id": name, "context_length": 200_000} for name in OPENROUTER_MODELS]
        return web.json_response({"data": data})

    # Anthropic

    async def _anthropic_chat(self, request: web.Request) -> web.StreamResponse:
        body, reply = await self._begin(request)
        if early := await self._fail_early(request, reply, _anthropic_error):
            return early
        if reply.failure is Failure.BLOCKED:
            reply = replace(reply, text="", finish_reason="content_filter")
        return await self._stream(
            request,
            reply,
            content_type="text/event-stream; charset=utf-8",
            lines=_anthropic_lines(body, reply),
            comment=_named_event({"type": "ping"}),
            broken=b'event: content_block_delta\ndata: {"type": "content_bl\n\n',
            odd=_named_event({"type": "content_block_delta", "delta": "text"}),
            error=_named_event(_anthropic_error(replace(reply, status=529))),
        )

    async def _anthropic_list(self, request: web.Request) -> web.StreamResponse:
        _, reply = await self._begin(request)
        if early := await self._fail_early(request, reply, _anthropic_error):
            return early
        data = [
            {"type": "model", "id": name, "display_name": name, "max_input_tokens": 500_000}
            for name in ANTHROPIC_MODELS
        ]
        return web.json_response({"data": data, "has_more": False})

    # Gemini

    async def _gemini_chat(self, request: web.Request) -> web.StreamResponse:
        body, reply = await self._begin(request)
        if early := await self._fail_early(request, reply, _gemini_error, has_retry_header=False):
            return early
        return await self._stream(
            request,
            reply,
            content_type="text/event-stream",
            lines=_gemini_lines(request.match_info["model"], body, reply),
            comment=b"\r\n",
            broken=b'data: {"candidates": [{"content"\r\n\r\n',
            odd=b'data: {"candidates": [{"content": "text"}]}\r\n\r\n',
            error=_event(_gemini_error(replace(reply, status=503))),
        )

    async def _gemini_embed(self, request: web.Request) -> web.StreamResponse:
        body, reply = await self._begin(request)
        if early := await self._fail_early(request, reply, _gemini_error, has_retry_header=False):
            return early
        if reply.failure is Failure.INLINE_ERROR:
            return web.json_response(_gemini_error(replace(reply, status=404)), status=404)
        if reply.failure is Failure.MALFORMED:
            return web.Response(text='{"embeddings": [', content_type="application/json")
        texts = ["".join(p["text"] for p in r["content"]["parts"]) for r in body["requests"]]
        rows = self._rows(texts, reply.failure, request.match_info["model"])
        return web.json_response({"embeddings": [{"values": row} for row in rows]})

    async def _gemini_list(self, request: web.Request) -> web.StreamResponse:
        _, reply = await self._begin(request)
        if early := await self._fail_early(request, reply, _gemini_error, has_retry_header=False):
            return early
        models = [
            {
                "name": f"models/{name}",
                "inputTokenLimit": 1_000_000,
                "outputTokenLimit": 64_000,
                "supportedGenerationMethods": [
                    "embedContent" if "embed" in name else "generateContent"
                ],
            }
            for name in GEMINI_MODELS
        ]
        return web.json_response({"models": models})

    # Ollama

    async def _ollama_chat(self, request: web.Request) -> web.StreamResponse:
        body, reply = await self._begin(request)
        if early := await self._fail_early(request, reply, _ollama_error):
            return early
        prompt = sum(_count_words(str(m["content"])) for m in body["messages"])
        lines = _ollama_lines(body["model"], reply, prompt)
        if body.get("stream") is False:
            last = json.loads(lines[-1]) | {"message": {"role": "assistant", "content": reply.text}}
            return web.json_response(last)
        return await self._stream(
            request,
            reply,
            content_type="application/x-ndjson",
            lines=lines,
            comment=b"\n",
            broken=b'{"message": {"role"\n',
            odd=b'{"message": "text"}\n',
            error=_line(_ollama_error(reply)),
        )

    async def _ollama_embed(self, request: web.Request) -> web.StreamResponse:
        body, reply = await self._begin(request)
        if early := await self._fail_early(request, reply, _ollama_error):
            return early
        if reply.failure is Failure.INLINE_ERROR:
            return web.json_response(_ollama_error(reply))
        if reply.failure is Failure.MALFORMED:
            return web.Response(text='{"embeddings": [', content_type="application/json")
        texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
        answer = {
            "model": body["model"],
            "embeddings": self._rows(texts, reply.failure, body["model"]),
            "prompt_eval_count": sum(map(_count_words, texts)),
        }
        return web.json_response(answer)

    async def _ollama_tags(self, request: web.Request) -> web.StreamResponse:
        _, reply = await self._begin(request)
        if early := await self._fail_early(request, reply, _ollama_error):
            return early
        models = [{"name": name, "model": name, "size": 1} for name in self.ollama_models]
        return web.json_response({"models": models})

    async def _ollama_show(self, request: web.Request) -> web.StreamResponse:
        body, reply = await self._begin(request)
        if early := await self._fail_early(request, reply, _ollama_error):
            return early
        if reply.failure is Failure.MALFORMED:
            return web.Response(text='{"model_info": {', content_type="application/json")
        model = body["model"]
        shown = self.ollama_shows.get(model)
        if shown is None and not {model, f"{model}:latest"} & set(self.ollama_models):
            return web.json_response({"error": f"model '{model}' not found"}, status=404)
        return web.json_response(OLLAMA_SHOW if shown is None else shown)

    # Rerankers: Cohere at /v2, Jina at /v1, text-embeddings-inference where there is no version

    async def _rerank(self, request: web.Request) -> web.StreamResponse:
        body, reply = await self._begin(request)
        if early := await self._fail_early(request, reply, _ollama_error):
            return early
        is_tei = request.path == "/rerank"
        field_name = "texts" if is_tei else "documents"
        if field_name not in body or (not is_tei and "model" not in body):
            return web.json_response({"error": f"missing field `{field_name}`"}, status=422)
        texts = body[field_name]
        scores = list(reply.scores) or _overlaps(body["query"], texts)
        ranks = _rank(scores, reply.failure)
        answer: Any = [{"index": index, "score": score} for index, score in ranks]
        if not is_tei:
            results = [{"index": index, "relevance_score": score} for index, score in ranks]
            answer = {"id": "rerank-1", "results": results, "meta": {"api_version": {}}}
        if request.path == "/v1/rerank":
            for result in answer["results"]:
                result["document"] = {"text": texts[result["index"] % len(texts)]}
            answer = {"model": body["model"], "usage": {"total_tokens": 1}} | answer
        if reply.failure is Failure.INLINE_ERROR:
            answer = _ollama_error(reply)
        if reply.failure is Failure.WRONG_SHAPE:
            answer = {"data": ranks}
        return await self._send_json(request, reply, json.dumps(answer).encode())

    async def _send_json(
        self, request: web.Request, reply: Reply, payload: bytes
    ) -> web.StreamResponse:
        """Send a body, or half of it and then nothing, an end, or a reset."""
        if reply.failure is Failure.MALFORMED:
            return web.Response(body=payload[:-2], content_type="application/json")
        if reply.failure not in {Failure.STALL, Failure.CUT_BODY, Failure.RESET}:
            return web.Response(body=payload, content_type="application/json")
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.content_length = len(payload)
        await response.prepare(request)
        await response.write(payload[: len(payload) // 2])
        if reply.failure is Failure.STALL:
            await self._watch(asyncio.Event().wait())
        await asyncio.sleep(0.02)  # lets the first half leave
        if reply.failure is Failure.RESET:
            _reset(request)
        elif request.transport:
            request.transport.close()
        return response

    def _rows(self, texts: list[str], failure: Failure, model: str) -> list[list[float]]:
        dimensions = self.dimensions_by_model.get(model, self.dimensions)
        dimensions = dimensions // 2 if failure is Failure.WRONG_DIMENSION else dimensions
        salt = model if model in self.dimensions_by_model else ""
        rows = [embed_words(text, dimensions, salt=salt) for text in texts]
        if failure is Failure.SHORT_BATCH:
            rows.pop()
        if failure is Failure.UNEVEN:
            rows[-1] = rows[-1][:-1]
        if failure is Failure.NAN:
            rows[-1] = [float("nan"), *rows[-1][1:]]
        if failure is Failure.ZERO:
            rows[-1] = [0.0] * dimensions
        return rows

    # Remote control

    async def _fill_script(self, request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        repeat = asked.pop("repeat", 1)
        if "failure" in asked:
            asked["failure"] = Failure(asked["failure"])
        self.script(*[Reply(**asked)] * repeat)
        return web.Response(status=204)

    async def _set_chaos(self, request: web.Request) -> web.StreamResponse:
        self.chaos(**await request.json())
        return web.Response(status=204)

    async def _count_calls(self, _request: web.Request) -> web.StreamResponse:
        return web.json_response(
            {
                "embedding_calls": self.embedding_calls,
                "embedding_inputs": self.embedding_inputs,
                "by_failure": self.by_failure,
            }
        )

    async def _list_calls(self, _request: web.Request) -> web.StreamResponse:
        calls = [{"path": c.path, "headers": c.headers, "body": c.body} for c in self.calls]
        return web.json_response(
            {"calls": calls, "open_streams": self.open_streams, "aborts": self.aborts}
        )


def embed_words(text: str, dimensions: int = DIMENSIONS, *, salt: str = "") -> list[float]:
    """Return a unit vector in which texts that share words are near: a hashed bag of words.

    Vectors of different salts have nothing in common.
    """
    vector = np.zeros(dimensions, dtype=np.float64)
    for word in _WORD.findall(_PREFIX.sub("", text).lower()):
        if not _STOP_WORDS.fullmatch(word):
            place, sign = _hash_word(salt + word.removesuffix("s"))
            vector[place % dimensions] += sign
    norm = float(np.linalg.norm(vector))
    if norm == 0.0:
        vector[0] = norm = 1.0
    return [round(value, 7) for value in (vector / norm).tolist()]


@lru_cache(maxsize=100_000)
def _hash_word(word: str) -> tuple[int, float]:
    digest = hashlib.blake2b(word.encode(errors="replace"), digest_size=8).digest()
    return int.from_bytes(digest[:7], "big"), 1.0 if digest[7] & 1 else -1.0


def _overlaps(query: str, texts: list[str]) -> list[float]:
    """Return how near each text is to a query by its words, 0 to 1."""
    rows = np.array([embed_words(text) for text in texts])
    nearness: list[float] = (rows @ np.array(embed_words(query))).clip(0.0, 1.0).tolist()
    return nearness


def _rank(scores: list[float], failure: Failure) -> list[tuple[int, float]]:
    """Return indexes and scores as a reranker does, best first, or wrongly so."""
    ranks = sorted(enumerate(scores), key=lambda entry: -entry[1])
    index, score = ranks[-1]
    if failure is Failure.SHORT_BATCH:
        ranks.pop()
    if failure is Failure.DOUBLE_INDEX:
        ranks[-1] = (ranks[0][0], score)
    if failure is Failure.WRONG_INDEX:
        ranks[-1] = (len(scores), score)
    if failure is Failure.NAN:
        ranks[-1] = (index, float("nan"))
    return ranks


def _encode_base64(row: list[float]) -> str:
    return base64.b64encode(np.asarray(row, dtype="<f4").tobytes()).decode()


def _count_words(text: str) -> int:
    return len(text.split())


def _pieces(text: str) -> list[str]:
    return re.findall(r"\s*\S+|\s+$", text)


def _openai_error(reply: Reply) -> dict[str, Any]:
    error = {"message": reply.error, "type": "server_error", "param": None, "code": reply.code}
    return {"error": error}


def _azure_filter_error(reply: Reply) -> dict[str, Any]:
    innererror = {"code": "ResponsibleAIPolicyViolation", "content_filter_result": {}}
    error = {"code": "content_filter", "message": reply.error, "status": 400, "param": "prompt"}
    return {"error": error | {"innererror": innererror}}


_ANTHROPIC_ERRORS = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    529: "overloaded_error",
}
_GEMINI_ERRORS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
}


def _anthropic_error(reply: Reply) -> dict[str, Any]:
    is_quota = reply.code == "insufficient_quota"
    kind = "billing_error" if is_quota else _ANTHROPIC_ERRORS.get(reply.status, "api_error")
    return {"type": "error", "error": {"type": kind, "message": reply.error}, "request_id": "r1"}


def _gemini_error(reply: Reply) -> dict[str, Any]:
    """There is no Retry-After: the wait is in the body."""
    details: list[dict[str, Any]] = [{"@type": "type.googleapis.com/google.rpc.Help"}]
    if reply.code:
        details.append({"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reply.code})
    if reply.retry_after:
        wait = {"retryDelay": f"{reply.retry_after}s"}
        details.append({"@type": "type.googleapis.com/google.rpc.RetryInfo"} | wait)
    status = _GEMINI_ERRORS.get(reply.status, "INTERNAL")
    error = {"code": reply.status, "message": reply.error, "status": status, "details": details}
    return {"error": error}


def _ollama_error(reply: Reply) -> dict[str, Any]:
    return {"error": reply.error}


def _event(chunk: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


def _line(chunk: dict[str, Any]) -> bytes:
    return json.dumps(chunk).encode() + b"\n"


def _completion(model: str, reply: Reply, usage: dict[str, int]) -> dict[str, Any]:
    message = {"role": "assistant", "content": reply.text, "refusal": None}
    choice = {"index": 0, "message": message, "finish_reason": reply.finish_reason}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": model,
        "choices": [choice],
        **({"usage": usage} if reply.has_usage else {}),
    }


def _openai_lines(model: str, reply: Reply, usage: dict[str, int] | None) -> list[bytes]:
    def chunk(delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return _event(
            {
                "id": "chatcmpl-1",
                "object": "chat.completion.chunk",
                "created": 1,
                "model": model,
                "choices": [choice],
                **({"usage": None} if usage else {}),
            }
        )

    kind = "refusal" if reply.is_refusal else "content"
    lines = [b": a comment\n\n", chunk({"role": "assistant", "content": ""})]
    lines += [chunk({kind: piece}) for piece in _pieces(reply.text)]
    lines.append(chunk({}, reply.finish_reason))
    if usage and reply.has_usage:
        lines.append(_event({"id": "chatcmpl-1", "model": model, "choices": [], "usage": usage}))
    if reply.failure is not Failure.NO_DONE:
        lines.append(b"data: [DONE]\n\n")
    return lines


def _openai_usage(body: dict[str, Any], reply: Reply) -> dict[str, Any]:
    prompt = sum(_count_words(str(m["content"])) for m in body["messages"])
    return {
        "prompt_tokens": prompt,
        "completion_tokens": _count_words(reply.text),
        "total_tokens": prompt + _count_words(reply.text),
        "prompt_tokens_details": {"cached_tokens": reply.cached_tokens},
    }


def _named_event(event: dict[str, Any]) -> bytes:
    return f"event: {event['type']}\n".encode() + _event(event)


def _anthropic_lines(body: dict[str, Any], reply: Reply) -> list[bytes]:
    prompt = _count_words(str(body.get("system", "")))
    prompt += sum(_count_words(str(m["content"])) for m in body["messages"])
    read = {
        "input_tokens": prompt - reply.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": reply.cached_tokens,
        "output_tokens": 1,
    }
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": body["model"]}
    written = {"input_tokens": None, "output_tokens": _count_words(reply.text)}
    reason = "refusal" if reply.is_refusal else reply.finish_reason
    reasons = {"stop": "end_turn", "length": "max_tokens", "content_filter": "refusal"}
    block = {"type": "text", "text": ""}
    deltas = [{"type": "text_delta", "text": piece} for piece in _pieces(reply.text)]
    end = {"type": "message_delta", "delta": {"stop_reason": reasons.get(reason, reason)}}
    events: list[dict[str, Any]] = [
        {
            "type": "message_start",
            "message": message | ({"usage": read} if reply.has_usage else {}),
        },
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "ping"},
        *({"type": "content_block_delta", "index": 0, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": 0},
        end | ({"usage": written} if reply.has_usage else {}),
        {"type": "message_stop"},
    ]
    return [_named_event(event) for event in events]


def _gemini_lines(model: str, body: dict[str, Any], reply: Reply) -> list[bytes]:
    said = [*body["contents"], body.get("systemInstruction", {"parts": []})]
    prompt = sum(_count_words(part["text"]) for content in said for part in content["parts"])

    def event(chunk: dict[str, Any], written: int) -> bytes:
        counts = {"promptTokenCount": prompt, "cachedContentTokenCount": reply.cached_tokens}
        if written:  # one of them a thought's
            counts |= {"candidatesTokenCount": written - 1, "thoughtsTokenCount": 1}
        usage = {"usageMetadata": counts} if reply.has_usage else {}
        line = json.dumps(chunk | usage | {"modelVersion": model})
        return b"data: " + line.encode() + b"\r\n\r\n"

    if reply.failure is Failure.BLOCKED:
        return [event({"promptFeedback": {"blockReason": "SAFETY"}}, 0)]
    reason = "content_filter" if reply.is_refusal else reply.finish_reason
    reasons = {"stop": "STOP", "length": "MAX_TOKENS", "content_filter": "SAFETY"}
    lines = [
        event({"candidates": [{"content": {"role": "model", "parts": [{"text": piece}]}}]}, count)
        for count, piece in enumerate(_pieces(reply.text), start=1)
    ]
    last = {"index": 0, "finishReason": reasons.get(reason, reason)}
    return [*lines, event({"candidates": [last]}, _count_words(reply.text))]


def _ollama_lines(model: str, reply: Reply, prompt_tokens: int) -> list[bytes]:
    def chunk(content: str, **more: Any) -> bytes:
        message = {"role": "assistant", "content": content}
        return _line({"model": model, "message": message, "done": False} | more)

    counts = {"prompt_eval_count": prompt_tokens, "eval_count": _count_words(reply.text)}
    lines = [chunk(piece) for piece in _pieces(reply.text)]
    last = {"done": True, "done_reason": reply.finish_reason}
    return [*lines, chunk("", **last, **(counts if reply.has_usage else {}))]


async def _repeat(response: web.StreamResponse, comment: bytes) -> None:
    while True:
        await response.write(comment)
        await asyncio.sleep(0.02)


def _reset(request: web.Request) -> None:
    """Close with RST instead of FIN."""
    if transport := request.transport:
        linger = struct.pack("ii", 1, 0)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        transport.abort()


async def _serve(server: ProviderServer) -> None:
    async with server:
        print(f"listening on {server.url}", flush=True)  # noqa: T201  # for who started it
        await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--delay-ms", type=float, default=0.0)
    parser.add_argument("--delay-per-input-ms", type=float, default=0.0)
    parser.add_argument("--dimensions", type=int, default=DIMENSIONS)
    parser.add_argument("--chaos-seed", type=int, default=0)
    parser.add_argument("--chaos-share", type=float, default=0.0)
    parser.add_argument("--stats-only", action="store_true", help="count calls, don't keep them")
    options = parser.parse_args()
    server = ProviderServer(
        keeps_calls=not options.stats_only,
        port=options.port,
        dimensions=options.dimensions,
        delay_s=options.delay_ms / 1000,
        delay_per_input_s=options.delay_per_input_ms / 1000,
    )
    server.chaos(seed=options.chaos_seed, share=options.chaos_share)
    with suppress(KeyboardInterrupt):
        asyncio.run(_serve(server))


if __name__ == "__main__":
    main()

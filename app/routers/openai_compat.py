"""OpenAI's API over the same engine: chat completions and models, for unmodified clients.

What those must know:

- The key is an access token. Answers are not kept.
- Questions are answered from the caller's documents, unless `use_rag` is false. `document_ids`,
  `tags` and the other fields of `/api/v1/chat/` narrow them; SDKs send such fields in `extra_body`.
- A message has a `file_citation` in `annotations` for each marker `[n]`. A stream has them in one
  chunk, before the one with the `finish_reason`.
- What would change an answer, and can't here, is refused by name; null is as good as absent.
- A stream that fails ends with an `error` object and without `[DONE]`.
"""

import json
import re
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from functools import partial
from typing import Any, Literal, Self
from uuid import UUID

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from app.chat.admission import MAX_WAIT_S
from app.chat.events import to_frame
from app.chat.pipeline import Question
from app.core.connection import while_connected
from app.core.errors import InvalidRequest
from app.core.sse import PING_COMMENT, Frame, FrameStream, to_json_line
from app.core.text import AnyText
from app.dependencies import AnswererDep, Caller, ResourcesDep, StreamTimingDep
from app.llm.base import Message, Role
from app.llm.catalog import read_catalog
from app.routers.chat import CollectedAnswer, begin_stream, collect, prepare_answer
from app.routers.search_filters import FilterFields

router = APIRouter(prefix="/v1", tags=["openai"])

# A model with it answers from documents.
DOCS_SUFFIX = "+docs"
# What is searched with; without documents only the model's window counts.
_MAX_QUESTION = 10_000

# They are about the request, and change nothing in its answer.
_LABELS = frozenset(
    {
        *("metadata", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention"),
        *("safety_identifier", "user"),
    }
)
# Programs send these without need: they ask for what an answer is anyway.
_ONLY_VALUES: Mapping[str, tuple[object, ...]] = {
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "logprobs": (False,),
    "modalities": (["text"],),
    "n": (1,),
    "parallel_tool_calls": (True, False),
    "presence_penalty": (0,),
    "response_format": ({"type": "text"},),
    "service_tier": ("auto", "default"),
    "stop": ([],),
    "store": (False,),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "top_p": (1,),
}
# A program sends an answer's own `annotations` back with it.
_MESSAGE_LABELS = frozenset({"annotations", "name"})
_MESSAGE_FIELDS = frozenset({"role", "content"})
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_ROLES = {
    "system": Role.SYSTEM,
    "developer": Role.SYSTEM,
    "user": Role.USER,
    "assistant": Role.ASSISTANT,
}


class CompletionMessage(BaseModel):
    """`content` may also be a list of parts, `{"type": "text", "text": …}`."""

    model_config = ConfigDict(extra="forbid")

    role: Literal["system", "developer", "user", "assistant"]
    content: AnyText = Field(max_length=100_000)

    @model_validator(mode="before")
    @classmethod
    def _leave_out_labels(cls, message: object) -> object:
        if not isinstance(message, dict):
            return message
        fields = {}
        for name, value in message.items():
            if name in _MESSAGE_FIELDS:
                fields[name] = value
            elif value not in (None, []) and name not in _MESSAGE_LABELS:
                raise ValueError(f"{_quote(name)} is not supported")
        return fields

    @field_validator("content", mode="before")
    @classmethod
    def _join_parts(cls, content: object) -> object:
        if not isinstance(content, list):
            return content
        texts = [
            part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None
            for part in content
        ]
        if not all(isinstance(text, str) for text in texts):
            raise ValueError("only parts of the type `text` are supported")
        return "\n".join(map(str, texts))


class StreamOptions(BaseModel):
    model_config = ConfigDict(extra="forbid")

    include_usage: bool = False
    include_obfuscation: bool = Field(default=False, description="There is none.")


class CompletionRequest(FilterFields):
    """The last message must be the user's: it is what is asked. Blank ones are left out."""

    model: AnyText = Field(
        min_length=1,
        max_length=200,
        description=f"One of `GET /v1/models`. With `{DOCS_SUFFIX}` behind it, `use_rag` is true.",
    )
    messages: list[CompletionMessage] = Field(min_length=1, max_length=1_000)
    temperature: float = Field(default=0.7, ge=0, le=2)
    max_tokens: int = Field(default=1024, ge=1, le=4096)
    max_completion_tokens: int | None = Field(
        default=None, ge=1, le=4096, description="The newer name of `max_tokens`."
    )
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    use_rag: bool = True
    wait_s: float = Field(
        default=0, ge=0, le=MAX_WAIT_S, description="How long named documents may get ready."
    )

    @model_validator(mode="before")
    @classmethod
    def _refuse_what_is_not_supported(cls, body: object) -> object:
        """Raises InvalidRequest, whose param is the name."""
        if not isinstance(body, dict):
            return body
        fields = {name: value for name, value in body.items() if value is not None}
        for name in fields.keys() - cls.model_fields.keys():
            _check_changes_nothing(name, fields.pop(name))
        return fields

    @field_validator("messages")
    @classmethod
    def _last_asks(cls, messages: list[CompletionMessage]) -> list[CompletionMessage]:
        if messages[-1].role != "user" or not messages[-1].content.strip():
            raise ValueError("the last message must have the role `user`, and a text")
        return messages

    @model_validator(mode="after")
    def _agree(self) -> Self:
        given = self.model_fields_set
        if {"max_tokens", "max_completion_tokens"} <= given:
            raise ValueError("max_completion_tokens: send it or max_tokens, not both")
        if self.model.endswith(DOCS_SUFFIX):
            if not self.use_rag:
                raise ValueError(f"use_rag: it is false, but the model ends in {DOCS_SUFFIX}")
            self.model = self.model.removesuffix(DOCS_SUFFIX)
            if not self.model:
                raise ValueError(f"model: it is missing before {DOCS_SUFFIX}")
        if self.use_rag and len(self.messages[-1].content) > _MAX_QUESTION:
            raise ValueError(
                f"messages: the last one has over {_MAX_QUESTION:,} characters, too many to "
                "search documents with"
            )
        return self

    def to_question(self) -> Question:
        return Question(
            messages=tuple(
                Message(_ROLES[each.role], each.content)
                for each in self.messages
                if each.content.strip()
            ),
            model=self.model,
            temperature=self.temperature,
            max_tokens=self.max_completion_tokens or self.max_tokens,
            use_rag=self.use_rag,
            filter=self.to_filter(),
            wait_s=self.wait_s,
        )


class AnnotationOut(BaseModel):
    """A citation. `file_id` is the document's id; `quote` are the page's own words."""

    type: Literal["file_citation"] = "file_citation"
    index: int = Field(description="Where the marker stands in the content, in code points.")
    file_id: UUID
    filename: str
    n: int = Field(description="The marker `[n]` in the content.")
    page_start: int
    page_end: int
    page_label: str | None = Field(description="The page's printed name, where it has another.")
    quote: str
    quote_start: int = Field(description="Where the quote stands in the page's text.")
    quote_end: int
    score: float = Field(ge=0, le=1)
    verified: bool = Field(description="Whether the quote supports the sentence that cites it.")


class CompletionMessageOut(BaseModel):
    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None
    annotations: list[AnnotationOut]


class ChoiceOut(BaseModel):
    index: Literal[0] = 0
    message: CompletionMessageOut
    logprobs: None = None
    finish_reason: str = Field(description="stop, length or content_filter.")


class CompletionUsageOut(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class CompletionOut(BaseModel):
    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int = Field(description="Seconds since 1970.")
    model: str = Field(description="The one that was chosen, `provider/model`.")
    choices: list[ChoiceOut]
    usage: CompletionUsageOut
    degraded: bool = Field(description="True when no language model was used.")


class ListedModelOut(BaseModel):
    id: str = Field(description="`provider/model`.")
    object: Literal["model"] = "model"
    created: int = Field(default=0, description="Not known.")
    owned_by: str = Field(description="The provider.")


class ModelListOut(BaseModel):
    object: Literal["list"] = "list"
    data: list[ListedModelOut]


@router.post("/chat/completions", response_model=CompletionOut)
async def create_completion(
    body: CompletionRequest,
    request: Request,
    caller: Caller,
    answerer: AnswererDep,
    timing: StreamTimingDep,
) -> CompletionOut | Response:
    """Answer as OpenAI does, from the caller's documents, with citations as annotations."""
    answer = await prepare_answer(body.to_question(), request, caller, answerer)
    if body.stream:
        stream = await begin_stream(answer, request, timing)
        write = partial(_write_chunks, include_usage=body.stream_options.include_usage)
        return FrameStream(stream, timing, write=write, ping=PING_COMMENT)
    return _to_completion(await while_connected(request.receive, collect(answer)))


@router.get("/models")
async def list_models(_caller: Caller, resources: ResourcesDep) -> ModelListOut:
    """The models that answer, first of all the one that does when none is named."""
    catalog = await read_catalog(resources.models)
    return ModelListOut(
        data=[ListedModelOut(id=model.id, owned_by=model.provider) for model in catalog.models]
    )


def _check_changes_nothing(name: str, value: object) -> None:
    """Raises InvalidRequest for a parameter without which the answer could be another one."""
    if name in _LABELS or value in _ONLY_VALUES.get(name, ()):
        return
    if name in _ONLY_VALUES:
        allowed = " or ".join(json.dumps(each) for each in _ONLY_VALUES[name])
        raise InvalidRequest(
            f"{name}: it can only be {allowed} here.", code="unsupported_value", param=name
        )
    raise InvalidRequest(
        f"{_quote(name)} is not supported here: leave it out.",
        code="unsupported_parameter",
        param=name if _NAME.fullmatch(name) else None,
    )


def _quote(name: str) -> str:
    """Return how a message names a parameter; what can't be one's name is not repeated."""
    return f"`{name}`" if _NAME.fullmatch(name) else "A parameter with an odd name"


def _to_completion(collected: CollectedAnswer) -> CompletionOut:
    start, done = to_frame(collected.start), to_frame(collected.done)
    message = CompletionMessageOut(
        content=collected.text,
        annotations=[AnnotationOut(**_annotation(to_frame(each))) for each in collected.citations],
    )
    return CompletionOut(
        **_head(start),
        choices=[ChoiceOut(message=message, finish_reason=done["finish_reason"])],
        usage=CompletionUsageOut(**_usage(done)),
        degraded=done["degraded"],
    )


async def _write_chunks(
    frames: AsyncGenerator[Frame], *, include_usage: bool
) -> AsyncGenerator[bytes]:
    """Yield the frames of one answer as OpenAI's chunks, without ids and in OpenAI's order."""
    head: dict[str, Any] = {}
    annotations: list[dict[str, Any]] = []

    def chunk(delta: Mapping[str, Any], finish_reason: str | None = None, **more: Any) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return _event(head | {"choices": [choice]} | more)

    async with aclosing(frames):
        async for frame in frames:
            match frame["type"]:
                case "start":
                    head = _head(frame) | {"object": "chat.completion.chunk"}
                    if include_usage:
                        head["usage"] = None
                    yield chunk({"role": "assistant", "content": ""})
                case "token":
                    yield chunk({"content": frame["token"]})
                case "citation":
                    annotations.append(_annotation(frame))
                case "error":
                    yield _event({"error": _error(frame)})
                    return
                case "done":
                    if annotations:
                        yield chunk({"annotations": annotations})
                    yield chunk({}, frame["finish_reason"], degraded=frame["degraded"])
                    if include_usage:
                        yield _event(head | {"choices": [], "usage": _usage(frame)})
                    yield b"data: [DONE]\n\n"


def _event(content: Frame) -> bytes:
    return b"data: %b\n\n" % to_json_line(content).encode()


def _head(start: Frame) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{UUID(start['run_id']).hex}",
        "created": int(time.time()),
        "model": start["model"],
    }


def _annotation(citation: Frame) -> dict[str, Any]:
    return {
        "type": "file_citation",
        "index": citation["answer_start"],
        "file_id": citation["document_id"],
        **{name: citation[name] for name in _SAME_NAMES},
    }


_SAME_NAMES = (
    *("filename", "n", "page_start", "page_end", "page_label"),
    *("quote", "quote_start", "quote_end", "score", "verified"),
)


def _usage(done: Frame) -> dict[str, int]:
    usage = done["usage"]
    return {
        "prompt_tokens": usage["input_tokens"],
        "completion_tokens": usage["output_tokens"],
        "total_tokens": usage["total_tokens"],
    }


def _error(failure: Frame) -> dict[str, Any]:
    return {
        "message": failure["message"],
        "type": "server_error",
        "param": None,
        "code": failure["code"],
    }

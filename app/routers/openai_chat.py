"""OpenAI's chat completions over the same engine, for unmodified clients.

What those must know:

- Plain chat is passed on: the model gets the messages as they are, and its words come as they are.
- A model's name with `+docs` behind it, `use_rag`, or any field that says which documents, has the
  question answered from the caller's documents. The fields are those of `/api/v1/chat/`; SDKs send
  them in `extra_body`.
- A message then has a `file_citation` in `annotations` for each marker `[n]`. A stream has them in
  one chunk, before the one with the `finish_reason`.
- Answers are not kept. What would change one, and can't here, is refused by name; null is as good
  as absent.
- A stream that fails ends with an `error` object and without `[DONE]`.
"""

import time
from collections.abc import Mapping
from hashlib import sha256
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from app.accounts.principal import Principal
from app.chat.admission import MAX_WAIT_S
from app.chat.events import Citation, Done, Event, Failure, Start, Token, to_frame
from app.chat.pipeline import Question
from app.chat.streaming import EncodedAnswer
from app.core.sse import PING_COMMENT, EncodedStream, Frame, to_json_line
from app.core.text import AnyText
from app.dependencies import AnswererDep, Asker, StreamTimingDep, take_stream_place
from app.llm.base import Message, Role
from app.routers.chat import (
    CollectedAnswer,
    answer_whole,
    open_stream,
    set_route_headers,
)
from app.routers.openai_shapes import FILE, leave_known, quote, to_id
from app.routers.search_filters import FilterFields

router = APIRouter(prefix="/v1", tags=["openai"])

# A model with it answers from documents.
DOCS_SUFFIX = "+docs"
# What is searched with; without documents only the model's window counts.
MAX_QUESTION = 10_000
MAX_MESSAGE = 8 * 1024 * 1024
# More than any vendor's model writes: its own limit is its vendor's to say.
MAX_OUTPUT_TOKENS = 131_072
# What every model in use may write.
DEFAULT_OUTPUT_TOKENS = 4_096
ANSWER_TOKENS_WITH_DOCUMENTS = 1_024
# A model's own without documents; quotes want less play.
TEMPERATURE, TEMPERATURE_WITH_DOCUMENTS = 1.0, 0.7
_MAX_STOPS = 4

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
    "store": (False,),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
}
# A program sends an answer's own `annotations` back with it.
_MESSAGE_LABELS = frozenset({"annotations", "name"})
_MESSAGE_FIELDS = frozenset({"role", "content"})
ROLES = {
    "system": Role.SYSTEM,
    "developer": Role.SYSTEM,
    "user": Role.USER,
    "assistant": Role.ASSISTANT,
}


class CompletionMessage(BaseModel):
    """`content` may also be a list of parts, `{"type": "text", "text": …}`."""

    model_config = ConfigDict(extra="forbid")

    role: Literal["system", "developer", "user", "assistant"]
    content: AnyText = Field(max_length=MAX_MESSAGE)

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
                raise ValueError(f"{quote(name)} is not supported")
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


Stop = Annotated[AnyText, Field(min_length=1, max_length=200)]
UserLabel = Annotated[AnyText, Field(max_length=512)]


class CompletionRequest(FilterFields):
    """The last message must be the user's: it is what is asked. Blank ones are left out."""

    model: AnyText = Field(
        min_length=1,
        max_length=200,
        description=f"One of `GET /v1/models`. With `{DOCS_SUFFIX}` behind it, `use_rag` is true.",
    )
    messages: list[CompletionMessage] = Field(min_length=1, max_length=1_000)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=0, le=1)
    max_tokens: int | None = Field(default=None, ge=1, le=MAX_OUTPUT_TOKENS)
    max_completion_tokens: int | None = Field(
        default=None, ge=1, le=MAX_OUTPUT_TOKENS, description="The newer name of `max_tokens`."
    )
    stop: list[Stop] = Field(
        default_factory=list, max_length=_MAX_STOPS, description="Or one string."
    )
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    user: UserLabel = Field(default="", description="Told to the model's vendor as a pseudonym.")
    safety_identifier: UserLabel = Field(default="", description="The newer name of `user`.")
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    use_rag: bool | None = Field(
        default=None,
        description="Whether to answer from documents. Without it a model's suffix says so, or a "
        "field that says which.",
    )
    wait_s: float = Field(
        default=0, ge=0, le=MAX_WAIT_S, description="How long named documents may get ready."
    )

    @model_validator(mode="before")
    @classmethod
    def _refuse_what_is_not_supported(cls, body: object) -> object:
        """Raises InvalidRequest, whose param is the name."""
        return leave_known(body, cls.model_fields, only_values=_ONLY_VALUES)

    @field_validator("stop", mode="before")
    @classmethod
    def _as_list(cls, stop: object) -> object:
        return [stop] if isinstance(stop, str) else stop

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
            if self.use_rag is False:
                raise ValueError(f"use_rag: it is false, but the model ends in {DOCS_SUFFIX}")
            self.use_rag = True
            self.model = self.model.removesuffix(DOCS_SUFFIX)
            if not self.model:
                raise ValueError(f"model: it is missing before {DOCS_SUFFIX}")
        if self.use_rag is None:
            self.use_rag = bool(given & (FilterFields.model_fields.keys() | {"wait_s"}))
        if self.use_rag and len(self.messages[-1].content) > MAX_QUESTION:
            raise ValueError(
                f"messages: the last one has over {MAX_QUESTION:,} characters, too many to "
                "search documents with"
            )
        return self

    def to_question(self, caller: Principal) -> Question:
        with_documents = bool(self.use_rag)
        temperature = TEMPERATURE_WITH_DOCUMENTS if with_documents else TEMPERATURE
        max_tokens = ANSWER_TOKENS_WITH_DOCUMENTS if with_documents else DEFAULT_OUTPUT_TOKENS
        return Question(
            messages=tuple(
                Message(ROLES[each.role], each.content)
                for each in self.messages
                if each.content.strip()
            ),
            model=self.model,
            temperature=temperature if self.temperature is None else self.temperature,
            insists_on_temperature=self.temperature is not None,
            max_tokens=self.max_completion_tokens or self.max_tokens or max_tokens,
            use_rag=with_documents,
            filter=self.to_filter(),
            wait_s=self.wait_s,
            verbatim=not with_documents,
            stop=tuple(self.stop),
            seed=self.seed,
            top_p=self.top_p,
            user=pseudonym_of(caller, self.safety_identifier or self.user),
        )


class AnnotationOut(BaseModel):
    """A citation. `file_id` is the document's id as of a file; `quote` are the page's own words."""

    type: Literal["file_citation"] = "file_citation"
    index: int = Field(description="Where the marker stands in the content, in code points.")
    file_id: str
    document_id: UUID
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


@router.post("/chat/completions", response_model=CompletionOut)
async def create_completion(
    body: CompletionRequest,
    request: Request,
    response: Response,
    caller: Asker,
    answerer: AnswererDep,
    timing: StreamTimingDep,
) -> CompletionOut | Response:
    """Answer as OpenAI does; from the caller's documents with citations as annotations."""
    if body.stream:
        await take_stream_place(request, caller)
        stream = await open_stream(body.to_question(caller), request, caller, answerer, timing)
        chunks = _Chunks(include_usage=body.stream_options.include_usage)
        streamed = EncodedStream(EncodedAnswer(stream, chunks.encode), timing, ping=PING_COMMENT)
        set_route_headers(streamed, stream.route)
        return streamed
    question = body.to_question(caller)
    collected = await answer_whole(question, request, caller, answerer)
    set_route_headers(response, collected.route)
    return _to_completion(collected)


def pseudonym_of(caller: Principal, user: str) -> str:
    """Return what a vendor is told of a caller's own user: the same for the same, and no name."""
    return sha256(b"%b %b" % (caller.org_id.bytes, user.encode())).hexdigest() if user else ""


def _to_completion(collected: CollectedAnswer) -> CompletionOut:
    start, done = collected.start, collected.done
    message = CompletionMessageOut(
        content=collected.text,
        annotations=[
            AnnotationOut(**annotation_of(to_frame(each))) for each in collected.citations
        ],
    )
    return CompletionOut(
        **_head(start),
        choices=[ChoiceOut(message=message, finish_reason=done.finish_reason)],
        usage=CompletionUsageOut(**_usage(done)),
        degraded=done.degraded,
    )


class _Chunks:
    """Encodes the events of one answer as OpenAI's chunks, without ids and in OpenAI's order."""

    def __init__(self, *, include_usage: bool) -> None:
        self._include_usage = include_usage
        self._head: dict[str, Any] = {}
        self._annotations: list[dict[str, Any]] = []
        self._has_begun = False
        self._has_failed = False

    def encode(self, event: Event) -> bytes:
        """Return the event's chunks, which may be none."""
        match event:
            case Token():
                return self._chunk({"content": event.text})
            case Start():
                return self._begin(event)
            case Citation():
                self._annotations.append(annotation_of(to_frame(event)))
            case Failure():
                self._has_failed = True
                return encode_chunk({"error": _error(event)})
            case Done() if not self._has_failed:
                return self._end(event)
        return b""

    def _begin(self, start: Start) -> bytes:
        self._head = _head(start) | {"object": "chat.completion.chunk"}
        if self._include_usage:
            self._head["usage"] = None
        if self._has_begun:  # another model takes over
            return b""
        self._has_begun = True
        return self._chunk({"role": "assistant", "content": ""})

    def _end(self, done: Done) -> bytes:
        chunks = []
        if self._annotations:
            chunks.append(self._chunk({"annotations": self._annotations}))
        chunks.append(self._chunk({}, done.finish_reason, degraded=done.degraded))
        if self._include_usage:
            chunks.append(encode_chunk(self._head | {"choices": [], "usage": _usage(done)}))
        return b"".join((*chunks, b"data: [DONE]\n\n"))

    def _chunk(
        self, delta: Mapping[str, Any], finish_reason: str | None = None, **more: Any
    ) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return encode_chunk(self._head | {"choices": [choice]} | more)


def encode_chunk(content: Frame) -> bytes:
    return b"data: %b\n\n" % to_json_line(content).encode()


def _head(start: Start) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{start.run_id.hex}",
        "created": int(time.time()),
        "model": start.model,
    }


def annotation_of(citation: Frame) -> dict[str, Any]:
    return {
        "type": "file_citation",
        "index": citation["answer_start"],
        "file_id": to_id(FILE, UUID(citation["document_id"])),
        "document_id": citation["document_id"],
        **{name: citation[name] for name in _SAME_NAMES},
    }


_SAME_NAMES = (
    *("filename", "n", "page_start", "page_end", "page_label"),
    *("quote", "quote_start", "quote_end", "score", "verified"),
)


def _usage(done: Done) -> dict[str, int]:
    usage = done.usage
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }


def _error(failure: Failure) -> dict[str, Any]:
    return {
        "message": failure.message,
        "type": "server_error",
        "param": None,
        "code": failure.code,
    }

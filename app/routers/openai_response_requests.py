"""What a response is asked with."""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from app.accounts.principal import Principal
from app.chat.pipeline import Question
from app.core.errors import InvalidRequest
from app.core.text import AnyText
from app.llm.base import Message, Role
from app.retrieval.filters import EVERYTHING, Filter, InVectorStores
from app.routers.openai_chat import (
    ANSWER_TOKENS_WITH_DOCUMENTS,
    DEFAULT_OUTPUT_TOKENS,
    MAX_MESSAGE,
    MAX_OUTPUT_TOKENS,
    MAX_QUESTION,
    ROLES,
    TEMPERATURE,
    TEMPERATURE_WITH_DOCUMENTS,
    StreamOptions,
    UserLabel,
    pseudonym_of,
)
from app.routers.openai_filters import Filters
from app.routers.openai_shapes import (
    LABELS,
    RESPONSE,
    STORE,
    leave_known,
    parse_id,
    unsupported_value,
)
from app.routers.openai_vector_stores import Metadata, RankingOptions

RESULTS = "file_search_call.results"
_FILE_SEARCH = "file_search"
_MAX_STORES = 10
# Programs send these without need: they ask for what a response is anyway.
_ONLY_VALUES: Mapping[str, tuple[object, ...]] = {
    "background": (False,),
    "parallel_tool_calls": (True, False),
    "reasoning": ({},),
    "service_tier": ("auto", "default"),
    "text": ({}, {"format": {"type": "text"}}),
    "top_logprobs": (0,),
    "truncation": ("auto", "disabled"),
}
# Parts of a message that are text.
_TEXTS = frozenset({"input_text", "output_text", "text"})
# A program sends a response's own items back with the next question; these say nothing new.
_OWN_ITEMS = frozenset({"file_search_call"})
_MESSAGE_LABELS = frozenset({"type", "id", "status", "phase"})


class InputMessage(BaseModel):
    """`content` may also be a list of parts: input_text or output_text."""

    model_config = ConfigDict(extra="forbid")

    role: Literal["system", "developer", "user", "assistant"]
    content: AnyText = Field(max_length=MAX_MESSAGE)

    @model_validator(mode="before")
    @classmethod
    def _leave_out_labels(cls, item: object) -> object:
        if not isinstance(item, dict):
            return item
        kind = item.get("type") or "message"
        if kind != "message":
            raise unsupported_value("input", "a text, or items of the type `message`")
        fields = {name: value for name, value in item.items() if name not in _MESSAGE_LABELS}
        return fields | {"content": _join(fields.get("content"))}


def _join(content: object) -> object:
    if not isinstance(content, list):
        return content
    texts = [
        part.get("text") if isinstance(part, dict) and part.get("type") in _TEXTS else None
        for part in content
    ]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError(
            "content: only parts of the types input_text and output_text are supported"
        )
    return "\n".join(map(str, texts))


class FileSearchTool(BaseModel):
    model_config = ConfigDict(extra="forbid")

    type: Literal["file_search"]
    vector_store_ids: list[Annotated[str, Field(max_length=100)]] = Field(
        min_length=1, max_length=_MAX_STORES
    )
    filters: Filters | None = None
    max_num_results: int | None = Field(default=None, ge=1, le=50)
    ranking_options: RankingOptions | None = None

    @model_validator(mode="before")
    @classmethod
    def _refuse_other_tools(cls, tool: object) -> object:
        if isinstance(tool, dict) and tool.get("type") != _FILE_SEARCH:
            raise unsupported_value("tools", "of the type `file_search`")
        return leave_known(tool, cls.model_fields, only_values={}, labels=frozenset())

    @property
    def store_ids(self) -> list[UUID]:
        """Raises NotFound for what is no id."""
        return [parse_id(STORE, id_, param="tools") for id_ in self.vector_store_ids]


class NamedTool(BaseModel):
    model_config = ConfigDict(extra="forbid")

    type: Literal["file_search"]


def _check_included(include: object) -> object:
    if isinstance(include, list) and any(name != RESULTS for name in include):
        raise unsupported_value("include", json.dumps([RESULTS]))
    return include


Included = Annotated[list[str], BeforeValidator(_check_included)]


def _as_messages(given: object) -> object:
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    if not isinstance(given, list):
        return given
    return [
        item for item in given if not (isinstance(item, dict) and item.get("type") in _OWN_ITEMS)
    ]


class ResponseRequest(BaseModel):
    """The last message must be the user's: it is what is asked."""

    model_config = ConfigDict(extra="forbid")

    model: AnyText | None = Field(default=None, min_length=1, max_length=200)
    input: Annotated[
        list[InputMessage],
        BeforeValidator(_as_messages),
        Field(min_length=1, max_length=1_000, description="Or one string."),
    ]
    instructions: Annotated[AnyText, Field(max_length=MAX_MESSAGE)] | None = None
    previous_response_id: str | None = Field(default=None, max_length=100)
    tools: list[FileSearchTool] = Field(default_factory=list, max_length=1)
    tool_choice: Literal["none", "auto", "required"] | NamedTool = Field(
        default="auto", description="Unless `none`, the files are searched for every question."
    )
    max_tool_calls: int | None = Field(default=None, ge=1, description="There is one at most.")
    include: Included = Field(default_factory=list)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=0, le=1)
    max_output_tokens: int | None = Field(default=None, ge=1, le=MAX_OUTPUT_TOKENS)
    metadata: Metadata = Field(default_factory=dict)
    store: bool = Field(
        default=True, description="Whether it is kept, as an answer in a conversation."
    )
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    user: UserLabel = ""
    safety_identifier: UserLabel = ""

    @model_validator(mode="before")
    @classmethod
    def _refuse_what_is_not_supported(cls, body: object) -> object:
        """Raises InvalidRequest, whose param is the name."""
        return leave_known(
            body, cls.model_fields, only_values=_ONLY_VALUES, labels=LABELS - {"metadata"}
        )

    @model_validator(mode="after")
    def _agree(self) -> Self:
        messages = self.messages
        if messages[-1].role is not Role.USER or not messages[-1].content.strip():
            raise ValueError("input: it must end with a message of the user, and that has a text")
        if self.search and len(messages[-1].content) > MAX_QUESTION:
            raise ValueError(
                f"input: the last message has over {MAX_QUESTION:,} characters, too many to "
                "search files with"
            )
        if not self.tools and self.tool_choice not in ("none", "auto"):
            raise ValueError("tool_choice: there is no tool to choose")
        if self.previous_response_id is None:
            return self
        if not self.store:
            raise unsupported_value("store", "true with previous_response_id")
        if any(each.role is not Role.SYSTEM for each in messages[:-1]):
            raise InvalidRequest(
                "input: behind a previous response, send the question alone.",
                code="unsupported_value",
                param="input",
            )
        return self

    @property
    def search(self) -> FileSearchTool | None:
        """The tool that this response uses."""
        return self.tools[0] if self.tools and self.tool_choice != "none" else None

    @property
    def messages(self) -> list[Message]:
        return [Message(ROLES[each.role], each.content) for each in self.input]

    @property
    def previous_run_id(self) -> UUID | None:
        """Raises NotFound for what is no id."""
        if self.previous_response_id is None:
            return None
        return parse_id(RESPONSE, self.previous_response_id, param="previous_response_id")

    def to_question(self, caller: Principal) -> Question:
        search = self.search
        instructions = Message(Role.SYSTEM, self.instructions or "")
        temperature = TEMPERATURE_WITH_DOCUMENTS if search else TEMPERATURE
        max_tokens = ANSWER_TOKENS_WITH_DOCUMENTS if search else DEFAULT_OUTPUT_TOKENS
        ranking = search.ranking_options if search else None
        return Question(
            messages=tuple(each for each in (instructions, *self.messages) if each.content.strip()),
            model=self.model,
            temperature=temperature if self.temperature is None else self.temperature,
            insists_on_temperature=self.temperature is not None,
            max_tokens=self.max_output_tokens or max_tokens,
            use_rag=search is not None,
            filter=_filter_of(search),
            top_k=search.max_num_results if search else None,
            min_score=ranking.score_threshold if ranking else 0.0,
            verbatim=search is None,
            top_p=self.top_p,
            user=pseudonym_of(caller, self.safety_identifier or self.user),
        )

    def repeated(self) -> dict[str, Any]:
        """Return what the response repeats of the request, in its own words."""
        sent = self.model_dump(
            mode="json",
            exclude_none=True,
            include={"tools", "tool_choice", "metadata", "max_tool_calls"},
        )
        return sent | {
            "instructions": self.instructions,
            "previous_response_id": self.previous_response_id,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_output_tokens": self.max_output_tokens,
            "store": self.store,
            "parallel_tool_calls": True,
            "background": False,
            "truncation": "disabled",
            "text": {"format": {"type": "text"}},
        }


def _filter_of(search: FileSearchTool | None) -> Filter:
    if search is None:
        return EVERYTHING
    where = search.filters.to_where() if search.filters else None
    return Filter(where=InVectorStores(tuple(search.store_ids), where))

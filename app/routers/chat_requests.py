"""What a chat is asked with, and how an answer that is kept begins."""

import hashlib
from dataclasses import replace
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from fastapi import Header, Request, status
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from app.accounts.idempotency import Answer, answer_once, check_key, find_answer
from app.accounts.principal import Principal
from app.chat.admission import MAX_WAIT_S
from app.chat.branches import find_question_of
from app.chat.pipeline import Admitted, Answerer, Question
from app.chat.recording import BegunRun, RunRequest, begin_run
from app.chat.runs import RunEngine
from app.core.connection import while_served
from app.core.text import AnyText
from app.llm.base import Message, Role
from app.models.conversations import RunStatus
from app.routers.search_filters import FilterFields

IdempotencyKeyHeader = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        description="1 to 255 visible ASCII characters. For 24 hours the same request with the "
        "same key gives the same run, with `Idempotency-Replayed: true`.",
    ),
]


def _not_blank(content: str) -> str:
    if not content.strip():
        raise ValueError("it is blank")
    return content


class ChatMessage(BaseModel):
    model_config = ConfigDict(extra="forbid")

    role: Literal["user", "assistant", "system"] = "user"
    content: Annotated[AnyText, AfterValidator(_not_blank)] = Field(min_length=1, max_length=10_000)


class ChatRequest(FilterFields):
    """The last message must be the user's: it is what is asked.

    In a conversation `messages` is the question alone: what came before is known.
    """

    messages: list[ChatMessage] = Field(default_factory=list, max_length=200)
    conversation_id: UUID | None = Field(default=None, description="Where the answer is kept.")
    parent_id: UUID | None = Field(
        default=None, description="The message to follow; else the conversation's newest one."
    )
    replaces: UUID | None = Field(
        default=None,
        description="A question, which `messages` asks in another way, or an answer, to be given "
        "again (without `messages`). Both stay, as branches.",
    )
    model: AnyText | None = Field(
        default=None, max_length=200, description="`provider/model`, or a bare model id."
    )
    temperature: float = Field(default=0.7, ge=0, le=2)
    max_tokens: int = Field(default=1024, ge=1, le=4096)
    stream: bool = False
    use_rag: bool = True
    wait_s: float = Field(
        default=0, ge=0, le=MAX_WAIT_S, description="How long named documents may get ready."
    )

    @field_validator("messages")
    @classmethod
    def _last_is_users(cls, messages: list[ChatMessage]) -> list[ChatMessage]:
        if messages and messages[-1].role != "user":
            raise ValueError("the last message must have the role `user`")
        return messages

    @model_validator(mode="after")
    def _has_a_question(self) -> Self:
        if not self.messages and self.replaces is None:
            raise ValueError("messages: the question is missing")
        if self.conversation_id is None and (self.parent_id or self.replaces):
            raise ValueError("conversation_id: it is missing")
        if self.conversation_id is not None and len(self.messages) > 1:
            raise ValueError("messages: in a conversation send the question alone")
        return self

    def to_question(self) -> Question:
        """Of an answer that is to be given again the question is empty: it is to be looked up."""
        messages = [Message(Role(m.role), m.content) for m in self.messages]
        return Question(
            messages=tuple(messages) or (Message(Role.USER, ""),),
            model=self.model,
            temperature=self.temperature,
            max_tokens=self.max_tokens,
            use_rag=self.use_rag,
            filter=self.to_filter(),
            wait_s=self.wait_s,
        )


async def begin_answer(
    body: ChatRequest,
    request: Request,
    caller: Principal,
    answerer: Answerer,
    runs: RunEngine,
    *,
    key: str | None,
    is_detached: bool = False,
) -> Answer:
    """Do every check that can fail, and begin a run; or find the one that this key began."""
    check_key(key)
    question = body.to_question()
    if key is not None or not body.messages:
        async with answerer.retriever.db.transaction(caller) as session:
            # Before the checks: what was asked about may be gone by now.
            if answer := await find_answer(session, caller, key, request_hash=_hash(body)):
                return answer
            if body.conversation_id and body.replaces and not body.messages:
                asked = await find_question_of(
                    session, caller, body.conversation_id, answer_id=body.replaces
                )
                question = replace(question, messages=(Message(Role.USER, asked),))
    admitted = await while_served(request, answerer.admit(caller, question))
    return await _begin(body, caller, runs, admitted, key=key, is_detached=is_detached)


async def _begin(
    body: ChatRequest,
    caller: Principal,
    runs: RunEngine,
    admitted: Admitted,
    *,
    key: str | None,
    is_detached: bool,
) -> Answer:
    begun: list[BegunRun] = []
    asked = RunRequest(
        question=body.messages[-1].content if body.messages else None,
        model=admitted.model_id,
        conversation_id=body.conversation_id,
        parent_id=body.parent_id,
        replaces=body.replaces,
        history=admitted.question.messages[:-1],
        is_detached=is_detached,
    )

    async with runs.beginning(caller) as session:

        async def act() -> Answer:
            run = await begin_run(session, caller, asked)
            begun.append(run)
            return Answer(status.HTTP_201_CREATED, _ids(run))

        answer = await answer_once(session, caller, key, request_hash=_hash(body), act=act)
    for run in begun:
        runs.start(caller, run, admitted.behind(run.messages), is_detached=is_detached)
    return answer


def _hash(body: ChatRequest) -> bytes:
    return hashlib.sha256(b"POST runs " + body.model_dump_json().encode()).digest()


def _ids(run: BegunRun) -> dict[str, Any]:
    return {
        "run_id": str(run.run_id),
        "message_id": str(run.message_id),
        "conversation_id": str(run.conversation_id),
        "status": RunStatus.QUEUED.value,
    }

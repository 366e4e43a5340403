"""Messages of one's conversations, feedback on answers, and how an answer came about."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from app.chat import messages
from app.chat.events import Citation, spans_frame, usage_frame
from app.chat.messages import MessageView
from app.chat.stored_answers import pair_up, to_usd, usage_of
from app.core.text import AnyText
from app.dependencies import ConversationWriter, Reader, ResourcesDep
from app.models.conversations import ConversationMessage, MessageRole, Run, RunStatus

router = APIRouter(prefix="/api/v1", tags=["conversations"])

_RATINGS: dict[int | None, Literal["up", "down"] | None] = {1: "up", -1: "down", None: None}
_STORED_RATINGS = {shown: stored for stored, shown in _RATINGS.items()}


class MessageCitationOut(BaseModel):
    """A marker of the answer with the words that support it, as in the stream.

    `quote` and `filename` are empty once the document was deleted.
    """

    model_config = ConfigDict(from_attributes=True)

    n: int = Field(description="The marker `[n]` in the answer.")
    document_id: UUID
    filename: str
    source_deleted: bool = False
    chunk_id: UUID
    chunk_index: int
    page_start: int
    page_end: int
    page_label: str | None
    quote: str
    quote_start: int
    quote_end: int
    chunk_start: int
    chunk_end: int
    answer_start: int
    score: float
    verified: bool
    missing_numbers: list[str]


class UnreadyDocumentOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    document_id: UUID
    filename: str = Field(description="Empty once the document was deleted.")
    status: str = Field(description="What it was when the question was asked.")


class RunErrorOut(BaseModel):
    code: str
    message: str
    retryable: bool


class FeedbackOut(BaseModel):
    rating: Literal["up", "down"] | None
    comment: str | None
    rated_at: datetime


class QuestionOut(BaseModel):
    id: UUID
    parent_id: UUID | None = Field(description="What it follows; null at the beginning.")
    role: Literal[MessageRole.USER]
    content: str
    created_at: datetime
    siblings: list[UUID] = Field(
        description="The branches at this place, itself among them, oldest first."
    )


class AnswerOut(BaseModel):
    """`run_id`, `status` and what a run tells are null for an answer that the client brought."""

    id: UUID
    parent_id: UUID | None = Field(description="The question.")
    role: Literal[MessageRole.ASSISTANT]
    content: str = Field(description="While `status` is `running`, what was stored so far.")
    created_at: datetime
    siblings: list[UUID] = Field(
        description="The answers to the same question, itself among them, oldest first."
    )
    run_id: UUID | None
    status: RunStatus | None
    error: RunErrorOut | None
    model: str | None
    model_version: str | None
    finish_reason: str | None
    degraded: bool = Field(description="True when no language model was used.")
    fallbacks: int = Field(description="Models that were passed over for the one that answered.")
    citations: list[MessageCitationOut]
    unsupported: list[dict[str, int]] = Field(
        description="Spans of the answer that no source supports: start, end."
    )
    unready_documents: list[UnreadyDocumentOut]
    usage: dict[str, Any] | None
    cost_usd: str | None = Field(description="Null where the price is unknown.")
    feedback: FeedbackOut | None


MessageOut = Annotated[QuestionOut | AnswerOut, Field(discriminator="role")]


class MessagePage(BaseModel):
    items: list[MessageOut]
    next_cursor: str | None


class FeedbackBody(BaseModel):
    """Replaces what was said before; null and null takes it back."""

    model_config = ConfigDict(extra="forbid")

    rating: Literal["up", "down"] | None
    comment: AnyText | None = Field(default=None, max_length=2_000)


class AnswerTraceOut(BaseModel):
    message_id: UUID
    run_id: UUID
    conversation_id: UUID
    status: RunStatus
    trace: dict[str, Any] = Field(
        description="Queries, candidates and ranks, the prompt's tokens, calls of models, timings "
        "in milliseconds, cost. `filename` is null where the document was deleted."
    )


@router.get("/conversations/{conversation_id}/messages")
async def list_messages(
    conversation_id: UUID,
    caller: Reader,
    resources: ResourcesDep,
    leaf: Annotated[
        UUID | None, Query(description="Only what leads to this message, and it.")
    ] = None,
    cursor: UUID | None = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> MessagePage:
    """Messages of all branches, oldest first."""
    async with resources.db.transaction(caller) as session:
        page = await messages.list_messages(
            session, caller, conversation_id, leaf=leaf, cursor=cursor, limit=limit
        )
    return MessagePage(
        items=[show_message(view) for view in page.items], next_cursor=page.next_cursor
    )


@router.put("/conversations/{conversation_id}/messages/{message_id}/feedback")
async def put_feedback(
    conversation_id: UUID,
    message_id: UUID,
    body: FeedbackBody,
    caller: ConversationWriter,
    resources: ResourcesDep,
) -> FeedbackOut | None:
    """Say what you think of an answer. Null when it was taken back."""
    async with resources.db.transaction(caller) as session:
        message = await messages.rate_answer(
            session,
            caller,
            conversation_id,
            message_id,
            rating=_STORED_RATINGS[body.rating],
            comment=body.comment or None,
        )
    return _feedback(message)


@router.get("/messages/{message_id}/trace")
async def get_trace(message_id: UUID, caller: Reader, resources: ResourcesDep) -> AnswerTraceOut:
    """How an answer came about.

    409 `run_active` while it is being written; 404 `no_trace` for a message that has none.
    """
    async with resources.db.transaction(caller) as session:
        found = await messages.get_trace(session, caller, message_id)
    return AnswerTraceOut.model_validate(found, from_attributes=True)


def show_message(view: MessageView) -> QuestionOut | AnswerOut:
    message = view.message
    if message.role == MessageRole.USER:
        return QuestionOut(
            id=message.id,
            parent_id=message.parent_id,
            role=MessageRole.USER,
            content=message.content,
            created_at=message.created_at,
            siblings=list(view.siblings),
        )
    run = view.run
    return AnswerOut(
        id=message.id,
        parent_id=message.parent_id,
        role=MessageRole.ASSISTANT,
        content=message.content,
        created_at=message.created_at,
        siblings=list(view.siblings),
        run_id=run.id if run else None,
        status=RunStatus(run.status) if run else None,
        error=_error(run),
        model=message.model or (run.model if run else None),
        model_version=message.model_version or None,
        finish_reason=message.finish_reason or None,
        degraded=message.degraded,
        fallbacks=message.fallbacks,
        citations=[_citation(each) for each in view.citations],
        unsupported=spans_frame(pair_up(message.unsupported)),
        unready_documents=[
            UnreadyDocumentOut.model_validate(each) for each in view.unready_documents
        ],
        usage=None if message.input_tokens is None else usage_frame(usage_of(message)),
        cost_usd=to_usd(message.cost_nano),
        feedback=_feedback(message),
    )


def _citation(citation: Citation) -> MessageCitationOut:
    shown = MessageCitationOut.model_validate(citation)
    return shown.model_copy(update={"source_deleted": not citation.filename})


def _error(run: Run | None) -> RunErrorOut | None:
    if run is None or run.error_code is None:
        return None
    return RunErrorOut(
        code=run.error_code, message=run.error_message or "", retryable=bool(run.is_retryable)
    )


def _feedback(message: ConversationMessage) -> FeedbackOut | None:
    if message.rated_at is None:
        return None
    return FeedbackOut(
        rating=_RATINGS[message.rating], comment=message.comment, rated_at=message.rated_at
    )

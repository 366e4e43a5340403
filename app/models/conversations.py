"""Conversations, their messages, the runs that make answers, and the answers' citations."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TSVECTOR
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, Timestamped

# What every frame of a run stays below. The ids behind it belong to who closes a run in the place
# of the process that died: no reader can have seen them.
MAX_EVENTS = 20_000


class MessageRole(StrEnum):
    USER = "user"
    ASSISTANT = "assistant"


class RunStatus(StrEnum):
    """A run ends in exactly one of the last three."""

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def has_ended(self) -> bool:
        return self not in (RunStatus.QUEUED, RunStatus.RUNNING)


class Conversation(Timestamped, Base):
    """What one user asked about the organization's documents. Nobody else sees it."""

    __tablename__ = "conversations"
    __table_args__ = (
        Index(
            "ix_conversations_org_id_user_id_updated_at_id",
            *("org_id", "user_id", "updated_at", "id"),
        ),
    )

    org_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"), primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    title: Mapped[str] = mapped_column(Text)
    updated_at: Mapped[datetime] = mapped_column(server_default=text("now()"))


class ConversationMessage(Timestamped, Base):
    """A question or an answer. `parent_id` is what it follows; siblings are branches.

    What follows `terms` is of answers alone. `content` grows while its run goes on. `unsupported`
    is flat: start and end of each span of the answer that no source supports. `sources` are what
    the model was shown: n, document_id, chunk_id, page_start, page_end, score. `trace` holds no
    text of documents and no file names.
    """

    __tablename__ = "messages"
    __table_args__ = (
        CheckConstraint("role IN ('user', 'assistant')", name="role"),
        CheckConstraint("rating IN (-1, 1)", name="rating"),
        ForeignKeyConstraint(
            ["org_id", "conversation_id"],
            ["conversations.org_id", "conversations.id"],
            ondelete="CASCADE",
        ),
        ForeignKeyConstraint(
            ["org_id", "parent_id"], ["messages.org_id", "messages.id"], ondelete="CASCADE"
        ),
        Index("ix_messages_org_id_conversation_id_id", "org_id", "conversation_id", "id"),
        Index("ix_messages_org_id_parent_id", "org_id", "parent_id"),
    )

    org_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    conversation_id: Mapped[UUID]
    parent_id: Mapped[UUID | None]
    role: Mapped[MessageRole] = mapped_column(Text)
    content: Mapped[str] = mapped_column(Text)
    terms: Mapped[Any] = mapped_column(TSVECTOR, server_default="")
    model: Mapped[str | None] = mapped_column(Text)
    model_version: Mapped[str | None] = mapped_column(Text)
    # Of the model that answered; how many were asked, and passed over, before it did.
    provider: Mapped[str | None] = mapped_column(Text)
    attempts: Mapped[int] = mapped_column(SmallInteger, default=0, server_default="0")
    fallbacks: Mapped[int] = mapped_column(SmallInteger, default=0, server_default="0")
    finish_reason: Mapped[str | None] = mapped_column(Text)
    degraded: Mapped[bool] = mapped_column(default=False, server_default="false")
    input_tokens: Mapped[int | None]
    output_tokens: Mapped[int | None]
    is_usage_estimated: Mapped[bool] = mapped_column(default=False, server_default="false")
    # Billionths of a US dollar; NULL where the price is unknown.
    cost_nano: Mapped[int | None] = mapped_column(BigInteger)
    answer_sha256: Mapped[bytes | None] = mapped_column(LargeBinary)
    dropped_markers: Mapped[int] = mapped_column(default=0, server_default="0")
    unsupported: Mapped[list[int]] = mapped_column(ARRAY(Integer), server_default="{}")
    sources: Mapped[list[dict[str, Any]]] = mapped_column(JSONB, server_default="[]")
    unready_documents: Mapped[list[dict[str, Any]]] = mapped_column(JSONB, server_default="[]")
    trace: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    rating: Mapped[int | None] = mapped_column(SmallInteger)
    comment: Mapped[str | None] = mapped_column(Text)
    rated_at: Mapped[datetime | None]


class Run(Timestamped, Base):
    """The making of one answer (`message_id`). At most one of a conversation is going on.

    `seen_at` is when somebody last read or asked; `lease_expires_at` is when the process that makes
    the answer counts as dead. `token_ids[i]` is the id of the frame that brought the answer from
    `token_offsets[i]` on. `snapshot_id` is set where the run was closed in the place of a dead
    process: the stored text then replaces what readers have.
    """

    __tablename__ = "runs"
    __table_args__ = (
        CheckConstraint(
            "status IN ('queued', 'running', 'completed', 'failed', 'cancelled')", name="status"
        ),
        CheckConstraint(
            "(status IN ('queued', 'running')) = (finished_at IS NULL)", name="finished"
        ),
        CheckConstraint("(status = 'failed') = (error_code IS NOT NULL)", name="failed_has_code"),
        ForeignKeyConstraint(
            ["org_id", "conversation_id"],
            ["conversations.org_id", "conversations.id"],
            ondelete="CASCADE",
        ),
        ForeignKeyConstraint(
            ["org_id", "message_id"], ["messages.org_id", "messages.id"], ondelete="CASCADE"
        ),
        Index(
            "uq_runs_org_id_conversation_id",
            *("org_id", "conversation_id"),
            unique=True,
            postgresql_where=text("status IN ('queued', 'running')"),
        ),
        Index("uq_runs_org_id_message_id", "org_id", "message_id", unique=True),
        Index("ix_runs_org_id_conversation_id", "org_id", "conversation_id"),
        Index(
            "ix_runs_lease_expires_at",
            "lease_expires_at",
            postgresql_where=text("status IN ('queued', 'running')"),
        ),
    )

    org_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    conversation_id: Mapped[UUID]
    message_id: Mapped[UUID]
    status: Mapped[RunStatus] = mapped_column(
        Text, default=RunStatus.QUEUED, server_default=RunStatus.QUEUED
    )
    is_detached: Mapped[bool] = mapped_column(default=False, server_default="false")
    model: Mapped[str] = mapped_column(Text)
    error_code: Mapped[str | None] = mapped_column(Text)
    error_message: Mapped[str | None] = mapped_column(Text)
    is_retryable: Mapped[bool | None]
    cancel_requested_at: Mapped[datetime | None]
    seen_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    lease_expires_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    last_event_id: Mapped[int] = mapped_column(default=0, server_default="0")
    snapshot_id: Mapped[int | None]
    token_ids: Mapped[list[int]] = mapped_column(ARRAY(Integer), server_default="{}")
    token_offsets: Mapped[list[int]] = mapped_column(ARRAY(Integer), server_default="{}")


class StoredCitation(Base):
    """A marker of an answer, with the words that support it; `event_id` is its frame's.

    `quote` is NULL once the document was deleted.
    """

    __tablename__ = "citations"
    __table_args__ = (
        ForeignKeyConstraint(
            ["org_id", "message_id"], ["messages.org_id", "messages.id"], ondelete="CASCADE"
        ),
        Index("ix_citations_org_id_document_id", "org_id", "document_id"),
    )

    org_id: Mapped[UUID] = mapped_column(primary_key=True)
    message_id: Mapped[UUID] = mapped_column(primary_key=True)
    event_id: Mapped[int] = mapped_column(primary_key=True)
    n: Mapped[int]
    document_id: Mapped[UUID]
    chunk_id: Mapped[UUID]
    chunk_index: Mapped[int]
    page_start: Mapped[int]
    page_end: Mapped[int]
    page_label: Mapped[str | None] = mapped_column(Text)
    quote: Mapped[str | None] = mapped_column(Text)
    quote_start: Mapped[int]
    quote_end: Mapped[int]
    chunk_start: Mapped[int]
    chunk_end: Mapped[int]
    answer_start: Mapped[int]
    score: Mapped[float]
    verified: Mapped[bool]
    missing_numbers: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default="{}")

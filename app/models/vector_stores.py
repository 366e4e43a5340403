"""Vector stores, their files, and what OpenAI's API says of documents and answers besides."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, ForeignKeyConstraint, Index, Text, Uuid, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, Timestamped

MAX_EXPIRY_DAYS = 365


class FilePurpose(StrEnum):
    """What a file was uploaded for. It changes nothing of what becomes of it."""

    ASSISTANTS = "assistants"
    USER_DATA = "user_data"


class OpenAIFile(Timestamped, Base):
    """A document that came as a file of OpenAI's API."""

    __tablename__ = "openai_files"
    __table_args__ = (
        CheckConstraint("purpose IN ('assistants', 'user_data')", name="purpose"),
        ForeignKeyConstraint(
            ["org_id", "document_id"], ["documents.org_id", "documents.id"], ondelete="CASCADE"
        ),
    )

    org_id: Mapped[UUID] = mapped_column(primary_key=True)
    document_id: Mapped[UUID] = mapped_column(primary_key=True)
    purpose: Mapped[FilePurpose] = mapped_column(Text)


class VectorStore(Timestamped, Base):
    """A named set of an organization's documents.

    It expires `expires_after_days` after it was last used; never where that is NULL.
    """

    __tablename__ = "vector_stores"
    __table_args__ = (
        CheckConstraint("jsonb_typeof(metadata) = 'object'", name="metadata_is_object"),
        CheckConstraint("expires_after_days BETWEEN 1 AND 365", name="expires_after_days"),
    )

    org_id: Mapped[UUID] = mapped_column(
        ForeignKey("organizations.id", ondelete="CASCADE"), primary_key=True
    )
    id: Mapped[UUID] = mapped_column(primary_key=True)
    created_by: Mapped[UUID | None]
    name: Mapped[str] = mapped_column(Text, default="", server_default="")
    description: Mapped[str | None] = mapped_column(Text)
    # SQLAlchemy keeps the bare name for itself.
    metadata_: Mapped[dict[str, str]] = mapped_column(
        "metadata", JSONB, default=dict, server_default="{}"
    )
    expires_after_days: Mapped[int | None]
    last_active_at: Mapped[datetime] = mapped_column(server_default=text("now()"))


class VectorStoreFile(Timestamped, Base):
    """A document in a vector store, with attributes for filters.

    Cancelled, it is listed and not searched. It goes with its document and with its store.
    """

    __tablename__ = "vector_store_files"
    __table_args__ = (
        CheckConstraint("jsonb_typeof(attributes) = 'object'", name="attributes_is_object"),
        ForeignKeyConstraint(
            ["org_id", "vector_store_id"],
            ["vector_stores.org_id", "vector_stores.id"],
            ondelete="CASCADE",
        ),
        ForeignKeyConstraint(
            ["org_id", "document_id"], ["documents.org_id", "documents.id"], ondelete="CASCADE"
        ),
        Index("ix_vector_store_files_org_id_document_id", "org_id", "document_id"),
    )

    org_id: Mapped[UUID] = mapped_column(primary_key=True)
    vector_store_id: Mapped[UUID] = mapped_column(primary_key=True)
    document_id: Mapped[UUID] = mapped_column(primary_key=True)
    attributes: Mapped[dict[str, str | float | bool]] = mapped_column(
        JSONB, default=dict, server_default="{}"
    )
    cancelled_at: Mapped[datetime | None]


class VectorStoreBatch(Timestamped, Base):
    """Files that were added to a vector store at once."""

    __tablename__ = "vector_store_batches"
    __table_args__ = (
        ForeignKeyConstraint(
            ["org_id", "vector_store_id"],
            ["vector_stores.org_id", "vector_stores.id"],
            ondelete="CASCADE",
        ),
        Index("ix_vector_store_batches_org_id_vector_store_id", "org_id", "vector_store_id"),
    )

    org_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    vector_store_id: Mapped[UUID]
    document_ids: Mapped[list[UUID]] = mapped_column(ARRAY(Uuid))
    cancelled_at: Mapped[datetime | None]


class OpenAIResponse(Timestamped, Base):
    """What a response was asked with besides its words; those are the messages of its run."""

    __tablename__ = "openai_responses"
    __table_args__ = (
        ForeignKeyConstraint(["org_id", "run_id"], ["runs.org_id", "runs.id"], ondelete="CASCADE"),
    )

    org_id: Mapped[UUID] = mapped_column(primary_key=True)
    run_id: Mapped[UUID] = mapped_column(primary_key=True)
    previous_run_id: Mapped[UUID | None]
    request: Mapped[dict[str, Any]] = mapped_column(JSONB)

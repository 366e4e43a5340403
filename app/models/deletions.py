"""Receipts of deletions."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base


class DeletionReason(StrEnum):
    REQUESTED = "requested"
    EXPIRED = "expired"


class Deletion(Base):
    """What was removed of a deleted document. Outlives it, and tells nothing of what was in it.

    `completed_at` when the row itself is gone; `verified_at` when a count after it found nothing.
    """

    __tablename__ = "deletions"
    __table_args__ = (
        CheckConstraint("reason IN ('requested', 'expired')", name="reason"),
        UniqueConstraint("org_id", "document_id"),
        Index(
            "ix_deletions_unverified",
            "completed_at",
            postgresql_where=text("completed_at IS NOT NULL AND verified_at IS NULL"),
        ),
    )

    org_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"), primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    document_id: Mapped[UUID]
    # As the document was: its receipt is shown to nobody else.
    private_to: Mapped[UUID | None]
    reason: Mapped[DeletionReason] = mapped_column(Text)
    requested_by: Mapped[UUID | None]
    requested_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    page_count: Mapped[int] = mapped_column(default=0, server_default="0")
    chunk_count: Mapped[int] = mapped_column(default=0, server_default="0")
    embedding_count: Mapped[int] = mapped_column(default=0, server_default="0")
    file_count: Mapped[int] = mapped_column(default=0, server_default="0")
    file_bytes: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    quote_count: Mapped[int] = mapped_column(default=0, server_default="0")
    completed_at: Mapped[datetime | None]
    verified_at: Mapped[datetime | None]

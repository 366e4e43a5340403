"""Resumable uploads, and what requests with an Idempotency-Key were answered."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, LargeBinary, SmallInteger, Text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, Timestamped
from app.models.document_metadata import Value


class Upload(Timestamped, Base):
    """A file that arrives in pieces. How much of it has arrived is what the file on disk says.

    `document_id` is set once the file is complete and has become a document.
    """

    __tablename__ = "uploads"

    org_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"), primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    filename: Mapped[str] = mapped_column(Text)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    sealed_password: Mapped[bytes | None] = mapped_column(LargeBinary)
    document_expires_at: Mapped[datetime | None]
    document_tags: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    document_is_private: Mapped[bool] = mapped_column(default=False, server_default="false")
    document_metadata: Mapped[dict[str, Value] | None] = mapped_column(JSONB(none_as_null=True))
    document_id: Mapped[UUID | None]
    expires_at: Mapped[datetime] = mapped_column(index=True)


class IdempotencyKey(Timestamped, Base):
    """What a request was answered. `request_hash` tells another body under the same key."""

    __tablename__ = "idempotency_keys"

    org_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"), primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"), primary_key=True)
    key_hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    request_hash: Mapped[bytes] = mapped_column(LargeBinary)
    status: Mapped[int] = mapped_column(SmallInteger)
    response: Mapped[dict[str, Any]] = mapped_column(JSONB)
    expires_at: Mapped[datetime] = mapped_column(index=True)

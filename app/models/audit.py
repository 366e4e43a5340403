"""The audit log."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Index, SmallInteger, Text, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base


class AuditEvent(Base):
    """One line, which nobody changes. `status` is that of the HTTP answer.

    `org_id` is None for what concerns no organization, `user_id` for somebody who is not known.
    """

    __tablename__ = "audit_events"
    __table_args__ = (Index(None, "org_id", "id"), Index(None, "user_id", "id"))

    id: Mapped[UUID] = mapped_column(primary_key=True)
    org_id: Mapped[UUID | None]
    at: Mapped[datetime] = mapped_column(server_default=func.now())
    user_id: Mapped[UUID | None]
    key_id: Mapped[UUID | None]
    action: Mapped[str] = mapped_column(Text)
    object_id: Mapped[str | None] = mapped_column(Text)
    address: Mapped[str] = mapped_column(Text)
    client: Mapped[str] = mapped_column(Text)
    status: Mapped[int] = mapped_column(SmallInteger)
    request_id: Mapped[str] = mapped_column(Text)
    details: Mapped[dict[str, Any]] = mapped_column(JSONB, default=dict, server_default="{}")

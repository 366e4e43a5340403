"""Invitations to organizations, and receipts of deleted organizations."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Index,
    LargeBinary,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.models.accounts import MemberRole
from app.models.base import Base, Timestamped


class Invitation(Timestamped, Base):
    """Lets who has the address `email` join once, in `role`. Only its token's SHA-256 is stored.

    It is good until it expires, as long as `invited_by` may still invite somebody in that role.
    """

    __tablename__ = "invitations"
    __table_args__ = (
        CheckConstraint("role IN ('owner', 'admin', 'member', 'viewer')", name="role"),
        Index(
            "uq_invitations_org_id_email",
            *("org_id", "email"),
            unique=True,
            postgresql_where=text("accepted_at IS NULL AND revoked_at IS NULL"),
        ),
    )

    org_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"), primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(Text)
    role: Mapped[MemberRole] = mapped_column(Text)
    token_hash: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    invited_by: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    expires_at: Mapped[datetime] = mapped_column(index=True)
    accepted_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class OrganizationDeletion(Base):
    """What was removed of a deleted organization, and who asked for it. Outlives it.

    `row_counts` says how many rows each table had of it, once `counted_at` is set; `completed_at`
    when the organization's own row went, last of all; `verified_at` when a count after that found
    nothing.
    """

    __tablename__ = "organization_deletions"
    __table_args__ = (
        Index(
            "ix_organization_deletions_unverified",
            "attempted_at",
            postgresql_where=text("verified_at IS NULL"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    org_id: Mapped[UUID] = mapped_column(unique=True)
    requested_by: Mapped[UUID]
    requested_at: Mapped[datetime] = mapped_column(server_default=func.now())
    attempted_at: Mapped[datetime] = mapped_column(server_default=func.now())
    row_counts: Mapped[dict[str, int]] = mapped_column(JSONB, server_default="{}")
    file_count: Mapped[int] = mapped_column(default=0, server_default="0")
    file_bytes: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    counted_at: Mapped[datetime | None]
    completed_at: Mapped[datetime | None]
    verified_at: Mapped[datetime | None]

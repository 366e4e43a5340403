"""Users, organizations, memberships and refresh tokens."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, LargeBinary, Text, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, Timestamped


class MemberRole(StrEnum):
    OWNER = "owner"
    ADMIN = "admin"
    MEMBER = "member"
    VIEWER = "viewer"


class User(Timestamped, Base):
    """A person. `email` is case-folded; raising `token_epoch` ends every access token.

    An operator administers the whole deployment, beyond any organization.
    """

    __tablename__ = "users"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(Text, unique=True)
    name: Mapped[str] = mapped_column(Text, default="", server_default="")
    password_hash: Mapped[str] = mapped_column(Text)
    token_epoch: Mapped[int] = mapped_column(default=0, server_default="0")
    is_active: Mapped[bool] = mapped_column(default=True, server_default="true")
    is_operator: Mapped[bool] = mapped_column(default=False, server_default="false")


class Organization(Timestamped, Base):
    """A tenant. `system_prompt` is added to ours; `rejects_injections` refuses such questions.

    Once `deleted_at` is set nobody is a member, and all of it is being removed.
    """

    __tablename__ = "organizations"
    __table_args__ = (
        CheckConstraint("plan IN ('free', 'pro', 'enterprise')", name="plan"),
        CheckConstraint("jsonb_typeof(limits) = 'object'", name="limits"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    # When a worker last took one of its documents, or pages of one.
    ingested_at: Mapped[datetime | None]
    recognized_at: Mapped[datetime | None]
    system_prompt: Mapped[str] = mapped_column(Text, default="", server_default="")
    rejects_injections: Mapped[bool] = mapped_column(default=False, server_default="false")
    deleted_at: Mapped[datetime | None]
    # NULL: the plan of the setting DEFAULT_PLAN. See `app/usage/plans.py` for both.
    plan: Mapped[str | None] = mapped_column(Text)
    limits: Mapped[dict[str, Any]] = mapped_column(JSONB, default=dict, server_default="{}")


class Membership(Timestamped, Base):
    __tablename__ = "memberships"
    __table_args__ = (
        CheckConstraint("role IN ('owner', 'admin', 'member', 'viewer')", name="role"),
    )

    org_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"), primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"), primary_key=True, index=True)
    role: Mapped[MemberRole] = mapped_column(Text)


class RefreshToken(Timestamped, Base):
    """One link of a family: rotating uses it up and adds the next. Only its SHA-256 is stored.

    A family is a sign-in: `client` says from what, in untrusted text.
    """

    __tablename__ = "refresh_tokens"
    __table_args__ = (
        Index(
            "ix_refresh_tokens_revoked",
            "family_id",
            postgresql_where=text("revoked_at IS NOT NULL"),
        ),
        Index(
            "ix_refresh_tokens_live",
            "user_id",
            postgresql_where=text("used_at IS NULL AND revoked_at IS NULL"),
        ),
        Index("ix_refresh_tokens_expires_at", "expires_at"),
        Index("ix_refresh_tokens_org_id_user_id_created_at", "org_id", "user_id", "created_at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    org_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"))
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"), index=True)
    family_id: Mapped[UUID] = mapped_column(index=True)
    token_hash: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    client: Mapped[str] = mapped_column(Text, default="", server_default="")
    signed_in_at: Mapped[datetime] = mapped_column(server_default=func.now())

"""API keys."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    Text,
    UniqueConstraint,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, Timestamped


class KeyEnvironment(StrEnum):
    """What a key is used in. A word for its owner: both kinds may do the same."""

    LIVE = "live"
    TEST = "test"


class ApiKey(Timestamped, Base):
    """What a program of a member's calls with; of its secret only an HMAC is stored.

    After a rotation `previous_hash` is that of the secret before, good until
    `previous_expires_at`. `made_by_key_id` None: by a sign-in. `allowed_models` None: all.
    `monthly_budget_nano` is in nano-USD; a limit that is None is no limit of the key's own.
    """

    __tablename__ = "api_keys"
    __table_args__ = (
        CheckConstraint("environment IN ('live', 'test')", name="environment"),
        CheckConstraint("scope IN ('read', 'write', 'admin')", name="scope"),
        CheckConstraint("requests_per_minute > 0", name="requests_per_minute"),
        CheckConstraint("tokens_per_day > 0", name="tokens_per_day"),
        CheckConstraint("monthly_budget_nano >= 0", name="monthly_budget_nano"),
        CheckConstraint(
            "(previous_hash IS NULL) = (previous_expires_at IS NULL)", name="previous_expires"
        ),
        UniqueConstraint("secret_hash"),
        UniqueConstraint("previous_hash"),
        ForeignKeyConstraint(
            ["org_id", "user_id"],
            ["memberships.org_id", "memberships.user_id"],
            name="fk_api_keys_org_id_user_id",
            ondelete="CASCADE",
        ),
        Index("ix_api_keys_org_id_user_id", "org_id", "user_id"),
    )

    org_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID]
    made_by_key_id: Mapped[UUID | None]
    name: Mapped[str] = mapped_column(Text)
    environment: Mapped[KeyEnvironment] = mapped_column(Text)
    scope: Mapped[str] = mapped_column(Text)
    secret_hash: Mapped[bytes] = mapped_column(LargeBinary)
    last_chars: Mapped[str] = mapped_column(Text)
    previous_hash: Mapped[bytes | None] = mapped_column(LargeBinary)
    previous_expires_at: Mapped[datetime | None]
    allowed_models: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    requests_per_minute: Mapped[int | None]
    tokens_per_day: Mapped[int | None]
    monthly_budget_nano: Mapped[int | None] = mapped_column(BigInteger)
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]

"""What was used and what it cost, budgets, prices. `*_nano` is in billionths of a US dollar."""

from datetime import date, datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Date,
    ForeignKey,
    Index,
    Numeric,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base

# The scope of a budget that is not an API key's.
ORGANIZATION_SCOPE = "organization"
# In place of the API key of a call that had none.
NO_KEY = UUID(int=0)


class UsageEvent(Base):
    """One call of a model. `cost_nano` is NULL where no price is known.

    `model` is the vendor's own id. `cached_tokens` are those of `input_tokens` that the vendor had
    read before. `at` is when the call began, and its month is the one that paid for it.
    """

    __tablename__ = "usage_events"
    __table_args__ = (
        CheckConstraint("kind IN ('chat', 'rewrite', 'rerank', 'embedding')", name="kind"),
        CheckConstraint("(cost_nano IS NULL) = (price_source = 'unknown')", name="known_cost"),
        Index("ix_usage_events_org_id_at", "org_id", "at"),
    )

    org_id: Mapped[UUID] = mapped_column(
        ForeignKey("organizations.id", ondelete="CASCADE"), primary_key=True
    )
    id: Mapped[UUID] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    user_id: Mapped[UUID]
    key_id: Mapped[UUID | None]
    run_id: Mapped[UUID | None]
    kind: Mapped[str] = mapped_column(Text)
    provider: Mapped[str] = mapped_column(Text)
    model: Mapped[str] = mapped_column(Text)
    attempt: Mapped[int]
    input_tokens: Mapped[int] = mapped_column(BigInteger)
    cached_tokens: Mapped[int] = mapped_column(BigInteger)
    output_tokens: Mapped[int] = mapped_column(BigInteger)
    is_estimated: Mapped[bool]
    cost_nano: Mapped[int | None] = mapped_column(BigInteger)
    price_source: Mapped[str] = mapped_column(Text)
    error_code: Mapped[str | None] = mapped_column(Text)
    degraded: Mapped[bool]


class DailyUsage(Base):
    """The sums of the events of a day (UTC). `cost_nano` is of those whose price is known."""

    __tablename__ = "usage_daily"

    org_id: Mapped[UUID] = mapped_column(
        ForeignKey("organizations.id", ondelete="CASCADE"), primary_key=True
    )
    day: Mapped[date] = mapped_column(Date, primary_key=True)
    user_id: Mapped[UUID] = mapped_column(primary_key=True)
    key_id: Mapped[UUID] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(Text, primary_key=True)
    provider: Mapped[str] = mapped_column(Text, primary_key=True)
    model: Mapped[str] = mapped_column(Text, primary_key=True)
    requests: Mapped[int] = mapped_column(BigInteger)
    errors: Mapped[int] = mapped_column(BigInteger)
    input_tokens: Mapped[int] = mapped_column(BigInteger)
    cached_tokens: Mapped[int] = mapped_column(BigInteger)
    output_tokens: Mapped[int] = mapped_column(BigInteger)
    cost_nano: Mapped[int] = mapped_column(BigInteger)
    unknown_cost_requests: Mapped[int] = mapped_column(BigInteger)


class Budget(Base):
    """What an organization may spend in a month; without a row, as much as it wants.

    An API key's own limit is a column of its row.
    """

    __tablename__ = "budgets"
    __table_args__ = (CheckConstraint("monthly_limit_nano >= 0", name="limit"),)

    org_id: Mapped[UUID] = mapped_column(
        ForeignKey("organizations.id", ondelete="CASCADE"), primary_key=True
    )
    monthly_limit_nano: Mapped[int] = mapped_column(BigInteger)
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class BudgetPeriod(Base):
    """One month (`period` is its first day) of an organization or of one of its API keys.

    A call whose price is unknown counts in `spent_nano` at the ceiling price.
    """

    __tablename__ = "budget_periods"
    __table_args__ = (CheckConstraint("held_nano >= 0", name="held"),)

    org_id: Mapped[UUID] = mapped_column(
        ForeignKey("organizations.id", ondelete="CASCADE"), primary_key=True
    )
    scope: Mapped[str] = mapped_column(Text, primary_key=True)
    period: Mapped[date] = mapped_column(Date, primary_key=True)
    limit_nano: Mapped[int | None] = mapped_column(BigInteger)
    spent_nano: Mapped[int] = mapped_column(BigInteger, server_default="0")
    held_nano: Mapped[int] = mapped_column(BigInteger, server_default="0")
    alerted_80_at: Mapped[datetime | None]
    alerted_100_at: Mapped[datetime | None]


class BudgetReservation(Base):
    """What a call under way may cost, held in `scopes` of `period` until it is settled."""

    __tablename__ = "budget_reservations"
    __table_args__ = (
        CheckConstraint("nano >= 0", name="nano"),
        Index(
            "ix_budget_reservations_open",
            "expires_at",
            postgresql_where=text("settled_at IS NULL"),
        ),
        Index(
            "ix_budget_reservations_settled_at",
            "settled_at",
            postgresql_where=text("settled_at IS NOT NULL"),
        ),
    )

    org_id: Mapped[UUID] = mapped_column(
        ForeignKey("organizations.id", ondelete="CASCADE"), primary_key=True
    )
    id: Mapped[UUID] = mapped_column(primary_key=True)
    period: Mapped[date] = mapped_column(Date)
    scopes: Mapped[list[str]] = mapped_column(ARRAY(Text))
    nano: Mapped[int] = mapped_column(BigInteger)
    floor_nano: Mapped[int] = mapped_column(BigInteger)
    at: Mapped[datetime]
    user_id: Mapped[UUID]
    key_id: Mapped[UUID | None]
    run_id: Mapped[UUID | None]
    kind: Mapped[str] = mapped_column(Text)
    provider: Mapped[str] = mapped_column(Text)
    model: Mapped[str] = mapped_column(Text)
    attempt: Mapped[int]
    input_tokens: Mapped[int] = mapped_column(BigInteger)
    price_source: Mapped[str] = mapped_column(Text)
    expires_at: Mapped[datetime]
    settled_at: Mapped[datetime | None]


class ModelPrice(Base):
    """The deployment's own price of `provider/model`, in US dollars for a million tokens."""

    __tablename__ = "model_prices"
    __table_args__ = (
        CheckConstraint("input_usd >= 0", name="input"),
        CheckConstraint("output_usd >= 0", name="output"),
        CheckConstraint("cached_input_usd >= 0", name="cached_input"),
    )

    model: Mapped[str] = mapped_column(Text, primary_key=True)
    input_usd: Mapped[Decimal] = mapped_column(Numeric(16, 6))
    output_usd: Mapped[Decimal] = mapped_column(Numeric(16, 6))
    cached_input_usd: Mapped[Decimal | None] = mapped_column(Numeric(16, 6))
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class OrganizationPrice(Base):
    """The price that one organization pays; before the deployment's."""

    __tablename__ = "organization_prices"
    __table_args__ = (
        CheckConstraint("input_usd >= 0", name="input"),
        CheckConstraint("output_usd >= 0", name="output"),
        CheckConstraint("cached_input_usd >= 0", name="cached_input"),
    )

    org_id: Mapped[UUID] = mapped_column(
        ForeignKey("organizations.id", ondelete="CASCADE"), primary_key=True
    )
    model: Mapped[str] = mapped_column(Text, primary_key=True)
    input_usd: Mapped[Decimal] = mapped_column(Numeric(16, 6))
    output_usd: Mapped[Decimal] = mapped_column(Numeric(16, 6))
    cached_input_usd: Mapped[Decimal | None] = mapped_column(Numeric(16, 6))
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())

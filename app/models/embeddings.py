"""Which embedding space answers questions, and how far the filling of another is."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base

# SQL about a space `s`: its HNSW index, which is NULL where there is none, and whether a whole one
# is there. What a killed build left is not.
HNSW_INDEX = "to_regclass(format('chunk_embeddings_%s_hnsw', s.id))"
HAS_HNSW = f"""
    EXISTS (SELECT FROM pg_index i WHERE i.indexrelid = {HNSW_INDEX} AND i.indisvalid)
"""
# The key of the advisory lock that whoever builds such an index holds.
HNSW_BUILD_LOCK = 7330402113


class RolloutState(StrEnum):
    """What the space beside the live one is there for."""

    IDLE = "idle"  # there is none
    FILLING = "filling"  # becomes live once it is complete
    PAUSED = "paused"  # the same, but nobody fills it: an operator's wish, an error, a rollback
    SWITCHED = "switched"  # was live before, and is kept complete


class EmbeddingRollout(Base):
    """The one row that says which space is live. There is none before the first document.

    Whoever publishes a document holds a share of its lock; a switch takes it alone. `is_held`: a
    complete space waits for somebody to switch. `switched_at`: when another space became live.
    """

    __tablename__ = "embedding_rollout"
    __table_args__ = (
        CheckConstraint("singleton", name="singleton"),
        CheckConstraint("state IN ('idle', 'filling', 'paused', 'switched')", name="state"),
        CheckConstraint("(state = 'idle') = (beside_id IS NULL)", name="beside"),
        CheckConstraint("beside_id <> live_id", name="two_spaces"),
    )

    singleton: Mapped[bool] = mapped_column(primary_key=True, server_default=text("true"))
    live_id: Mapped[int] = mapped_column(ForeignKey("embedding_spaces.id"))
    beside_id: Mapped[int | None] = mapped_column(ForeignKey("embedding_spaces.id"))
    state: Mapped[RolloutState] = mapped_column(Text, server_default="idle")
    is_held: Mapped[bool] = mapped_column(server_default=text("false"))
    switched_at: Mapped[datetime | None]


class EmbeddingFill(Base):
    """How far a worker is with the vectors that a kept space lacks.

    `is_behind`: there may be chunks without one. They are looked for in the order of organization
    and id, behind the last one that was filled in. After an error nothing is tried before
    `retry_at`.
    """

    __tablename__ = "embedding_fills"

    space_id: Mapped[int] = mapped_column(
        ForeignKey("embedding_spaces.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    is_behind: Mapped[bool] = mapped_column(server_default=text("true"))
    after_org_id: Mapped[UUID | None]
    after_chunk_id: Mapped[UUID | None]
    lease_expires_at: Mapped[datetime | None]
    failures: Mapped[int] = mapped_column(server_default="0")
    retry_at: Mapped[datetime | None]
    error_code: Mapped[str | None] = mapped_column(Text)

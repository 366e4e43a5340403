"""What the last measurement of a space's recall found."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, text
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base


class IndexRecall(Base):
    """Of `queries`, of which `hnsw_queries` took the index: the share of the right answers found.

    `has_hnsw` is whether there was an index. Of no organization: the app's role never sees it.
    """

    __tablename__ = "index_recall"

    space_id: Mapped[int] = mapped_column(
        ForeignKey("embedding_spaces.id", ondelete="CASCADE"), primary_key=True
    )
    measured_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    has_hnsw: Mapped[bool]
    queries: Mapped[int]
    hnsw_queries: Mapped[int]
    recall: Mapped[float]
    worst_org_id: Mapped[UUID]
    worst_recall: Mapped[float]

"""Names that stand for chains of models."""

from datetime import datetime
from typing import Any

from sqlalchemy import Text, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, Timestamped


class ModelAlias(Timestamped, Base):
    """Of the deployment, of no organization. `targets` are `{"model": …, "weight": …}` in order."""

    __tablename__ = "model_aliases"

    name: Mapped[str] = mapped_column(Text, primary_key=True)
    description: Mapped[str] = mapped_column(Text, server_default="")
    targets: Mapped[list[dict[str, Any]]] = mapped_column(JSONB)
    allow_extractive: Mapped[bool] = mapped_column(server_default="false")
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())

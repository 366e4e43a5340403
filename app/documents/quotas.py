"""How many documents an organization may keep, and how many bytes: what its plan says."""

from collections.abc import Awaitable, Callable
from typing import Protocol
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.errors import PermissionDenied

# Also what the caller does not see.
_MEASURE = text("""
    SELECT coalesce(sum(documents), 0)::bigint AS documents,
        coalesce(sum(size_bytes), 0)::bigint AS size_bytes
    FROM measure_documents(:org_id)
""")


class Quota(Protocol):
    """None is without limit."""

    @property
    def documents(self) -> int | None: ...
    @property
    def storage_bytes(self) -> int | None: ...


QuotaOf = Callable[[UUID], Awaitable[Quota]]


async def check_quota(
    session: AsyncSession, org_id: UUID, quota: Quota, *, documents: int = 0, size_bytes: int = 0
) -> None:
    """Raise PermissionDenied (`quota_exceeded`) where what there is and so much more is too much.

    What this transaction has written is among what there is.
    """
    if quota.documents is None and quota.storage_bytes is None:
        return
    used = (await session.execute(_MEASURE, {"org_id": org_id})).one()
    has_room = quota.documents is None or used.documents + documents <= quota.documents
    has_space = quota.storage_bytes is None or used.size_bytes + size_bytes <= quota.storage_bytes
    if has_room and has_space:
        return
    raise PermissionDenied(
        "The organization has as many documents as its plan allows."
        if not has_room
        else "The organization's documents take up what its plan allows: this one does not fit.",
        code="quota_exceeded",
        details={
            "documents": used.documents,
            "documents_limit": quota.documents,
            "storage_bytes": used.size_bytes,
            "storage_bytes_limit": quota.storage_bytes,
        },
    )

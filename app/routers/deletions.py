"""Receipts: what was removed of deleted documents, and when."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from app.dependencies import Reader, ResourcesDep
from app.documents.deletion import get_deletion, list_deletions
from app.models.deletions import Deletion, DeletionReason

router = APIRouter(prefix="/api/v1/deletions", tags=["documents"])


class DeletionOut(BaseModel):
    """The receipt of a deletion. The counts are of what has been removed so far."""

    id: UUID
    document_id: UUID
    reason: DeletionReason
    status: Literal["pending", "completed"]
    requested_at: datetime
    completed_at: datetime | None = Field(description="When the last of it was removed.")
    verified_at: datetime | None = Field(description="When a count after that found nothing left.")
    pages: int
    chunks: int
    embeddings: int
    files: int
    file_bytes: int
    quotes: int = Field(description="Quotes of it in stored answers that were redacted.")


class DeletionPage(BaseModel):
    items: list[DeletionOut]
    next_cursor: str | None


@router.get("")
async def list_receipts(
    caller: Reader,
    resources: ResourcesDep,
    cursor: UUID | None = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> DeletionPage:
    """Deletions of the organization, newest first."""
    async with resources.db.transaction(caller) as session:
        page = await list_deletions(session, caller.org_id, cursor=cursor, limit=limit)
    return DeletionPage(items=[_out(d) for d in page.items], next_cursor=page.next_cursor)


@router.get("/{deletion_id}")
async def get_receipt(deletion_id: UUID, caller: Reader, resources: ResourcesDep) -> DeletionOut:
    async with resources.db.transaction(caller) as session:
        return _out(await get_deletion(session, caller.org_id, deletion_id))


def _out(deletion: Deletion) -> DeletionOut:
    return DeletionOut(
        id=deletion.id,
        document_id=deletion.document_id,
        reason=deletion.reason,
        status="pending" if deletion.completed_at is None else "completed",
        requested_at=deletion.requested_at,
        completed_at=deletion.completed_at,
        verified_at=deletion.verified_at,
        pages=deletion.page_count,
        chunks=deletion.chunk_count,
        embeddings=deletion.embedding_count,
        files=deletion.file_count,
        file_bytes=deletion.file_bytes,
        quotes=deletion.quote_count,
    )

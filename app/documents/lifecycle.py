"""What a user does to a document's ingestion: cancel it, start it again, set when it expires.

A worker learns of it by its lease: once the row has another token or status, it writes no more.
"""

from datetime import datetime
from uuid import UUID

from sqlalchemy import delete, func
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.errors import Conflict
from app.core.jobs import JobName, enqueue
from app.documents.intake import Intake
from app.documents.library import lock_document
from app.ingestion.outcomes import IngestErrorCode, remedy_of
from app.models.documents import DocumentStatus, OcrPage

_IN_PROGRESS = (DocumentStatus.QUEUED, DocumentStatus.PROCESSING)


async def cancel(session: AsyncSession, org_id: UUID, document_id: UUID) -> None:
    """Stop the ingestion at once; a second call changes nothing. What readers see stays.

    Chunks that are committed already wait for a retry. Raises NotFound, or Conflict when the
    document is not in progress.
    """
    document = await lock_document(session, org_id, document_id)
    if document.error_code == IngestErrorCode.CANCELLED:
        return
    if document.status not in _IN_PROGRESS:
        raise Conflict("This document is not being processed.", code="not_in_progress")
    document.status = DocumentStatus.FAILED
    document.error_code = IngestErrorCode.CANCELLED
    document.error_message = remedy_of(IngestErrorCode.CANCELLED)
    document.stage = document.lease_expires_at = document.sealed_password = None
    document.lease_token += 1
    document.updated_at = func.now()
    await session.execute(
        delete(OcrPage).where(OcrPage.org_id == org_id, OcrPage.document_id == document_id)
    )


async def retry(
    session: AsyncSession,
    org_id: UUID,
    document_id: UUID,
    *,
    intake: Intake,
    sealed_password: bytes | None,
) -> None:
    """Queue a failed document again, behind the others; one in progress stays as it is.

    It goes on from its checkpoint where that still fits. Raises NotFound, Conflict when the
    document is ready or is being read without the password that is given now, or RateLimited when
    too many of the organization's documents wait.
    """
    document = await lock_document(session, org_id, document_id)
    if document.status == DocumentStatus.PROCESSING and sealed_password is not None:
        raise Conflict("The document is being read: try again when it is done.", code="in_progress")
    if document.status in _IN_PROGRESS:
        document.sealed_password = sealed_password or document.sealed_password
        return
    if document.status != DocumentStatus.FAILED:
        raise Conflict("This document has not failed.", code="not_failed")
    await intake.check_queue(session, org_id)
    document.status = DocumentStatus.QUEUED
    document.error_code = document.error_message = None
    document.attempts = 0
    if not document.checkpoint_chunks:
        document.percent = document.pages_done = 0
        document.pages_total = None
    document.sealed_password = sealed_password or document.sealed_password
    document.queued_at = document.updated_at = func.now()
    enqueue(session, JobName.INGEST)


async def set_expiry(
    session: AsyncSession, org_id: UUID, document_id: UUID, expires_at: datetime | None
) -> None:
    """Have the document deleted at a time, or never. Raises NotFound."""
    document = await lock_document(session, org_id, document_id)
    document.expires_at = expires_at
    document.updated_at = func.now()

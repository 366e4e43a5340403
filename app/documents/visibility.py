"""Who sees a document: everybody in its organization, or who uploaded it alone."""

from uuid import UUID

from sqlalchemy import func, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts.principal import Principal
from app.core.errors import Conflict, PermissionDenied
from app.documents.deletion import redact_answers_of_others
from app.documents.intake import refuse_twin
from app.documents.library import lock_document
from app.models.documents import Document, Visibility

_COUNT_LEXEMES = text("SELECT count_lexemes_of(:org_id, :user_id, :id, :generation, :sign)")


async def set_visibility(
    session: AsyncSession, principal: Principal, document_id: UUID, visibility: Visibility
) -> None:
    """Share a document, or make it private: for others it is not there from the commit on.

    Raises NotFound, PermissionDenied for a shared document that somebody else uploaded, and
    Conflict (`duplicate_content`) where the same bytes are shared, or private, already.
    """
    document = await lock_document(session, principal.org_id, document_id)
    if document.visibility == visibility:
        return
    if document.uploaded_by != principal.user_id:
        raise PermissionDenied("Only who uploaded a document can make it private.")
    is_private = visibility == Visibility.PRIVATE
    private_to = principal.user_id if is_private else None
    await refuse_twin(session, document.org_id, document.sha256, private_to)
    document.private_to = private_to
    document.made_private_at = func.now() if is_private else None
    document.updated_at = func.now()
    try:
        await session.flush()
    except IntegrityError as error:
        raise Conflict(
            "These bytes have just become another document.", code="duplicate_content"
        ) from error
    await session.refresh(document)
    await _move_lexemes(session, document)
    if is_private:
        await redact_answers_of_others(session, document)


async def _move_lexemes(session: AsyncSession, document: Document) -> None:
    """Count the words that readers see among those of its owner now, or of everybody."""
    if not document.generation:
        return
    is_private = document.private_to is not None
    # In this order either way: else two documents could wait for each other.
    for user_id, is_counted in ((None, not is_private), (document.uploaded_by, is_private)):
        await session.execute(
            _COUNT_LEXEMES,
            {
                "org_id": document.org_id,
                "user_id": user_id,
                "id": document.id,
                "generation": document.generation,
                "sign": 1 if is_counted else -1,
            },
        )

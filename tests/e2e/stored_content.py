"""What a page shows, stored at once: documents, and conversations with cited answers."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text

from app.accounts.principal import Principal
from app.chat.events import Citation, Done, Failure, SourceInfo, Start, UnreadyDocument
from app.chat.recording import RunRecord, RunRequest, begin_run, end_run
from app.core.ids import new_id
from app.llm.base import Usage
from app.models.conversations import RunStatus
from app.resources import Resources
from tests.people import Person
from tests.stored import ChunkRow, PageRow, make_ready
from tests.stored_runs import principal_of

MODEL = "extractive/extractive"
_MARKER = re.compile(r"\[1\]")
_INSERT_DOCUMENT = text("""
    INSERT INTO documents (org_id, id, uploaded_by, filename, title, media_type, size_bytes, sha256,
        status, stage, percent, pages_done, pages_total, error_code, error_message, tags)
    VALUES (:org_id, :id, :user_id, :filename, :title, 'application/pdf', :size_bytes, :sha256,
        :status, :stage, :percent, :pages_done, :pages_total, :error_code, :error_message, :tags)
""")


@dataclass(frozen=True, slots=True)
class DocumentRow:
    """A document that is not ready."""

    filename: str
    title: str | None = None
    status: str = "failed"
    error_message: str | None = "This file is damaged. Save it again and upload it once more."
    tags: tuple[str, ...] = ()

    def values(self) -> dict[str, object]:
        is_failed, is_processing = self.status == "failed", self.status == "processing"
        return {
            "filename": self.filename,
            "title": self.title,
            "size_bytes": 48_200,
            "status": self.status,
            "stage": "embedding" if is_processing else None,
            "percent": 62 if is_processing else 0,
            "pages_done": 7 if is_processing else 0,
            "pages_total": 12,
            "error_code": "corrupt" if is_failed else None,
            "error_message": self.error_message if is_failed else None,
            "tags": list(self.tags),
        }


@dataclass(frozen=True, slots=True)
class StoredDocument:
    id: UUID
    filename: str
    pages: tuple[PageRow, ...]


@dataclass(frozen=True, slots=True)
class Exchange:
    """A question and its answer, each `[1]` of which cites all of a page, by its number."""

    question: str
    answer: str
    page: int
    is_verified: bool = True
    missing_numbers: tuple[str, ...] = ()
    unsupported: tuple[tuple[int, int], ...] = ()
    unready: tuple[UnreadyDocument, ...] = ()
    failure: Failure | None = None


async def store_documents(
    resources: Resources, person: Person, documents: Sequence[DocumentRow]
) -> list[UUID]:
    """Write rows as they are when ingestion has failed or not begun. Returns their ids."""
    ids = [new_id() for _ in documents]
    owner = {"org_id": person.org_id, "user_id": person.user_id}
    rows = [
        owner | document.values() | {"id": id_, "sha256": hashlib.sha256(id_.bytes).digest()}
        for id_, document in zip(ids, documents, strict=True)
    ]
    async with resources.db.system_transaction() as session:
        await session.execute(_INSERT_DOCUMENT, rows)
    return ids


async def store_ready_document(
    resources: Resources,
    person: Person,
    filename: str,
    pages: Sequence[PageRow],
    *,
    content: bytes | None = None,
) -> StoredDocument:
    """Upload a file (any text) and write its pages, each of which is a passage too."""
    response = await person.upload(filename, content or f"{new_id()}".encode())
    assert response.status_code == 202, response.text
    document_id = response.json()["document_id"]
    chunks = [ChunkRow(page.text, (page.number, 0, len(page.text))) for page in pages]
    await make_ready(resources, person.org_id, document_id, pages, chunks)
    return StoredDocument(UUID(document_id), filename, tuple(pages))


async def store_conversation(
    resources: Resources, person: Person, document: StoredDocument, exchanges: Sequence[Exchange]
) -> UUID:
    """Store one question after the other, answered by the document. Returns the conversation."""
    who = principal_of(person.org_id, person.user_id)
    conversation_id: UUID | None = None
    for exchange in exchanges:
        conversation_id = await _store(resources, who, document, exchange, conversation_id)
    assert conversation_id is not None
    return conversation_id


async def _store(
    resources: Resources,
    who: Principal,
    document: StoredDocument,
    exchange: Exchange,
    conversation_id: UUID | None,
) -> UUID:
    request = RunRequest(exchange.question, MODEL, conversation_id=conversation_id)
    async with resources.db.transaction(who) as session:
        begun = await begin_run(session, who, request)
    start = Start(
        run_id=begun.run_id,
        message_id=begun.message_id,
        conversation_id=begun.conversation_id,
        model=MODEL,
        sources=(
            SourceInfo(1, document.id, new_id(), document.filename, exchange.page, 1, 0.81),
            SourceInfo(2, document.id, new_id(), document.filename, 1, 1, 0.24),
        ),
        unready_documents=exchange.unready,
    )
    markers = _MARKER.finditer(exchange.answer)
    citations = [
        (2 + index, _cite(document, exchange, marker.start()))
        for index, marker in enumerate(markers)
    ]
    last = 2 + len(citations)
    record = RunRecord(
        start=start,
        text=exchange.answer,
        tokens=((last, 0),),
        citations=citations,
        failure=exchange.failure,
        done=_done(exchange),
        last_event_id=last + 1,
    )
    async with resources.db.transaction(who) as session:
        assert await end_run(session, who.org_id, begun.run_id, record)
    return begun.conversation_id


def _cite(document: StoredDocument, exchange: Exchange, answer_start: int) -> Citation:
    quote = document.pages[exchange.page - 1].text
    return Citation(
        n=1,
        document_id=document.id,
        filename=document.filename,
        chunk_id=new_id(),
        chunk_index=exchange.page - 1,
        text="",
        page_start=exchange.page,
        page_end=exchange.page,
        page_label=None,
        quote=quote,
        quote_start=0,
        quote_end=len(quote),
        chunk_start=0,
        chunk_end=len(quote),
        answer_start=answer_start,
        score=0.81,
        verified=exchange.is_verified,
        missing_numbers=exchange.missing_numbers,
    )


def _done(exchange: Exchange) -> Done:
    return Done(
        status=RunStatus.FAILED if exchange.failure else RunStatus.COMPLETED,
        finish_reason="error" if exchange.failure else "stop",
        usage=Usage(120, 12, is_estimated=True),
        model_version="extractive-1",
        cost_usd="0.000784",
        answer_sha256=hashlib.sha256(exchange.answer.encode()).hexdigest(),
        degraded=True,
        dropped_markers=0,
        unsupported=exchange.unsupported,
    )

"""recognize_next(): claim a range of pages without text -> picture -> text, page by page.

A document whose pages need it waits in the stage `ocr`, without a lease; when its last page is
read it goes back to the queue. Each page is committed by itself, so a killed worker costs one page.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.db import Database
from app.core.jobs import JobName, enqueue
from app.core.sealing import Sealer
from app.core.storage import BlobStore
from app.ingestion.base import OCR_FAILED, Heading, Page
from app.ingestion.lease import MAX_ATTEMPTS, Lease, hold
from app.ingestion.ocr import OcrEngine, OcrPage
from app.ingestion.sandbox import ParserLost

log = structlog.get_logger(__name__)

PAGES_PER_RANGE = 8
NO_OCR_WARNING = "The page is a picture, and text recognition is not installed or turned off."
# After a day without anybody who reads it, a page counts as unreadable.
_UNREAD_S = 86_400.0
# A page takes 20 s at most; each page that is read renews the lease on the rest of its range.
_LEASE_S = 40

_WAIT = text("""
    UPDATE documents SET stage = 'ocr', lease_expires_at = NULL, updated_at = now(),
        attempts = greatest(attempts - 1, 0)
    WHERE org_id = :org_id AND id = :id AND lease_token = :token
""")
_INSERT = text("""
    INSERT INTO ocr_pages (org_id, document_id, version, number)
    SELECT :org_id, :id, :version, unnest(CAST(:numbers AS integer[]))
    ON CONFLICT DO NOTHING
""")
_LOAD = text("""
    SELECT number, text, headings, warning FROM ocr_pages
    WHERE org_id = :org_id AND document_id = :id AND version = :version AND text IS NOT NULL
""")
# Fair between organizations, as with documents; then a document's pages in order. An attempt is
# counted for the page that is read next, not for those behind it. The pages' state is asked again
# with their locks: another worker may have claimed them since `free` was read.
_CLAIM = text(f"""
    WITH free AS (
        SELECT p.org_id, p.document_id, p.version, p.number, d.queued_at, o.recognized_at
        FROM ocr_pages p JOIN organizations o ON o.id = p.org_id
        JOIN documents d ON d.org_id = p.org_id AND d.id = p.document_id
            AND d.version = p.version AND d.status = 'processing'
        WHERE p.text IS NULL AND p.attempts < {MAX_ATTEMPTS}
          AND (p.lease_expires_at IS NULL OR p.lease_expires_at < now())),
    running AS (
        SELECT org_id, count(*) AS pages FROM ocr_pages
        WHERE text IS NULL AND lease_expires_at > now() GROUP BY org_id),
    chosen AS (
        SELECT free.org_id, free.document_id FROM free LEFT JOIN running USING (org_id)
        ORDER BY coalesce(running.pages, 0), free.recognized_at NULLS FIRST, free.queued_at,
            free.document_id LIMIT 1),
    range AS (
        SELECT p.org_id, p.document_id, p.version, p.number FROM ocr_pages p
        JOIN free USING (org_id, document_id, version, number)
        JOIN chosen USING (org_id, document_id)
        WHERE p.text IS NULL AND (p.lease_expires_at IS NULL OR p.lease_expires_at < now())
        ORDER BY p.number LIMIT {PAGES_PER_RANGE} FOR UPDATE OF p SKIP LOCKED)
    UPDATE ocr_pages p SET lease_token = p.lease_token + 1,
        attempts = p.attempts + (p.number = (SELECT min(number) FROM range))::int,
        lease_expires_at = now() + interval '{_LEASE_S} seconds'
    FROM range r JOIN documents d ON d.org_id = r.org_id AND d.id = r.document_id
    WHERE (p.org_id, p.document_id, p.version, p.number)
        = (r.org_id, r.document_id, r.version, r.number)
    RETURNING p.org_id, p.document_id, p.version, p.number, p.lease_token, d.media_type,
        d.sealed_password, d.uploaded_by
""")  # noqa: S608  # constants
_TAKE_TURN = text("UPDATE organizations SET recognized_at = clock_timestamp() WHERE id = :org_id")
_HOLD_DOCUMENT = text("""
    SELECT true FROM documents WHERE org_id = :org_id AND id = :document_id
        AND version = :version AND status = 'processing' FOR UPDATE
""")
_STORE = text("""
    UPDATE ocr_pages SET text = :text, headings = :headings, warning = :warning,
        lease_expires_at = NULL
    WHERE org_id = :org_id AND document_id = :document_id AND version = :version
      AND number = :number AND lease_token = :token AND text IS NULL
    RETURNING true
""")
_RENEW = text(f"""
    UPDATE ocr_pages SET lease_expires_at = now() + interval '{_LEASE_S} seconds',
        attempts = attempts + (number = :next)::int
    WHERE org_id = :org_id AND document_id = :document_id AND version = :version
      AND (number, lease_token) IN (SELECT * FROM unnest(
          CAST(:numbers AS integer[]), CAST(:tokens AS bigint[])))
      AND text IS NULL
""")  # noqa: S608  # a constant
# Up to 80 %: the rest is for making the pages searchable.
_PROGRESS = text("""
    UPDATE documents d SET pages_done = o.done, updated_at = now(),
        percent = greatest(percent, 80 * o.done / o.pages)
    FROM (SELECT count(*) AS pages, count(text) AS done FROM ocr_pages
          WHERE org_id = :org_id AND document_id = :document_id AND version = :version) o
    WHERE d.org_id = :org_id AND d.id = :document_id AND d.stage = 'ocr'
""")
_REQUEUE_COMPLETE = """
    UPDATE documents SET status = 'queued', stage = NULL, updated_at = now()
    WHERE (org_id, id) IN (
        SELECT d.org_id, d.id FROM documents d
        WHERE d.status = 'processing' AND d.stage = 'ocr' AND d.lease_expires_at IS NULL {which}
          AND NOT EXISTS (SELECT FROM ocr_pages p WHERE p.org_id = d.org_id
                          AND p.document_id = d.id AND p.version = d.version AND p.text IS NULL)
        FOR UPDATE SKIP LOCKED)
    RETURNING id
"""
_REQUEUE_ONE = text(
    _REQUEUE_COMPLETE.format(which="AND d.org_id = :org_id AND d.id = :document_id")
)
_REQUEUE_ANY = text(_REQUEUE_COMPLETE.format(which=""))
_GIVE_UP = """
    UPDATE ocr_pages SET text = '', warning = :warning, lease_expires_at = NULL
    WHERE (org_id, document_id, version, number) IN (
        SELECT org_id, document_id, version, number FROM ocr_pages
        WHERE text IS NULL AND (lease_expires_at IS NULL OR lease_expires_at < now()) AND {which}
        FOR UPDATE SKIP LOCKED)
"""
_GIVE_UP_DEADLY = text(_GIVE_UP.format(which="attempts >= :max_attempts"))
_GIVE_UP_OLD = text(_GIVE_UP.format(which="created_at <= now() - make_interval(secs => :age_s)"))
_PAGES_WAIT = text("""
    SELECT EXISTS (
        SELECT FROM ocr_pages p JOIN documents d ON d.org_id = p.org_id AND d.id = p.document_id
            AND d.version = p.version AND d.status = 'processing'
        WHERE p.text IS NULL AND (p.lease_expires_at IS NULL OR p.lease_expires_at < now()))
""")


@dataclass(frozen=True, slots=True)
class Recognizer:
    """What text recognition stands on."""

    db: Database
    storage: BlobStore
    sealer: Sealer
    engine: OcrEngine


@dataclass(frozen=True, slots=True)
class _Range:
    """Claimed pages of one document: number -> lease token, in order. Scopes a transaction.

    `user_id` is who uploaded it, as in a `Lease`.
    """

    org_id: UUID
    user_id: UUID
    document_id: UUID
    version: int
    media_type: str
    sealed_password: bytes | None
    tokens: dict[int, int]

    @property
    def key(self) -> dict[str, object]:
        return {"org_id": self.org_id, "document_id": self.document_id, "version": self.version}


async def wait_for_pages(session: AsyncSession, lease: Lease, numbers: Sequence[int]) -> None:
    """Let the document wait, without a lease, until its pages are read. Raises LeaseLost."""
    await hold(session, lease)
    await session.execute(_WAIT, lease.key)
    await session.execute(
        _INSERT, {**lease.key, "version": lease.version, "numbers": list(numbers)}
    )
    enqueue(session, JobName.OCR)


async def load_pages(session: AsyncSession, lease: Lease) -> dict[int, Page]:
    """Return the pages of the document that have been read, by number."""
    rows = await session.execute(_LOAD, {**lease.key, "version": lease.version})
    return {
        row.number: Page(
            row.number,
            row.text,
            headings=_unflatten(row.headings, row.text),
            warnings=(row.warning,) if row.warning else (),
        )
        for row in rows
    }


async def recognize_next(recognizer: Recognizer) -> bool:
    """Read one range of pages. False when none waits.

    Killed at any point it leaves pages that another worker reads, at most three times each.
    """
    async with recognizer.db.system_transaction() as session:
        claimed = _to_range((await session.execute(_CLAIM)).all())
        if claimed is None:
            return False
        await session.execute(_TAKE_TURN, {"org_id": claimed.org_id})
    structlog.contextvars.bind_contextvars(document_id=str(claimed.document_id))
    try:
        for number in list(claimed.tokens):
            try:
                page = await _read(recognizer, claimed, number)
            except ParserLost:
                break  # killed from outside: the page's lease runs out, and it is tried again
            if not await _store(recognizer.db, claimed, number, page):
                break  # cancelled, deleted or replaced meanwhile
            del claimed.tokens[number]
    finally:
        structlog.contextvars.unbind_contextvars("document_id")
    return True


async def do_without(db: Database) -> None:
    """Let the documents that wait go on without text recognition, which there is not any more."""
    async with db.system_transaction() as session:
        await session.execute(_GIVE_UP_OLD, {"age_s": 0, "warning": NO_OCR_WARNING})
        if (await session.execute(_REQUEUE_ANY)).all():
            enqueue(session, JobName.INGEST)


async def keep_going(session: AsyncSession) -> None:
    """Give up on pages that kill their workers or that nobody reads, and wake who is needed.

    Needs a system transaction.
    """
    deadly = {"max_attempts": MAX_ATTEMPTS, "warning": OCR_FAILED}
    await session.execute(_GIVE_UP_DEADLY, deadly)
    await session.execute(_GIVE_UP_OLD, {"age_s": _UNREAD_S, "warning": OCR_FAILED})
    if (await session.execute(_REQUEUE_ANY)).all():
        enqueue(session, JobName.INGEST)
    if await session.scalar(_PAGES_WAIT):
        enqueue(session, JobName.OCR)


async def _read(recognizer: Recognizer, claimed: _Range, number: int) -> OcrPage:
    path = recognizer.storage.path(claimed.org_id, claimed.document_id, claimed.version)
    sealed = claimed.sealed_password
    password = recognizer.sealer.unseal(sealed) if sealed else None
    return await asyncio.to_thread(
        recognizer.engine.read_page, path, claimed.media_type, number, password=password
    )


async def _store(db: Database, claimed: _Range, number: int, page: OcrPage) -> bool:
    """Commit one page and renew the rest. False when they are not this worker's any more."""
    async with db.transaction(claimed) as session:
        # The last two pages may be read at once: one after the other, so that one sees it is last.
        if await session.scalar(_HOLD_DOCUMENT, claimed.key) is None:
            return False
        result = {"text": page.text, "headings": _flatten(page.headings), "warning": page.warning}
        lease = {"number": number, "token": claimed.tokens[number]}
        if await session.scalar(_STORE, {**claimed.key, **result, **lease}) is None:
            return False
        rest = {other: token for other, token in claimed.tokens.items() if other != number}
        if rest:
            leases = {"numbers": list(rest), "tokens": list(rest.values()), "next": min(rest)}
            await session.execute(_RENEW, {**claimed.key, **leases})
        await session.execute(_PROGRESS, claimed.key)
        if (await session.execute(_REQUEUE_ONE, claimed.key)).all():
            enqueue(session, JobName.INGEST)
    return True


def _to_range(rows: Sequence[Row[Any]]) -> _Range | None:
    if not rows:
        return None
    first = rows[0]
    return _Range(
        first.org_id,
        first.uploaded_by,
        first.document_id,
        first.version,
        first.media_type,
        first.sealed_password,
        {row.number: row.lease_token for row in sorted(rows, key=lambda row: row.number)},
    )


def _flatten(headings: Sequence[Heading]) -> list[int]:
    return [number for h in headings for number in (h.start, h.end, h.level)]


def _unflatten(flat: Sequence[int], page_text: str) -> tuple[Heading, ...]:
    triples = (flat[i : i + 3] for i in range(0, len(flat), 3))
    return tuple(
        Heading(start, end, level, " ".join(page_text[start:end].split()))
        for start, end, level in triples
    )

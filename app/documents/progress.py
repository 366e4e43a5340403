"""How far the documents of some organizations are: one look at the database for all watchers."""

from collections import defaultdict
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Self
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.sse import Frame
from app.ingestion.outcomes import OUTCOMES
from app.models.documents import DocumentStatus

# So many documents of an organization are followed while they wait, and as many in work.
MAX_FOLLOWED = 200
# Each document that leaves the queue moves all others up: beyond this nobody is told.
MAX_TOLD_POSITION = 50

_RETRYABLE = {str(code): outcome.is_retryable for code, outcome in OUTCOMES.items()}
_COLUMNS = (
    "org_id, id, private_to, filename, status, stage, percent, pages_done, pages_total, version,"
    " ready_version, chunk_count, warning_count, error_code, error_message, updated_at"
)
_IS_HIDDEN = "coalesce(made_private_at > now() - make_interval(secs => :back_s), false)"
# Shared documents have their places among each other, whatever else waits; private ones among those
# that their user sees. Nobody's private documents count for others.
_ACTIVE = text(f"""
    SELECT *, CASE WHEN private_to IS NULL THEN shared ELSE shared + own END AS place FROM (
        SELECT {_COLUMNS}, {_IS_HIDDEN} AS is_hidden,
            count(*) FILTER (WHERE private_to IS NULL)
                OVER (PARTITION BY org_id, status ORDER BY queued_at, id) AS shared,
            row_number()
                OVER (PARTITION BY org_id, status, private_to ORDER BY queued_at, id) AS own,
            count(*) OVER (PARTITION BY org_id, status, private_to) AS total
        FROM documents
        WHERE status IN ('queued', 'processing') AND org_id = ANY(CAST(:orgs AS uuid[]))
          AND (private_to IS NULL OR private_to = ANY(CAST(:users AS uuid[])))) active
    WHERE (own <= {MAX_FOLLOWED} AND org_id = ANY(CAST(:whole_orgs AS uuid[])))
       OR id = ANY(CAST(:followed AS uuid[]))
    ORDER BY status, place
""")  # noqa: S608  # constants
_CHANGED = text(f"""
    SELECT d.* FROM unnest(CAST(:orgs AS uuid[])) AS o(org_id)
    CROSS JOIN LATERAL (
        SELECT {_COLUMNS}, {_IS_HIDDEN} AS is_hidden FROM documents c
        WHERE c.org_id = o.org_id AND c.updated_at > now() - make_interval(secs => :back_s)
          AND (private_to IS NULL OR private_to = ANY(CAST(:users AS uuid[])) OR {_IS_HIDDEN})
        ORDER BY c.updated_at DESC LIMIT :limit) d
""")  # noqa: S608  # constants
_NAMED = text(f"""
    SELECT {_COLUMNS}, false AS is_hidden FROM documents
    JOIN unnest(CAST(:orgs AS uuid[]), CAST(:ids AS uuid[])) AS n(org_id, id) USING (org_id, id)
""")  # noqa: S608  # constants
# A small document is gone a moment after its tombstone: what tells of it then is the receipt.
_DELETED = text("""
    SELECT d.* FROM unnest(CAST(:orgs AS uuid[])) AS o(org_id)
    CROSS JOIN LATERAL (
        SELECT org_id, document_id, private_to FROM deletions r
        WHERE r.org_id = o.org_id AND r.requested_at > now() - make_interval(secs => :back_s)
        ORDER BY r.requested_at DESC LIMIT :limit) d
""")


@dataclass(frozen=True, slots=True)
class Progress:
    """All that a watcher is told of one document. `queue_position` counts from 1.

    By `updated_at` it is news that a document has failed once more, between two looks. Where
    `is_hidden`, others than `private_to` saw it a short while ago.
    """

    org_id: UUID
    document_id: UUID
    private_to: UUID | None
    filename: str
    status: DocumentStatus
    stage: str | None
    percent: int
    pages_done: int
    pages_total: int | None
    queue_position: int | None
    version: int
    ready_version: int
    chunk_count: int
    warning_count: int
    error_code: str | None
    error_message: str | None
    updated_at: datetime
    is_hidden: bool = field(compare=False)

    @classmethod
    def of_row(cls, row: Row[Any], *, place: int | None = None) -> Self:
        return cls(
            org_id=row.org_id,
            document_id=row.id,
            private_to=row.private_to,
            filename=row.filename,
            status=DocumentStatus(row.status),
            stage=row.stage,
            percent=row.percent,
            pages_done=row.pages_done,
            pages_total=row.pages_total,
            queue_position=place if row.status == DocumentStatus.QUEUED else None,
            version=row.version,
            ready_version=row.ready_version,
            chunk_count=row.chunk_count,
            warning_count=row.warning_count,
            error_code=row.error_code,
            error_message=row.error_message,
            updated_at=row.updated_at,
            is_hidden=row.is_hidden,
        )

    @property
    def is_active(self) -> bool:
        return self.status in (DocumentStatus.QUEUED, DocumentStatus.PROCESSING)

    def among_many(self) -> Self:
        """As it is told to who watches all documents: without a position far back."""
        if self.queue_position is None or self.queue_position <= MAX_TOLD_POSITION:
            return self
        return replace(self, queue_position=None)

    def to_frame(self) -> Frame:
        return {
            "type": "document",
            "document_id": str(self.document_id),
            "filename": self.filename,
            "status": str(self.status),
            "stage": self.stage,
            "percent": self.percent,
            "pages_done": self.pages_done,
            "pages_total": self.pages_total,
            "queue_position": self.queue_position,
            "version": self.version,
            "ready_version": self.ready_version,
            "chunk_count": self.chunk_count,
            "warning_count": self.warning_count,
            "error_code": self.error_code,
            "error_message": self.error_message,
            "retryable": _RETRYABLE.get(self.error_code or ""),
        }


@dataclass(frozen=True, slots=True)
class Counts:
    """How many documents are active."""

    queued: int = 0
    processing: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(self.queued + other.queued, self.processing + other.processing)

    def to_frame(self) -> Frame:
        return {"type": "progress", "queued": self.queued, "processing": self.processing}


@dataclass(frozen=True, slots=True)
class Deleted:
    """A document that is deleted. Of one that was private nobody else is told that either."""

    private_to: UUID | None


# Private to nobody: what is told to those alone who follow that very document.
_UNKNOWN = Deleted(UUID(int=0))

# By organization and id.
Key = tuple[UUID, UUID]
State = Progress | Deleted
States = dict[Key, State]
# Who is told: an organization, and in it a user or, for None, everybody.
Audience = tuple[UUID, UUID | None]


@dataclass(frozen=True, slots=True)
class Reading:
    """What one look has found. All of it is of one moment. Counts are of what is private to a user,
    or shared."""

    states: States
    counts: dict[Audience, Counts]


async def read(
    session: AsyncSession,
    *,
    whole_orgs: Sequence[UUID],
    users: Sequence[UUID],
    followed: Set[Key],
    known: States,
    back_s: float,
) -> Reading:
    """Read what is active or has changed in the last `back_s` seconds in `whole_orgs`.

    Of these also what is `known` to have been active, and of all organizations what is `followed`.
    Of what is private, that of `users`, and what was just made so. Needs a system transaction that
    has not begun to read.
    """
    await session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
    reading = await _read_active(session, whole_orgs, users, followed, back_s=back_s)
    recent = await read_recent(session, whole_orgs, users, back_s=back_s, limit=None)
    for key, state in recent.items():
        # What was found among the active ones has its position too.
        reading.states.setdefault(key, state)
    known_active = {key for key, state in known.items() if is_active(state)}
    absent = {*followed, *known_active} - reading.states.keys()
    named = await _read_named(session, list(absent))
    for key in absent:
        state = named.get(key) or Deleted(known.get(key, _UNKNOWN).private_to)
        # One that waits too far back to be followed is told of again when it has moved up.
        if key in followed or not is_active(state):
            reading.states[key] = state
    return reading


async def _read_active(
    session: AsyncSession,
    whole_orgs: Sequence[UUID],
    users: Sequence[UUID],
    followed: Set[Key],
    *,
    back_s: float,
) -> Reading:
    rows = await session.execute(
        _ACTIVE,
        {
            "orgs": list({*whole_orgs, *(org_id for org_id, _ in followed)}),
            "whole_orgs": list(whole_orgs),
            "users": list(users),
            "followed": [document_id for _, document_id in followed],
            "back_s": back_s,
        },
    )
    states: States = {}
    totals: dict[Audience, dict[str, int]] = defaultdict(dict)
    for row in rows:
        states[row.org_id, row.id] = Progress.of_row(row, place=row.place)
        totals[row.org_id, row.private_to][row.status] = row.total
    return Reading(states, {audience: Counts(**total) for audience, total in totals.items()})


async def read_recent(
    session: AsyncSession,
    orgs: Sequence[UUID],
    users: Sequence[UUID],
    *,
    back_s: float,
    limit: int | None,
) -> States:
    """Return what has changed in the last `back_s` seconds, at most `limit` per organization.

    Of what is private, that of `users`, and what was made so in that time.
    """
    if not orgs:
        return {}
    since = {"orgs": list(orgs), "back_s": back_s, "limit": limit}
    deleted = await session.execute(_DELETED, since)
    gone: States = {(row.org_id, row.document_id): Deleted(row.private_to) for row in deleted}
    changed = await session.execute(_CHANGED, {**since, "users": list(users)})
    return _states_of(changed) | gone


async def _read_named(session: AsyncSession, keys: Sequence[Key]) -> States:
    if not keys:
        return {}
    named = {"orgs": [org_id for org_id, _ in keys], "ids": [id_ for _, id_ in keys]}
    return _states_of(await session.execute(_NAMED, named))


def is_active(state: State | None) -> bool:
    return isinstance(state, Progress) and state.is_active


def _states_of(rows: Iterable[Row[Any]]) -> States:
    return {
        (row.org_id, row.id): Deleted(row.private_to)
        if row.status == DocumentStatus.DELETING
        else Progress.of_row(row)
        for row in rows
    }

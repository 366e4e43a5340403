"""Before a question is taken: everything about it that can be refused, while nothing has begun."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from uuid import UUID

import asyncpg

from app.chat.events import UnreadyDocument
from app.chat.injection import find_injections
from app.core.db import Database, TenantScope
from app.core.errors import Conflict, InvalidRequest, NotFound
from app.core.timed_cache import TimedCache
from app.llm.base import Message
from app.models.documents import DocumentStatus
from app.retrieval.filters import Filter, compile_documents

MAX_WAIT_S = 30.0
_POLL_S = 0.5
# More would be no list to read.
_MAX_LISTED = 50
# How long a change may go unnoticed by other processes.
_POLICY_TTL_S = 3.0
_MAX_KNOWN = 10_000

_POLICY = "SELECT system_prompt, rejects_injections FROM organizations WHERE id = $1"
_NAMED = """
    SELECT id AS document_id, filename, status, generation > 0 AS is_ready
    FROM documents
    WHERE org_id = $1 AND id = ANY ($2) AND deleted_at IS NULL
      AND (expires_at IS NULL OR expires_at > now())
"""
_COMING = """
    SELECT d.id AS document_id, d.filename, d.status
    FROM documents d
    WHERE d.org_id = $1 AND d.status IN ('queued', 'processing') AND d.generation = 0
      AND d.deleted_at IS NULL AND (d.expires_at IS NULL OR d.expires_at > now()) {condition}
    ORDER BY d.id LIMIT {limit}
"""
_MAY_GET_READY = frozenset({DocumentStatus.QUEUED, DocumentStatus.PROCESSING})


@dataclass(frozen=True, slots=True)
class Policy:
    """What an organization wants of its answers."""

    system_prompt: str = ""
    rejects_injections: bool = False


class Policies:
    """Asks the database at most every 3 s for each organization's policy."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._known = TimedCache[UUID, Policy](_POLICY_TTL_S, max_entries=_MAX_KNOWN)

    async def get(self, scope: TenantScope) -> Policy:
        """Raises what the database raises."""
        return await self._known.get(scope.org_id, partial(self._load, scope))

    def forget(self, org_id: UUID) -> None:
        """Ask anew: it was changed in this process. Call it after the change is committed."""
        self._known.forget(org_id)

    async def _load(self, scope: TenantScope) -> Policy:
        async with self._db.reading(scope) as driver:
            row = await driver.fetchrow(_POLICY, scope.org_id)
        return Policy(row["system_prompt"], row["rejects_injections"]) if row else Policy()


def check_messages(policy: Policy, messages: Sequence[Message]) -> None:
    """Raises InvalidRequest (`prompt_injection_detected`) where the organization wants that.

    Looks at all that the client sent: a history can be made up.
    """
    if not policy.rejects_injections:
        return
    for message in messages:
        if found := find_injections(message.content):
            raise InvalidRequest(
                "A message looks like an attempt to give the model other instructions "
                f"({', '.join(found)}). Ask about the documents in plain words.",
                code="prompt_injection_detected",
                param="messages",
            )


async def find_unready(
    driver: asyncpg.Connection, scope: TenantScope, wanted: Filter
) -> tuple[UnreadyDocument, ...]:
    """Return what can't be searched of the documents that are named; else what is still to come.

    Raises NotFound for a named one that is not there.
    """
    if wanted.document_ids:
        rows = await driver.fetch(_NAMED, scope.org_id, list(wanted.document_ids))
        if len(rows) < len(set(wanted.document_ids)):
            raise NotFound("There is no such document.", param="document_ids")
        return tuple(_to_unready(row) for row in rows if not row["is_ready"])
    condition = compile_documents(wanted, first_parameter=2)
    sql = _COMING.format(condition=f"AND {condition.sql}" if condition else "", limit=_MAX_LISTED)
    rows = await driver.fetch(sql, scope.org_id, *(condition.values if condition else ()))
    return tuple(map(_to_unready, rows))


async def wait_until_ready(
    db: Database,
    scope: TenantScope,
    wanted: Filter,
    unready: Sequence[UnreadyDocument],
    *,
    wait_s: float,
) -> None:
    """Wait for named documents, `wait_s` at most, without a connection.

    Raises Conflict (`documents_not_ready`) with the states of those that are not there by then, and
    at once where one has failed.
    """
    deadline = time.monotonic() + wait_s
    while unready:
        can_wait = all(each.status in _MAY_GET_READY for each in unready)
        if not can_wait or time.monotonic() >= deadline:
            raise _not_ready(unready)
        await asyncio.sleep(_POLL_S)
        async with db.reading(scope) as driver:
            unready = await find_unready(driver, scope, wanted)


def _to_unready(row: asyncpg.Record) -> UnreadyDocument:
    return UnreadyDocument(row["document_id"], row["filename"], row["status"])


def _not_ready(unready: Sequence[UnreadyDocument]) -> Conflict:
    return Conflict(
        "Some of these documents can't be searched: wait until they are ready "
        "(`wait_s` does that), or leave them out.",
        code="documents_not_ready",
        param="document_ids",
        retry_after_s=2 if all(each.status in _MAY_GET_READY for each in unready) else None,
        details={
            "documents": [
                {
                    "document_id": str(each.document_id),
                    "filename": each.filename,
                    "status": each.status,
                }
                for each in unready[:_MAX_LISTED]
            ]
        },
    )

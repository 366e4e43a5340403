"""What processes ask of and tell the rows of runs, in few statements however many runs there are.

Across organizations: each process supervises the runs that it makes and those that it reads.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import BindParameter, TextClause, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import Boolean, Text, TypeEngine, Uuid

from app.accounts.principal import Principal
from app.chat.recording import LEASE_S
from app.core.db import Database
from app.models.conversations import RunStatus

# An organization and a run.
RunKey = tuple[UUID, UUID]

_MAX_TEXTS = 200
_GOING_ON = "status IN ('queued', 'running')"


def _with_arrays(statement: str, **types: type[TypeEngine[Any]]) -> TextClause:
    binds: list[BindParameter[Any]] = [
        bindparam(name, type_=ARRAY(type_)) for name, type_ in types.items()
    ]
    return text(statement).bindparams(*binds)


_LOOK = _with_arrays(
    """
    SELECT r.id, r.status, r.cancel_requested_at IS NOT NULL AS is_unwanted
    FROM unnest(:org_ids, :run_ids) AS k (org_id, id) JOIN runs r USING (org_id, id)
    """,
    org_ids=Uuid,
    run_ids=Uuid,
)
_BEGIN = _with_arrays(
    """
    UPDATE runs r SET status = 'running', started_at = now()
    FROM unnest(:org_ids, :run_ids) AS k (org_id, id)
    WHERE r.org_id = k.org_id AND r.id = k.id AND r.status = 'queued'
    """,
    org_ids=Uuid,
    run_ids=Uuid,
)
# In one order everywhere: the process that makes a run and those that read it meet here.
_TOUCH = _with_arrays(
    f"""
    WITH known AS (
        SELECT r.org_id, r.id, k.is_ours, k.is_read
        FROM unnest(:org_ids, :run_ids, :are_ours, :are_read) AS k (org_id, id, is_ours, is_read)
            JOIN runs r USING (org_id, id)
        WHERE r.{_GOING_ON} ORDER BY r.org_id, r.id FOR NO KEY UPDATE OF r)
    UPDATE runs r SET
        seen_at = CASE WHEN known.is_read THEN now() ELSE r.seen_at END,
        lease_expires_at = CASE WHEN known.is_ours THEN now() + make_interval(secs => :lease_s)
                           ELSE r.lease_expires_at END
    FROM known WHERE r.org_id = known.org_id AND r.id = known.id
    RETURNING r.id, extract(epoch FROM now() - r.seen_at) AS unseen_s
    """,  # noqa: S608  # the constant above
    org_ids=Uuid,
    run_ids=Uuid,
    are_ours=Boolean,
    are_read=Boolean,
)
# An answer with a finish reason has ended: what is stored of it is more than what is told here.
_KEEP_TEXT = _with_arrays(
    """
    UPDATE messages m SET content = k.content,
        trace = coalesce(CAST(nullif(k.trace, '') AS jsonb), m.trace)
    FROM unnest(:org_ids, :message_ids, :texts, :traces) AS k (org_id, id, content, trace)
    WHERE m.org_id = k.org_id AND m.id = k.id AND m.finish_reason IS NULL
    """,
    org_ids=Uuid,
    message_ids=Uuid,
    texts=Text,
    traces=Text,
)
# The lease passes to who closes it: another one need not look at it meanwhile.
_TAKE_LOST = text(f"""
    UPDATE runs r SET lease_expires_at = now() + make_interval(secs => :lease_s)
    FROM (SELECT org_id, id FROM runs WHERE {_GOING_ON} AND lease_expires_at < now()
          ORDER BY lease_expires_at LIMIT :limit FOR UPDATE SKIP LOCKED) lost
    WHERE r.org_id = lost.org_id AND r.id = lost.id
    RETURNING r.org_id, r.id, r.user_id
""")  # noqa: S608  # the constant above
_REQUEST_CANCEL = text(f"""
    UPDATE runs SET cancel_requested_at = coalesce(cancel_requested_at, now()), seen_at = now()
    WHERE org_id = :org_id AND id = :run_id AND user_id = :user_id AND {_GOING_ON}
""")  # noqa: S608  # the constant above
_SEE = text(f"""
    UPDATE runs SET seen_at = now()
    WHERE org_id = :org_id AND id = :run_id AND user_id = :user_id AND {_GOING_ON}
        AND seen_at < now() - interval '0.5 seconds'
""")  # noqa: S608  # the constant above


@dataclass(frozen=True, slots=True)
class RunNews:
    """What others did to a run. One that was deleted, with its conversation, has ended."""

    has_ended: bool
    is_unwanted: bool = False
    is_deleted: bool = False


@dataclass(frozen=True, slots=True)
class Touch:
    """A run to be kept alive: because this process makes it, because somebody reads it here."""

    key: RunKey
    is_ours: bool
    is_read: bool


@dataclass(frozen=True, slots=True)
class LostRun:
    """A run whose process died."""

    org_id: UUID
    run_id: UUID
    user_id: UUID


class RunRows:
    """Raises DATABASE_ERRORS. Holds one connection of the system's pool for a statement or two."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def look(self, keys: Sequence[RunKey], *, begun: Sequence[RunKey]) -> dict[UUID, RunNews]:
        """Return what there is to know of runs; mark those as running that have begun."""
        async with self._db.system_transaction() as session:
            if begun:
                await session.execute(_BEGIN, _keys(sorted(begun)))
            rows = (await session.execute(_LOOK, _keys(keys))).all()
        found = {row.id: RunNews(RunStatus(row.status).has_ended, row.is_unwanted) for row in rows}
        deleted = RunNews(has_ended=True, is_deleted=True)
        return {run_id: found.get(run_id, deleted) for _, run_id in keys}

    async def touch(self, touches: Iterable[Touch]) -> dict[UUID, float]:
        """Renew leases and notes of readers. Returns for how many seconds nobody has read."""
        known = list(touches)
        async with self._db.system_transaction() as session:
            rows = await session.execute(
                _TOUCH,
                {
                    **_keys([each.key for each in known]),
                    "are_ours": [each.is_ours for each in known],
                    "are_read": [each.is_read for each in known],
                    "lease_s": LEASE_S,
                },
            )
            return {row.id: float(row.unseen_s) for row in rows}

    async def keep_texts(self, texts: Mapping[RunKey, tuple[str, str]]) -> None:
        """Store how far answers are, and their traces as JSON unless these are "".

        The keys name their messages.
        """
        keys = sorted(texts)
        for first in range(0, len(keys), _MAX_TEXTS):
            some = keys[first : first + _MAX_TEXTS]
            async with self._db.system_transaction() as session:
                await session.execute(
                    _KEEP_TEXT,
                    {
                        "org_ids": [org_id for org_id, _ in some],
                        "message_ids": [message_id for _, message_id in some],
                        "texts": [texts[key][0] for key in some],
                        "traces": [texts[key][1] for key in some],
                    },
                )

    async def take_lost(self, *, limit: int) -> list[LostRun]:
        """Return runs whose process was silent for too long: they are the caller's to close."""
        async with self._db.system_transaction() as session:
            rows = await session.execute(_TAKE_LOST, {"lease_s": LEASE_S, "limit": limit})
            return [LostRun(row.org_id, row.id, row.user_id) for row in rows]

    async def request_cancel(self, principal: Principal, run_id: UUID) -> None:
        await self._update(principal, run_id, _REQUEST_CANCEL)

    async def see(self, principal: Principal, run_id: UUID) -> None:
        """Note that somebody asks for the run."""
        await self._update(principal, run_id, _SEE)

    async def _update(self, principal: Principal, run_id: UUID, statement: TextClause) -> None:
        async with self._db.transaction(principal) as session:
            await session.execute(
                statement,
                {"org_id": principal.org_id, "run_id": run_id, "user_id": principal.user_id},
            )


def _keys(keys: Sequence[RunKey]) -> dict[str, list[UUID]]:
    return {
        "org_ids": [org_id for org_id, _ in keys],
        "run_ids": [run_id for _, run_id in keys],
    }

"""Changing the embedding model: which space is live, which one stands beside it, and the switch.

start -> filling (pause, resume, cancel) -> switch -> switched (rollback) -> finish. The functions
need a system transaction. A step that does not fit the state raises Conflict and changes nothing.
"""

from dataclasses import dataclass
from datetime import datetime

import structlog
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.db import sqlstate_of
from app.core.errors import Conflict
from app.core.jobs import JobName, enqueue
from app.ingestion.indexing import ensure_space
from app.ingestion.vectors import KeptSpace, count_missing
from app.models.documents import EXACT_SCAN_MAX_CHUNKS
from app.models.embeddings import HAS_HNSW, RolloutState

log = structlog.get_logger(__name__)

# Processes go on asking the space that was live for a few seconds, 20 without a database, and a
# question's embedding may take 30 more before its space is searched.
SETTLE_S = 60
# SQLSTATE lock_not_available, deadlock_detected.
_BUSY = frozenset({"55P03", "40P01"})
_OBJECT_IN_USE = "55006"

_READ = text("""
    SELECT r.state, r.is_held, r.switched_at, l.id, l.provider, l.model, l.dimensions,
        b.id AS beside_id, b.provider AS beside_provider, b.model AS beside_model,
        b.dimensions AS beside_dimensions,
        coalesce(r.switched_at > now() - make_interval(secs => :settle_s), false) AS is_fresh
    FROM embedding_rollout r
    JOIN embedding_spaces l ON l.id = r.live_id
    LEFT JOIN embedding_spaces b ON b.id = r.beside_id
""")
_LOCK = text("SELECT FROM embedding_rollout FOR UPDATE")
# Readers queue behind who waits for the table. It is also shorter than deadlock_timeout: whoever
# publishes holds the table and waits for the row that is locked here.
_WAIT_LITTLE = text("SET LOCAL lock_timeout = '500ms'")
_ADOPT = text("INSERT INTO embedding_rollout (live_id) VALUES (:id) ON CONFLICT DO NOTHING")
_START = text("""
    UPDATE embedding_rollout SET beside_id = :id, state = 'filling', is_held = :is_held
""")
_SET_STATE = text("UPDATE embedding_rollout SET state = :state")
_PAUSE_IF_FILLING = text("""
    UPDATE embedding_rollout SET state = 'paused' WHERE beside_id = :id AND state = 'filling'
""")
_SWAP = text("""
    UPDATE embedding_rollout SET live_id = beside_id, beside_id = live_id, state = :state,
        is_held = :is_held, switched_at = now()
""")
_END = text("""
    UPDATE embedding_rollout SET beside_id = NULL, state = 'idle', is_held = false
""")
_FILL = text("""
    INSERT INTO embedding_fills (space_id) VALUES (:id)
    ON CONFLICT (space_id) DO UPDATE SET is_behind = true, failures = 0, retry_at = NULL,
        error_code = NULL
""")
# The index builder works by the same rule.
_WANTS_INDEX = text(f"""
    SELECT EXISTS (
        SELECT FROM documents WHERE generation > 0 AND deleted_at IS NULL
        GROUP BY org_id HAVING sum(chunk_count) > :threshold)
    AND NOT (SELECT {HAS_HNSW} FROM embedding_spaces s WHERE s.id = :id)
    AND :dimensions <= 4000
""")  # noqa: S608  # constants
# It is complete, or it would not go live.
_END_FILL = text("""
    UPDATE embedding_fills SET is_behind = false, failures = 0, retry_at = NULL, error_code = NULL
    WHERE space_id = :id
""")
_HOLD_KEPT = text("SELECT hold_kept_space(:id)")


@dataclass(frozen=True, slots=True)
class Rollout:
    """The live space and the one beside it. `is_fresh`: the last switch was seconds ago."""

    live: KeptSpace
    beside: KeptSpace | None
    state: RolloutState
    is_held: bool
    switched_at: datetime | None
    is_fresh: bool

    @property
    def goes_live_by_itself(self) -> bool:
        return self.state is RolloutState.FILLING and not self.is_held

    @property
    def is_beside_filled(self) -> bool:
        """Whether the space beside the live one gets the vectors of new documents."""
        return self.state in (RolloutState.FILLING, RolloutState.SWITCHED)


async def find_rollout(session: AsyncSession) -> Rollout | None:
    """Return which spaces are kept; None before the first document."""
    row = (await session.execute(_READ, {"settle_s": SETTLE_S})).one_or_none()
    if row is None:
        return None
    beside = None
    if row.beside_id is not None:
        beside = KeptSpace(
            row.beside_id, row.beside_provider, row.beside_model, row.beside_dimensions
        )
    return Rollout(
        KeptSpace(row.id, row.provider, row.model, row.dimensions),
        beside,
        RolloutState(row.state),
        row.is_held,
        row.switched_at,
        row.is_fresh,
    )


async def adopt_space(
    session: AsyncSession, *, provider: str, model: str, dimensions: int
) -> Rollout:
    """Make a space the live one, unless there is one already. Returns what is live then."""
    space_id = await ensure_space(session, provider=provider, model=model, dimensions=dimensions)
    await session.execute(_ADOPT, {"id": space_id})
    return await _get(session)


async def hold_space(session: AsyncSession, space_id: int) -> bool:
    """Keep a space from being dropped, and any switch from happening, to the transaction's end.

    False if it is neither live nor beside the live one. For either role.
    """
    return bool(await session.scalar(_HOLD_KEPT, {"id": space_id}))


async def start(
    session: AsyncSession, *, provider: str, model: str, dimensions: int, is_held: bool
) -> int:
    """Begin to fill the space of another model. Returns its id.

    It becomes live by itself as soon as it is complete, with `is_held` only by `switch`. Raises
    DBAPIError (see `is_busy`) when queries keep the space from being made.
    """
    rollout = await _locked(session)
    if rollout.beside is not None:
        raise Conflict(
            f"{rollout.beside.model_id} stands beside the live model: finish or cancel it first.",
            code="reembedding_under_way",
        )
    await session.execute(_WAIT_LITTLE)
    space_id = await ensure_space(session, provider=provider, model=model, dimensions=dimensions)
    if space_id == rollout.live.id:
        raise Conflict(f"{rollout.live.model_id} is live already.", code="already_live")
    await session.execute(_START, {"id": space_id, "is_held": is_held})
    await _fill(session, space_id)
    log.info("reembedding_started", space_id=space_id, model=f"{provider}/{model}")
    return space_id


async def pause(session: AsyncSession, space_id: int) -> None:
    """Fill no further. What is there stays, and so does every vector that is on its way."""
    await _expect(session, space_id, RolloutState.FILLING)
    await session.execute(_SET_STATE, {"state": RolloutState.PAUSED})


async def pause_if_filling(session: AsyncSession, space_id: int) -> None:
    """The same, if there is still anything to pause."""
    await session.execute(_PAUSE_IF_FILLING, {"id": space_id})


async def resume(session: AsyncSession, space_id: int) -> None:
    """Go on filling, after a pause, an error or a rollback; after that only `switch` switches."""
    await _expect(session, space_id, RolloutState.PAUSED)
    await session.execute(_SET_STATE, {"state": RolloutState.FILLING})
    await _fill(session, space_id)


async def cancel(session: AsyncSession, space_id: int) -> None:
    """Give a space up that is not live. Afterwards `drop_space` can remove it."""
    rollout = await _expect(session, space_id, RolloutState.FILLING, RolloutState.PAUSED)
    _check_settled(rollout)
    await session.execute(_END)


async def switch(
    session: AsyncSession, space_id: int, *, index_threshold: int = EXACT_SCAN_MAX_CHUNKS
) -> None:
    """Make the space live, at once for all. The one that was live is kept beside it.

    Raises Conflict (`space_incomplete`, `index_missing`) unless every visible chunk has a vector in
    it, and its index where one is wanted. No document can be published meanwhile.
    """
    rollout = await _expect(session, space_id, RolloutState.FILLING, RolloutState.PAUSED)
    await _swap(
        session, rollout, RolloutState.SWITCHED, is_held=False, index_threshold=index_threshold
    )


async def rollback(session: AsyncSession, space_id: int) -> None:
    """Make the space that was live before live again; the other one stays beside it, paused.

    It is held then: whoever rolled it back decides when it goes live again.
    """
    rollout = await _expect(session, space_id, RolloutState.SWITCHED)
    await _swap(
        session, rollout, RolloutState.PAUSED, is_held=True, index_threshold=EXACT_SCAN_MAX_CHUNKS
    )


async def finish(session: AsyncSession, space_id: int) -> None:
    """Keep the space that was live before no longer. Afterwards `drop_space` can remove it.

    Nothing to do for a space that is not kept.
    """
    rollout = await _locked(session)
    if space_id not in (rollout.live.id, rollout.beside.id if rollout.beside else None):
        return
    rollout = await _expect(session, space_id, RolloutState.SWITCHED)
    _check_settled(rollout)
    await session.execute(_END)


def is_busy(error: DBAPIError) -> bool:
    """Say whether a statement gave up because others were in its way: later it may do."""
    return sqlstate_of(error) in _BUSY


def is_kept_again(error: DBAPIError) -> bool:
    """Say whether a space was not dropped because it is live, or stands beside the live one."""
    return sqlstate_of(error) == _OBJECT_IN_USE


async def _swap(
    session: AsyncSession,
    rollout: Rollout,
    state: RolloutState,
    *,
    is_held: bool,
    index_threshold: int,
) -> None:
    assert rollout.beside is not None  # noqa: S101  # `_expect` found it
    space = rollout.beside
    if missing := await count_missing(session, space.id):
        raise Conflict(
            f"{missing} chunks have no vector of {space.model_id} yet.", code="space_incomplete"
        )
    wanted = {"id": space.id, "dimensions": space.dimensions, "threshold": index_threshold}
    if await session.scalar(_WANTS_INDEX, wanted):
        raise Conflict(
            f"The index over the vectors of {space.model_id} is still being built.",
            code="index_missing",
        )
    await session.execute(_SWAP, {"state": state, "is_held": is_held})
    await session.execute(_END_FILL, {"id": space.id})
    log.info("embedding_space_switched", space_id=space.id, was=rollout.live.id)


async def _fill(session: AsyncSession, space_id: int) -> None:
    await session.execute(_FILL, {"id": space_id})
    enqueue(session, JobName.REEMBED)


async def _locked(session: AsyncSession) -> Rollout:
    # Apart from the look: a row that was waited for is joined with what it said before.
    await session.execute(_LOCK)
    return await _get(session)


async def _get(session: AsyncSession) -> Rollout:
    rollout = await find_rollout(session)
    if rollout is None:
        raise Conflict(
            "Nothing has been embedded yet: set EMBEDDING_MODEL instead.", code="nothing_embedded"
        )
    return rollout


async def _expect(session: AsyncSession, space_id: int, *states: RolloutState) -> Rollout:
    rollout = await _locked(session)
    if rollout.beside is None or rollout.beside.id != space_id or rollout.state not in states:
        is_beside = rollout.beside is not None and rollout.beside.id == space_id
        now = rollout.state.value if is_beside else "not beside the live space"
        raise Conflict(f"This can't be done now: the space is {now}.", code="wrong_state")
    return rollout


def _check_settled(rollout: Rollout) -> None:
    if rollout.is_fresh:
        raise Conflict(
            f"The live space has just changed: try again in {SETTLE_S} s.",
            code="just_switched",
            retry_after_s=SETTLE_S,
        )

"""The filler: adds the vectors that a kept space lacks, a slice at a time, beside all other work.

One worker fills at a time, under a lease; two by accident would only do the same work twice.
Killed at any point it leaves what was committed, and the next one goes on behind it.
"""

import time
from dataclasses import dataclass

import structlog
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.db import Database
from app.core.errors import Conflict, ProviderError
from app.core.jobs import JobName, enqueue
from app.ingestion.rollout import (
    find_rollout,
    hold_space,
    is_busy,
    pause_if_filling,
    switch,
)
from app.ingestion.vectors import (
    FIRST,
    KeptSpace,
    Look,
    Place,
    count_missing,
    embed_missing,
    find_missing,
    insert_vectors,
)
from app.llm.embedders import Embedders
from app.models.documents import EXACT_SCAN_MAX_CHUNKS

log = structlog.get_logger(__name__)

# A slice of work; then documents get their turn.
SLICE_S = 10.0
# In a row, with growing waits between them: about five minutes.
MAX_FAILURES = 10
_MAX_WAIT_S = 60.0
# What is not ours to hurry: a document being published, an index being built.
_LOOK_AGAIN_S = 2.0
# Each time all chunks are counted, and an index takes minutes.
_INDEX_WAIT_S = 15.0

_DUE = """
    FROM embedding_fills f
    JOIN embedding_rollout r ON f.space_id = r.live_id
        OR (f.space_id = r.beside_id AND r.state IN ('filling', 'switched'))
    JOIN embedding_spaces s ON s.id = f.space_id
    WHERE f.is_behind AND (f.lease_expires_at IS NULL OR f.lease_expires_at < now())
      AND (f.retry_at IS NULL OR f.retry_at <= now())
"""
_CLAIM = text(f"""
    UPDATE embedding_fills u SET lease_expires_at = now() + interval '30 seconds'
    FROM (SELECT s.id, s.provider, s.model, s.dimensions, f.failures {_DUE}
          ORDER BY f.space_id = r.live_id DESC LIMIT 1 FOR UPDATE OF f SKIP LOCKED) AS due
    WHERE u.space_id = due.id
    RETURNING due.*, u.after_org_id, u.after_chunk_id
""")  # noqa: S608  # constants
_IS_DUE = text(f"SELECT EXISTS (SELECT {_DUE})")
_ADVANCE = text("""
    UPDATE embedding_fills SET after_org_id = :org_id, after_chunk_id = :chunk_id,
        lease_expires_at = now() + interval '30 seconds'
    WHERE space_id = :id
""")
_SUCCEED = text("""
    UPDATE embedding_fills SET failures = 0, retry_at = NULL, error_code = NULL
    WHERE space_id = :id
""")
_RELEASE = text("UPDATE embedding_fills SET lease_expires_at = NULL WHERE space_id = :id")
_END_PASS = text("""
    UPDATE embedding_fills SET after_org_id = NULL, after_chunk_id = NULL, is_behind = false
    WHERE space_id = :id
""")
_LOOK_AGAIN = text("""
    UPDATE embedding_fills SET is_behind = true, lease_expires_at = NULL,
        retry_at = now() + make_interval(secs => :wait_s)
    WHERE space_id = :id
""")
_FAIL = text("""
    UPDATE embedding_fills SET failures = failures + 1, error_code = :code, lease_expires_at = NULL,
        retry_at = now() + make_interval(secs => :wait_s)
    WHERE space_id = :id
""")


@dataclass(frozen=True, slots=True)
class Filler:
    """What the filler stands on. `index_threshold`: see `rollout.switch`."""

    db: Database
    embedders: Embedders
    slice_s: float = SLICE_S
    index_threshold: int = EXACT_SCAN_MAX_CHUNKS


async def fill_next(filler: Filler) -> bool:
    """Fill one slice of a space that is behind, and switch to it once it is complete.

    True when there is more to do at once. Failures of the provider are tried again later; after the
    last one a space that is not live yet is paused. Raises what the database raises.
    """
    async with filler.db.system_transaction() as session:
        due = (await session.execute(_CLAIM)).one_or_none()
    if due is None:
        return False
    space = KeptSpace(due.id, due.provider, due.model, due.dimensions)
    after = (due.after_org_id, due.after_chunk_id) if due.after_org_id else FIRST
    try:
        return await _fill_slice(filler, space, after)
    except ProviderError as error:
        async with filler.db.system_transaction() as session:
            await _record_failure(session, space, error, failures=due.failures + 1)
        return False


async def ask_for_filler(session: AsyncSession) -> None:
    """Send the wake-up again that a broker may have lost. Needs a system transaction."""
    if await session.scalar(_IS_DUE):
        enqueue(session, JobName.REEMBED)


async def _fill_slice(filler: Filler, space: KeptSpace, after: Place) -> bool:
    stop_at = time.monotonic() + filler.slice_s
    filled = 0
    while time.monotonic() < stop_at:
        async with filler.db.system_transaction() as session:
            look = await find_missing(session, space.id, after=after)
            if look.after and not look.missing:
                await _advance(session, space, look.after)
        if look.missing:
            stored = await _fill_batch(filler, space, look)
            if stored is None:
                return True  # paused, or finished with: the next look tells
            filled += stored
        if look.after is None:
            return await _end_pass(filler, space, after, has_progressed=filled > 0)
        after = look.after
    async with filler.db.system_transaction() as session:
        await session.execute(_RELEASE, {"id": space.id})
    return True


async def _fill_batch(filler: Filler, space: KeptSpace, look: Look) -> int | None:
    """Return how many vectors were stored; None if the space is not to be filled any more."""
    embedder = filler.embedders.get_filler(space.provider, space.model)
    vectors = await embed_missing(look.missing, space, embedder)
    async with filler.db.system_transaction() as session:
        if not await hold_space(session, space.id) or not await _is_filled(session, space):
            await session.execute(_RELEASE, {"id": space.id})
            return None
        stored = await insert_vectors(session, space.id, look.missing, vectors, is_held=False)
        await session.execute(_SUCCEED, {"id": space.id})
        if look.after:
            await _advance(session, space, look.after)
    return stored


async def _advance(session: AsyncSession, space: KeptSpace, place: Place) -> None:
    org_id, chunk_id = place
    await session.execute(_ADVANCE, {"id": space.id, "org_id": org_id, "chunk_id": chunk_id})


async def _is_filled(session: AsyncSession, space: KeptSpace) -> bool:
    rollout = await find_rollout(session)
    return rollout is not None and (rollout.live == space or rollout.is_beside_filled)


async def _end_pass(filler: Filler, space: KeptSpace, last: Place, *, has_progressed: bool) -> bool:
    """The end was reached, from `last`: is anything still missing, or can the space go live?"""
    async with filler.db.system_transaction() as session:
        # First, and then the count: whoever publishes without a vector waits for this row.
        await session.execute(_END_PASS, {"id": space.id})
        is_missing = await count_missing(session, space.id) > 0
        rollout = await find_rollout(session)
        is_target = bool(rollout and rollout.beside == space and rollout.goes_live_by_itself)
        if is_missing or is_target:
            wait_s = 0.0 if has_progressed or is_target else _LOOK_AGAIN_S
            await session.execute(_LOOK_AGAIN, {"id": space.id, "wait_s": wait_s})
        else:
            await session.execute(_RELEASE, {"id": space.id})
    if is_target and not is_missing:
        await _try_to_switch(filler, space, last)
    return is_missing and has_progressed


async def _try_to_switch(filler: Filler, space: KeptSpace, last: Place) -> None:
    try:
        async with filler.db.system_transaction() as session:
            await switch(session, space.id, index_threshold=filler.index_threshold)
    except (Conflict, DBAPIError) as error:
        if isinstance(error, DBAPIError) and not is_busy(error):
            raise
        # A document came in between, or is being published, or the index is not there yet.
        reason = "busy" if isinstance(error, DBAPIError) else error.code
        log.info("switch_waits", space_id=space.id, reason=reason)
        wait_s = _INDEX_WAIT_S if reason == "index_missing" else _LOOK_AGAIN_S
        async with filler.db.system_transaction() as session:
            # Not from the first chunk: should one lack a vector, the count at the end tells.
            await _advance(session, space, last)
            await session.execute(_LOOK_AGAIN, {"id": space.id, "wait_s": wait_s})


async def _record_failure(
    session: AsyncSession, space: KeptSpace, error: ProviderError, *, failures: int
) -> None:
    wait_s = max(min(_MAX_WAIT_S, 2.0**failures), min(error.retry_after_s or 0.0, 3600.0))
    log.warning("reembedding_failed", space_id=space.id, code=error.code, failures=failures)
    if not error.is_retryable or failures >= MAX_FAILURES:
        # The live space and the one to roll back to are tried again all the same.
        await pause_if_filling(session, space.id)
        wait_s = _MAX_WAIT_S
    await session.execute(_FAIL, {"id": space.id, "code": error.code, "wait_s": wait_s})

"""What an operator does with embedding spaces, for the command line and the admin routes."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import TypeVar

import structlog
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.db import Database
from app.core.errors import Conflict, NotFound, Unavailable, UnprocessableRequest
from app.ingestion import rollout as steps
from app.ingestion.rollout import Rollout, find_rollout, is_busy, is_kept_again
from app.ingestion.vectors import Progress, measure_progress
from app.llm.embedders import Embedders
from app.llm.model_names import EMBEDDING_PROVIDERS
from app.models.embeddings import RolloutState

log = structlog.get_logger(__name__)

_T = TypeVar("_T")

_PROBE = "How wide are the vectors of this model?"
# To lock the table of all vectors: each for a second at most, so that questions hardly wait.
_ATTEMPTS = 5
_PAUSE_S = 0.5

_SPACES = text("""
    SELECT s.id, s.provider || '/' || s.model AS model, s.dimensions, f.error_code
    FROM embedding_spaces s LEFT JOIN embedding_fills f ON f.space_id = s.id ORDER BY s.id
""")
_EXISTS = text("SELECT true FROM embedding_spaces WHERE id = :id")
_DROP = text("SELECT drop_embedding_space(:id)")


class SpaceRole(StrEnum):
    LIVE = "live"
    TARGET = "target"  # is to become live
    PREVIOUS = "previous"  # was live, and can be again
    UNUSED = "unused"


class SpaceState(StrEnum):
    """What a space beside the live one is doing: its RolloutState, seen with its progress."""

    FILLING = "filling"
    COMPLETE = "complete"  # nothing is left to fill: it waits for its index, or for `switch`
    PAUSED = "paused"
    SWITCHED = "switched"


class SpaceAction(StrEnum):
    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"
    SWITCH = "switch"
    ROLLBACK = "rollback"
    FINISH = "finish"


@dataclass(frozen=True, slots=True)
class SpaceStatus:
    """`state` is that of a space beside the live one, `error_code` why it is not filled."""

    id: int
    model: str
    dimensions: int
    role: SpaceRole
    state: SpaceState | None
    is_held: bool
    progress: Progress
    error_code: str | None


_STEPS: Mapping[SpaceAction, Callable[[AsyncSession, int], Awaitable[None]]] = {
    SpaceAction.PAUSE: steps.pause,
    SpaceAction.RESUME: steps.resume,
    SpaceAction.CANCEL: steps.cancel,
    SpaceAction.SWITCH: steps.switch,
    SpaceAction.ROLLBACK: steps.rollback,
    SpaceAction.FINISH: steps.finish,
}


async def list_spaces(db: Database) -> list[SpaceStatus]:
    """Return every space with its exact progress, in the order in which they were made."""
    async with db.system_transaction() as session:
        rollout = await find_rollout(session)
        statuses = []
        for row in (await session.execute(_SPACES)).all():
            progress = await measure_progress(session, row.id)
            beside = rollout if rollout and _is_beside(row.id, rollout) else None
            statuses.append(
                SpaceStatus(
                    row.id,
                    row.model,
                    row.dimensions,
                    _role_of(row.id, rollout),
                    _state_of(beside.state, progress) if beside else None,
                    bool(beside and beside.is_held),
                    progress,
                    row.error_code,
                )
            )
        return statuses


async def get_space(db: Database, space_id: int) -> SpaceStatus:
    """Raises NotFound."""
    for space in await list_spaces(db):
        if space.id == space_id:
            return space
    raise NotFound("There is no such embedding space.")


async def start_reembedding(
    db: Database, embedders: Embedders, model_id: str, *, is_held: bool = False
) -> int:
    """Begin to fill the space of `provider/model`, after a call that shows that it works.

    Returns the space's id. Raises UnprocessableRequest for a name that can't be one, ProviderError
    when the model can't be used, Conflict when it is live or another change is under way,
    Unavailable while long queries are in the way: the same again does it.
    """
    provider, _, model = model_id.partition("/")
    if provider not in EMBEDDING_PROVIDERS or not model:
        raise UnprocessableRequest(
            f"model: it must be provider/model, with one of {', '.join(EMBEDDING_PROVIDERS)}.",
            code="unknown_model",
            param="model",
        )
    vectors = await embedders.get_filler(provider, model).embed_documents([_PROBE])
    start = partial(
        steps.start,
        provider=provider,
        model=model,
        dimensions=vectors.shape[1],
        is_held=is_held,
    )
    return await _do_between_queries(
        db,
        start,
        otherwise="Queries or uploads under way keep the space from being made: try again.",
    )


async def act_on_space(db: Database, space_id: int, action: SpaceAction) -> None:
    """Take one step with a space; `cancel` and `finish` remove it. Raises NotFound, Conflict.

    Also Unavailable, when others are in the way: the same step again does it.
    """
    try:
        async with db.system_transaction() as session:
            if await session.scalar(_EXISTS, {"id": space_id}) is None:
                raise NotFound("There is no such embedding space.")
            await _STEPS[action](session, space_id)
    except DBAPIError as error:
        if not is_busy(error):
            raise
        raise Unavailable("Documents are being published: try again.", retry_after_s=2) from error
    if action in (SpaceAction.CANCEL, SpaceAction.FINISH):
        await _drop_space(db, space_id)


async def get_space_beside(db: Database) -> int:
    """Return the id of the space beside the live one. Raises Conflict when there is none."""
    async with db.system_transaction() as session:
        rollout = await find_rollout(session)
    if rollout is None or rollout.beside is None:
        raise Conflict("No other model is being changed over to.", code="nothing_under_way")
    return rollout.beside.id


async def _drop_space(db: Database, space_id: int) -> None:
    async def drop(session: AsyncSession) -> None:
        await session.execute(_DROP, {"id": space_id})

    try:
        await _do_between_queries(
            db,
            drop,
            otherwise="The space is kept no longer, but long queries keep its vectors from being "
            "removed: finish it again.",
        )
    except DBAPIError as error:
        if not is_kept_again(error):
            raise
        raise Conflict(
            "The space is in use again: another change has been started meanwhile.",
            code="space_in_use",
        ) from error
    log.info("embedding_space_dropped", space_id=space_id)


async def _do_between_queries(
    db: Database, step: Callable[[AsyncSession], Awaitable[_T]], *, otherwise: str
) -> _T:
    """Try a step that gives up while queries are under way. Raises Unavailable at the end."""
    for attempt in range(_ATTEMPTS):
        if attempt:
            await asyncio.sleep(_PAUSE_S)
        try:
            async with db.system_transaction() as session:
                return await step(session)
        except DBAPIError as error:
            if not is_busy(error):
                raise
    raise Unavailable(otherwise, retry_after_s=5)


def _is_beside(space_id: int, rollout: Rollout) -> bool:
    return rollout.beside is not None and rollout.beside.id == space_id


def _state_of(state: RolloutState, progress: Progress) -> SpaceState:
    if state is RolloutState.FILLING and progress.embedded == progress.visible:
        return SpaceState.COMPLETE
    return SpaceState(state)


def _role_of(space_id: int, rollout: Rollout | None) -> SpaceRole:
    if rollout is None:
        return SpaceRole.UNUSED
    if rollout.live.id == space_id:
        return SpaceRole.LIVE
    if not _is_beside(space_id, rollout):
        return SpaceRole.UNUSED
    is_previous = rollout.state is RolloutState.SWITCHED
    return SpaceRole.PREVIOUS if is_previous else SpaceRole.TARGET

"""`Idempotency-Key`: the same request twice is done once and answered twice, for 24 hours.

A key is taken in the transaction that does the work. So there is no state "in flight" that a crash
could leave behind: a twin waits on the unique index until that transaction has ended, and then
finds either the answer or a free key. Errors roll the key back with everything else.
"""

import hashlib
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts.principal import Principal
from app.core.db import sqlstate_of
from app.core.errors import Conflict, InvalidRequest, UnprocessableRequest
from app.models.uploads import IdempotencyKey

LIFETIME = timedelta(hours=24)

_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_LOCK_NOT_AVAILABLE = "55P03"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request was answered: an HTTP status and a JSON body."""

    status: int
    body: dict[str, Any]
    is_replayed: bool = False


def check_key(key: str | None) -> None:
    """Raises InvalidRequest unless it is missing or 1 to 255 visible ASCII characters."""
    if key is not None and not _KEY.fullmatch(key):
        raise InvalidRequest(
            "Idempotency-Key must be 1 to 255 visible ASCII characters.", param="Idempotency-Key"
        )


async def has_answer(session: AsyncSession, principal: Principal, key: str | None) -> bool:
    """Whether a request with this key of this user has been answered already."""
    if key is None:
        return False
    found = await session.scalar(
        select(IdempotencyKey.status).where(
            _is_key(principal, key), IdempotencyKey.expires_at > datetime.now(UTC)
        )
    )
    return found is not None


async def find_answer(
    session: AsyncSession, principal: Principal, key: str | None, *, request_hash: bytes
) -> Answer | None:
    """Return what this request was answered before, if it was.

    Raises UnprocessableRequest when the key belongs to another request.
    """
    if key is None or not await has_answer(session, principal, key):
        return None
    return await _replay(session, principal, key, request_hash)


async def answer_once(
    session: AsyncSession,
    principal: Principal,
    key: str | None,
    *,
    request_hash: bytes,
    act: Callable[[], Awaitable[Answer]],
) -> Answer:
    """Act and keep the answer, or return the kept one. Without a key it just acts.

    `act` must do all of its work in the session's transaction. Raises UnprocessableRequest when
    the key belongs to another request, Conflict when a twin takes too long, or what `act` raises.
    """
    if key is None:
        return await act()
    if not await _take(session, principal, key, request_hash):
        return await _replay(session, principal, key, request_hash)
    answer = await act()
    await session.execute(
        update(IdempotencyKey)
        .where(_is_key(principal, key))
        .values(status=answer.status, response=answer.body)
    )
    return answer


async def _take(session: AsyncSession, principal: Principal, key: str, request_hash: bytes) -> bool:
    """Make the key ours if it is free or expired; its row stays locked until the commit."""
    now = datetime.now(UTC)
    # The answer follows in the same transaction: nobody sees these.
    values = {"request_hash": request_hash, "status": 0, "response": {}}
    times = {"created_at": now, "expires_at": now + LIFETIME}
    statement = (
        insert(IdempotencyKey)
        .values(
            org_id=principal.org_id,
            user_id=principal.user_id,
            key_hash=_hash(key),
            **values,
            **times,
        )
        .on_conflict_do_update(
            index_elements=["org_id", "user_id", "key_hash"],
            set_=values | times,
            where=IdempotencyKey.expires_at <= now,
        )
        .returning(IdempotencyKey.key_hash)
    )
    try:
        return await session.scalar(statement) is not None
    except DBAPIError as error:
        if sqlstate_of(error) != _LOCK_NOT_AVAILABLE:
            raise
        raise Conflict(
            "A request with this Idempotency-Key is still being answered.",
            code="idempotency_in_flight",
            param="Idempotency-Key",
            retry_after_s=2,
        ) from error


async def _replay(
    session: AsyncSession, principal: Principal, key: str, request_hash: bytes
) -> Answer:
    kept = (await session.scalars(select(IdempotencyKey).where(_is_key(principal, key)))).one()
    if kept.request_hash != request_hash:
        raise UnprocessableRequest(
            "This Idempotency-Key was used for another request.",
            code="idempotency_mismatch",
            param="Idempotency-Key",
        )
    return Answer(kept.status, kept.response, is_replayed=True)


def _is_key(principal: Principal, key: str) -> ColumnElement[bool]:
    return (
        (IdempotencyKey.org_id == principal.org_id)
        & (IdempotencyKey.user_id == principal.user_id)
        & (IdempotencyKey.key_hash == _hash(key))
    )


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()

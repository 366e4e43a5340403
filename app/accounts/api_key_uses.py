"""When API keys were last used: noted in memory, written together, to the minute."""

import asyncio
from datetime import UTC, datetime
from uuid import UUID

import structlog
from sqlalchemy import DateTime, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import Uuid

from app.accounts.principal import Principal
from app.core.db import DATABASE_ERRORS, Database
from app.core.periodic import run_periodically

log = structlog.get_logger(__name__)

_INTERVAL_S = 10.0
# At most once a minute for each key, however many processes it was used at. A row that another
# process is at has just got its time.
_WRITE = text("""
    WITH used AS (
        SELECT * FROM unnest(:org_ids, :key_ids, :times) AS used (org_id, key_id, at)),
    due AS (
        SELECT k.org_id, k.id, used.at
        FROM used JOIN api_keys k ON k.org_id = used.org_id AND k.id = used.key_id
        WHERE k.last_used_at IS NULL OR k.last_used_at < used.at - interval '1 minute'
        FOR UPDATE OF k SKIP LOCKED)
    UPDATE api_keys k SET last_used_at = due.at
    FROM due WHERE k.org_id = due.org_id AND k.id = due.id
""").bindparams(
    bindparam("org_ids", type_=ARRAY(Uuid)),
    bindparam("key_ids", type_=ARRAY(Uuid)),
    bindparam("times", type_=ARRAY(DateTime(timezone=True))),
)


class KeyUses:
    """The uses that this process knows of and the database does not."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._latest: dict[tuple[UUID, UUID], datetime] = {}

    def note(self, caller: Principal) -> None:
        """Remember that a key was used just now; nothing for a sign-in."""
        if caller.key_id is not None:
            self._latest[caller.org_id, caller.key_id] = datetime.now(UTC)

    async def write(self) -> None:
        """Write what is noted. Raises what the database raises, and then keeps it."""
        if not self._latest:
            return
        latest, self._latest = self._latest, {}
        keys = list(latest)
        values = {
            "org_ids": [org_id for org_id, _ in keys],
            "key_ids": [key_id for _, key_id in keys],
            "times": list(latest.values()),
        }
        try:
            async with self._db.system_transaction() as session:
                await session.execute(_WRITE, values)
        except BaseException:
            self._latest = latest | self._latest
            raise

    async def run(self) -> None:
        """Write every 10 s until cancelled, and then once more if the database lets it."""
        try:
            await run_periodically("api_key_uses", self.write, _INTERVAL_S)
        finally:
            try:
                async with asyncio.timeout(2):
                    await self.write()
            except (TimeoutError, *DATABASE_ERRORS) as error:
                log.warning("api_key_uses_lost", error=type(error).__name__)

"""The periodic task of every API process: what has expired goes, and what was left behind.

Any number of them may run side by side: each step takes what no other is at.
"""

import time
from dataclasses import dataclass, field

from app.accounts import invitations, sign_ins
from app.core.db import Database
from app.core.periodic import run_periodically
from app.core.storage import BlobStore
from app.documents.cleanup import remove_expired, remove_orphans
from app.documents.deletion import delete_abandoned, delete_expired
from app.webhooks import deliveries

EXPIRY_INTERVAL_S = 5.0
_CLEANUP_INTERVAL_S = 600.0


@dataclass(slots=True)
class Housekeeper:
    db: Database
    storage: BlobStore
    _clean_at: float = field(default_factory=time.monotonic, init=False)

    async def run(self) -> None:
        """Keep house until cancelled. A database or a disk that is away is waited for."""
        await run_periodically("housekeeping", self.keep_house, EXPIRY_INTERVAL_S)

    async def keep_house(self) -> None:
        """One round: what has expired, and every ten minutes what was left behind."""
        async with self.db.system_transaction() as session:
            await delete_expired(session)
        if time.monotonic() >= self._clean_at:
            self._clean_at = time.monotonic() + _CLEANUP_INTERVAL_S
            async with self.db.system_transaction() as session:
                await sign_ins.delete_expired(session)
                await invitations.delete_expired(session)
            async with self.db.system_transaction() as session:
                await delete_abandoned(session)
                await deliveries.delete_old(session)
            await remove_expired(self.db, self.storage)
            await remove_orphans(self.db, self.storage)

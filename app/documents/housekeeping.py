"""The periodic task of every API process for documents: what has expired goes, and what was left.

Any number of them may run side by side: each step takes what no other is at.
"""

import asyncio
import time
from dataclasses import dataclass

import structlog
from sqlalchemy.exc import SQLAlchemyError

from app.core.db import Database
from app.core.storage import BlobStore
from app.documents.cleanup import remove_expired, remove_orphans
from app.documents.deletion import delete_expired

log = structlog.get_logger(__name__)

EXPIRY_INTERVAL_S = 5.0
_CLEANUP_INTERVAL_S = 600.0


@dataclass(frozen=True, slots=True)
class Housekeeper:
    db: Database
    storage: BlobStore

    async def run(self) -> None:
        """Keep house until cancelled. A database or a disk that is away is waited for."""
        clean_at = time.monotonic()
        while True:
            try:
                async with self.db.system_transaction() as session:
                    await delete_expired(session)
                if time.monotonic() >= clean_at:
                    clean_at = time.monotonic() + _CLEANUP_INTERVAL_S
                    await remove_expired(self.db, self.storage)
                    await remove_orphans(self.db, self.storage)
            except (SQLAlchemyError, OSError) as error:
                log.warning("housekeeping_failed", error=type(error).__name__)
            except Exception:  # the next round may go well, and without it nothing would
                log.exception("housekeeping_failed")
            await asyncio.sleep(EXPIRY_INTERVAL_S)

"""Closes runs whose process died, with the text that they had. In every API process, one at a time.

Readers elsewhere hear of it by their look at Postgres.
"""

import asyncio
import hashlib
import time
from dataclasses import dataclass, field

import structlog
from redis.asyncio import Redis

from app.accounts.principal import Principal
from app.chat.events import Done, Failure
from app.chat.recording import RunRecord, RunView, end_run, load_run
from app.chat.run_frames import Heard, rebuild
from app.chat.run_rows import LostRun, RunRows
from app.chat.run_store import read_lines
from app.core.db import DATABASE_ERRORS, Database
from app.core.errors import NotFound
from app.core.metrics import RUNS
from app.core.periodic import run_periodically
from app.core.redis import REDIS_ERRORS
from app.core.tokens import EstimatingTokenizer, count_tokens
from app.llm.base import Usage
from app.models.accounts import MemberRole
from app.models.conversations import MAX_EVENTS, RunStatus

log = structlog.get_logger(__name__)

SWEEP_INTERVAL_S = 3.0
_MAX_AT_ONCE = 100
# Processes whose database was away renew their leases within 4 s of its return.
_PATIENCE_S = 5.0

_INTERRUPTED = Failure(
    "stream_interrupted", "The answer was interrupted: ask again.", is_retryable=True
)


@dataclass(slots=True)
class RunSweeper:
    db: Database
    redis: Redis
    patience_s: float = _PATIENCE_S
    _there_since: float | None = field(default=None, init=False)

    async def run(self) -> None:
        """Sweep until cancelled. A database that is away is waited for."""
        await run_periodically("run_sweep", self.sweep, SWEEP_INTERVAL_S)

    async def sweep(self) -> int:
        """One round. Returns how many runs were closed.

        Leases that ran out while the database was away say nothing: the first rounds of a process,
        and those after an error, close nothing.
        """
        began = time.monotonic()
        there_since, self._there_since = self._there_since, None
        if there_since is None:
            there_since = began
        is_patient = began - there_since < self.patience_s
        lost = await RunRows(self.db).take_lost(limit=0 if is_patient else _MAX_AT_ONCE)
        closed = 0
        for run in lost:
            try:
                closed += await self._close(run)
            except DATABASE_ERRORS:
                raise
            except Exception:  # it must not stand in the way of the others
                log.exception("run_not_closed")
        self._there_since = there_since
        return closed

    async def _close(self, run: LostRun) -> bool:
        # Whose run it is decides what may be read; a sign-in has nothing to do with it.
        owner = Principal(run.user_id, run.org_id, MemberRole.MEMBER, run.run_id)
        try:
            async with self.db.transaction(owner) as session:
                view = await load_run(session, owner, run.run_id)
        except NotFound:
            return False
        heard = await self._find_text(view)
        async with self.db.transaction(owner) as session:
            is_ours = await end_run(session, run.org_id, run.run_id, _record(heard))
        if is_ours:
            RUNS.labels(outcome=RunStatus.FAILED.value).inc()
            log.warning("run_interrupted")
        return is_ours

    async def _find_text(self, view: RunView) -> Heard:
        """Redis knows more than what was stored from time to time, unless it was wiped."""
        try:
            lines = await read_lines(self.redis, view.run_id)
            heard = await asyncio.to_thread(rebuild, lines)
        except REDIS_ERRORS as error:
            log.info("run_not_read", error=type(error).__name__)
            heard = Heard()
        if len(heard.text) >= len(view.text):
            return heard
        return Heard(start=heard.start, text=view.text)


def _record(heard: Heard) -> RunRecord:
    done = Done(
        status=RunStatus.FAILED,
        finish_reason="error",
        usage=Usage(0, count_tokens(heard.text, EstimatingTokenizer()), is_estimated=True),
        model_version=heard.start.model if heard.start else "",
        cost_usd=None,
        answer_sha256=hashlib.sha256(heard.text.encode()).hexdigest(),
        degraded=False,
        dropped_markers=0,
    )
    # Above whatever the dead process may have told: the snapshot stands for all of it.
    return RunRecord(
        start=heard.start,
        text=heard.text,
        tokens=heard.tokens,
        citations=heard.citations,
        failure=_INTERRUPTED,
        done=done,
        snapshot_id=MAX_EVENTS + 1,
        last_event_id=MAX_EVENTS + 3,
    )

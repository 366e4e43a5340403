"""Follows runs that other processes make: one reader of Redis for all who read them here.

Redis tells the frames, Postgres the end, should Redis or the other process be gone.
"""

import asyncio
import time
from collections.abc import Coroutine, Iterable
from contextvars import Context
from typing import Any
from uuid import UUID

import structlog
from redis.asyncio import Redis

from app.accounts.principal import Principal
from app.chat.events import Done, Event
from app.chat.recording import events_of, load_run
from app.chat.run_frames import DONE, SNAPSHOT
from app.chat.run_log import FrameLog, to_line
from app.chat.run_making import DELETED
from app.chat.run_rows import RunKey, RunRows
from app.chat.run_store import parse_entry, stream_key
from app.core.db import DATABASE_ERRORS, Database
from app.core.errors import NotFound
from app.core.redis import REDIS_ERRORS
from app.llm.base import Usage
from app.models.conversations import RunStatus

log = structlog.get_logger(__name__)

# Below the client's own time-out.
_BLOCK_MS = 100
# Between two looks, so that frames of many runs are read at once.
_PAUSE_S = 0.03
_AWAY_PAUSE_S = 0.5
_MAX_ENTRIES_PER_RUN = 500
_LOOK_S = 2.0
# How long a run may be silent before Postgres is asked.
_SILENCE_S = 3.0
_ENCODED_AT_ONCE = 500
# Of a run that was deleted with its conversation, should its process not tell it.
_DELETED_DONE = Done(
    status=RunStatus.FAILED,
    finish_reason="error",
    usage=Usage(0, 0, is_estimated=True),
    model_version="",
    cost_usd=None,
    answer_sha256="",
    degraded=False,
    dropped_markers=0,
)


class Tail(FrameLog):
    """The frames of a run of another process, as far as they are known here."""

    def __init__(self, principal: Principal, run_id: UUID) -> None:
        super().__init__()
        self.principal = principal
        self.run_id = run_id
        self.readers = 0
        self.heard_at = time.monotonic()
        self.stream_id = 0  # of the last entry that was seen

    @property
    def key(self) -> RunKey:
        return self.principal.org_id, self.run_id

    def hear(self, number: int, line: bytes) -> None:
        """Take an entry. One behind a hole waits for a snapshot, which stands for all before it."""
        self.stream_id = number
        if number == self.last_id + 1 or (number > self.last_id and line.startswith(SNAPSHOT)):
            self.heard_at = time.monotonic()
            self.append(number, line)
            if line.startswith(DONE):
                self.close()


class RunTails:
    def __init__(self, db: Database, redis: Redis, rows: RunRows) -> None:
        self._db = db
        self._redis = redis
        self._rows = rows
        self._tails: dict[UUID, Tail] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def join(self, principal: Principal, run_id: UUID) -> Tail:
        """Begin to read, for who may; `leave` must follow."""
        tail = self._tails.get(run_id)
        if tail is None or tail.is_closed:
            tail = self._tails[run_id] = Tail(principal, run_id)
        tail.readers += 1
        if not self._tasks or any(task.done() for task in self._tasks):
            self._stop()
            self._tasks = [start_apart(self._read()), start_apart(self._look())]
        return tail

    def leave(self, tail: Tail) -> None:
        tail.readers -= 1
        if not tail.readers and self._tails.get(tail.run_id) is tail:
            del self._tails[tail.run_id]

    def watched(self) -> list[RunKey]:
        """The runs that somebody reads."""
        return [tail.key for tail in self._tails.values() if not tail.is_closed]

    async def aclose(self) -> None:
        """Stop; who still reads is told no more."""
        for tail in self._tails.values():
            tail.close()
        tasks = self._tasks
        self._stop()
        if tasks:
            await asyncio.wait(tasks)

    def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._tasks = []

    async def _read(self) -> None:
        is_away = False
        while self._tails:
            try:
                await self._read_once()
                is_away = False
            except REDIS_ERRORS as error:
                if not is_away:
                    log.warning("runs_not_read", error=type(error).__name__)
                is_away = True
                await asyncio.sleep(_AWAY_PAUSE_S)
            except Exception:  # the next round may go well, and without it nothing would
                log.exception("runs_not_read")
                await asyncio.sleep(_AWAY_PAUSE_S)
            await asyncio.sleep(_PAUSE_S)

    async def _read_once(self) -> None:
        tails = {stream_key(t.run_id): t for t in self._tails.values() if not t.is_closed}
        if not tails:
            return
        places: dict[Any, Any] = {key: b"%d-0" % tail.stream_id for key, tail in tails.items()}
        found: Any = await self._redis.xread(places, count=_MAX_ENTRIES_PER_RUN, block=_BLOCK_MS)
        for key, entries in found or ():
            for entry in entries:
                tails[key].hear(*parse_entry(entry))

    async def _look(self) -> None:
        while self._tails:
            await asyncio.sleep(_LOOK_S)
            try:
                await self._look_once()
            except DATABASE_ERRORS as error:
                log.info("runs_not_looked_at", error=type(error).__name__)

    async def _look_once(self) -> None:
        """Tell the rest of silent runs that have ended."""
        silent_since = time.monotonic() - _SILENCE_S
        silent = [
            tail
            for tail in self._tails.values()
            if not tail.is_closed and tail.heard_at < silent_since
        ]
        if not silent:
            return
        news = await self._rows.look([tail.key for tail in silent], begun=())
        for tail in silent:
            if news[tail.run_id].has_ended:
                await self._tell_rest(tail)

    async def _tell_rest(self, tail: Tail) -> None:
        try:
            async with self._db.transaction(tail.principal) as session:
                view = await load_run(session, tail.principal, tail.run_id)
        except NotFound:
            tail.append(tail.last_id + 1, to_line(DELETED))
            tail.append(tail.last_id + 1, to_line(_DELETED_DONE))
            tail.close()
            return
        await fill(tail, events_of(view))


async def fill(frames: FrameLog, events: Iterable[tuple[int, Event]]) -> None:
    """Add the events (id, event) of a run that has ended, but for what is there already."""
    for index, (number, event) in enumerate(events, start=1):
        if frames.is_closed:
            return
        if number > frames.last_id:
            frames.append(number, to_line(event))
        if index % _ENCODED_AT_ONCE == 0:
            await asyncio.sleep(0)
    frames.close()


def start_apart(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Start a task that outlives the request that needs it first: its log lines are its own."""
    return asyncio.create_task(work, context=Context())

"""Copies the frames of this process's runs into Redis, where other processes read them.

One writer for all runs: every 40 ms it lets their logs tell what waits in them, and sends what is
new of all of them in one call. Redis may be away or wiped at any moment; local readers never
notice.
"""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import structlog
from redis.asyncio import Redis

from app.chat.run_log import RunLog
from app.core.metrics import RUN_REDIS_SECONDS
from app.core.redis import REDIS_ERRORS

log = structlog.get_logger(__name__)

TICK_S = 0.04
_CHECK_S = 1.0
_AWAY_PAUSE_S = 0.5
_KEPT_FOR_S = 10.0
_FAREWELL_S = 1.0
# Whoever comes after a run's end finds it in Postgres.
_TTL_S = 900
_RENEW_TTL_S = 300
_ENDED_TTL_S = 60
_MAX_FRAMES_PER_RUN = 500
_MAX_BATCH_BYTES = 1_000_000

FIELD = b"f"

# For each key: "how long the stream must be already, how long it may live (0 leaves that), a number
# of lines, the first one's id", and these lines. Few arguments: packing them is what costs.
# Returns its length afterwards, or -1 where frames that were written are gone, and then writes
# nothing. An id that is there already was sent twice.
_WRITE = """
local lengths, at = {}, 1
for i, key in ipairs(KEYS) do
    local expected, ttl, count, id = string.match(ARGV[at], '(%d+) (%d+) (%d+) (%d+)')
    if redis.call('XLEN', key) < tonumber(expected) then
        lengths[i] = -1
    else
        for j = 1, tonumber(count) do
            redis.pcall('XADD', key, string.format('%d-0', id + j - 1), 'f', ARGV[at + j])
        end
        if ttl ~= '0' then redis.call('EXPIRE', key, ttl) end
        lengths[i] = redis.call('XLEN', key)
    end
    at = at + 1 + count
end
return lengths
"""

# A copy, and what it lacks.
_Batch = list[tuple["_Copy", Sequence[bytes]]]


def stream_key(run_id: UUID) -> bytes:
    return b"footnote:run:%b" % str(run_id).encode()


async def read_lines(redis: Redis, run_id: UUID) -> list[tuple[int, bytes]]:
    """Return the frames (id, line) of a run that Redis has. Raises one of REDIS_ERRORS."""
    entries = await redis.xrange(stream_key(run_id))
    return [parse_entry(entry) for entry in entries or ()]


def parse_entry(entry: Any) -> tuple[int, bytes]:
    entry_id, fields = entry
    return int(entry_id.partition(b"-")[0]), fields[FIELD]


@dataclass(slots=True, eq=False)
class _Copy:
    """How far a log's frames are in Redis: from `first_id` on, up to `last_id`."""

    key: bytes
    log: RunLog
    first_id: int = 1
    last_id: int = 0
    renew_at: float = 0.0  # its time to live

    @property
    def length(self) -> int:
        return self.last_id - self.first_id + 1

    @property
    def is_behind(self) -> bool:
        return self.last_id < self.log.last_id


class RunStore:
    """The one writer. `run` does the work; logs tell it what they have (it is their LogWatch)."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._copies: dict[RunLog, _Copy] = {}
        self._pending: list[RunLog] = []
        self._behind: dict[_Copy, None] = {}  # in order
        self._news = asyncio.Event()
        self._away_since: float | None = None

    def add(self, run_id: UUID, log: RunLog) -> None:
        self._copies[log] = _Copy(stream_key(run_id), log)

    def drop(self, log: RunLog) -> None:
        """Write no more of it, whatever it had still to tell."""
        copy = self._copies.pop(log, None)
        if copy is not None:
            self._behind.pop(copy, None)

    def has_pending(self, log: RunLog) -> None:
        if not self._pending:
            asyncio.get_running_loop().call_later(TICK_S, self._flush)
        self._pending.append(log)

    def has_frames(self, log: RunLog) -> None:
        if (copy := self._copies.get(log)) is not None:
            self._behind[copy] = None
            self._news.set()

    def _flush(self) -> None:
        pending, self._pending = self._pending, []
        for each in pending:
            each.flush()

    async def run(self) -> None:
        """Write until cancelled; then `finish`."""
        check_at = time.monotonic() + _CHECK_S
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_CHECK_S):
                    await self._news.wait()
            self._news.clear()
            try:
                await self._write_all()
                if time.monotonic() >= check_at:
                    await self._check()
                    check_at = time.monotonic() + _CHECK_S
                self._away_since = None
            except REDIS_ERRORS as error:
                if self._away_since is None:
                    log.warning("runs_not_copied", error=type(error).__name__)
                self._note_away()
                await asyncio.sleep(_AWAY_PAUSE_S)
                self._news.set()
            except Exception:  # the next round may go well, and without it nothing would
                log.exception("runs_not_copied")
                await asyncio.sleep(_AWAY_PAUSE_S)
            await asyncio.sleep(TICK_S)

    def _note_away(self) -> None:
        """Keep no ended run for a Redis that does not come back."""
        now = time.monotonic()
        self._away_since = self._away_since or now
        if now - self._away_since > _KEPT_FOR_S:
            for each in [log for log in self._copies if log.is_closed]:
                self.drop(each)

    async def finish(self) -> None:
        """Write what is left, if that can be done quickly. `run` must have been cancelled."""
        with suppress(*REDIS_ERRORS):
            async with asyncio.timeout(_FAREWELL_S):
                while self._behind:
                    await self._write_all()

    async def _write_all(self) -> None:
        left = len(self._behind)  # what comes meanwhile waits for the next tick
        while left > 0:
            began = time.monotonic()
            batch = self._take_batch()
            left -= len(batch)
            for copy, _ in batch:
                self._behind.pop(copy, None)
            try:
                lengths = await self._send(batch)
            except BaseException:
                for copy, _ in batch:
                    self._behind[copy] = None
                raise
            RUN_REDIS_SECONDS.observe(time.monotonic() - began)
            for (copy, lines), length in zip(batch, lengths, strict=True):
                self._note(copy, len(lines), length)

    async def _check(self) -> None:
        """Find out which streams are gone while nothing was to be written to them."""
        copies = [copy for copy in self._copies.values() if copy.length]
        nothing: _Batch = [(copy, ()) for copy in copies]
        for copy, length in zip(copies, await self._send(nothing), strict=True):
            self._note(copy, 0, length)

    def _take_batch(self) -> _Batch:
        batch: _Batch = []
        size = 0
        for copy in self._behind:
            lines = copy.log.lines_after(copy.last_id, limit=_MAX_FRAMES_PER_RUN)
            batch.append((copy, lines))
            size += sum(map(len, lines))
            if size > _MAX_BATCH_BYTES:
                break
        return batch

    async def _send(self, batch: _Batch) -> list[int]:
        """Raises one of REDIS_ERRORS: then some of it may have arrived."""
        if not batch:
            return []
        now = time.monotonic()
        arguments: list[bytes] = []
        for copy, lines in batch:
            ttl = 0
            if copy.log.is_closed and copy.last_id + len(lines) == copy.log.last_id:
                ttl = _ENDED_TTL_S
            elif now >= copy.renew_at:
                ttl, copy.renew_at = _TTL_S, now + _RENEW_TTL_S
            place = (copy.length, ttl, len(lines), copy.last_id + 1)
            arguments.append(b"%d %d %d %d" % place)
            arguments += lines
        keys = [copy.key for copy, _ in batch]
        lengths: Any = await self._redis.eval(_WRITE, len(keys), *keys, *arguments)
        return [int(length) for length in lengths]

    def _note(self, copy: _Copy, sent: int, length: int) -> None:
        if copy.log not in self._copies:
            return
        if length < 0:
            self._begin_again(copy)
        elif length >= copy.length + sent:
            copy.last_id += sent
        else:
            # It takes no more: full, perhaps. Readers elsewhere find the end in Postgres.
            log.warning("run_not_copied")
            self.drop(copy.log)
            return
        if copy.is_behind:
            self.has_frames(copy.log)
        elif copy.log.is_closed:
            self.drop(copy.log)

    def _begin_again(self, copy: _Copy) -> None:
        """The stream was wiped: what comes next must stand for all that was in it."""
        snapshot_id = copy.log.add_snapshot()
        if snapshot_id is None:
            self.drop(copy.log)
            return
        log.info("run_told_again")
        copy.first_id, copy.last_id, copy.renew_at = snapshot_id, snapshot_id - 1, 0.0

"""Runs: answers that are made by a task of this process, whoever reads them and from where.

A run's frames go to a log in memory, for readers here, and to Redis, for readers elsewhere; its end
goes to Postgres before it is told. Postgres is also where others ask for its cancellation, and
where a process says that it lives.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from uuid import UUID

import structlog
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts.principal import Principal
from app.chat.pipeline import Admitted, Answerer, Route
from app.chat.recording import BegunRun, RunView, events_of, load_run, to_json
from app.chat.run_frames import Heard, rebuild
from app.chat.run_log import FrameLog, RunLog
from app.chat.run_making import LocalRun, RunMaker, Stop
from app.chat.run_reader import RunReader
from app.chat.run_rows import RunNews, RunRows, Touch
from app.chat.run_state import RunState, ended_state, local_state, running_state
from app.chat.run_store import RunStore, read_lines
from app.chat.run_tails import RunTails, Tail, fill, start_apart
from app.core.db import DATABASE_ERRORS, Database
from app.core.errors import NotFound, RateLimited, Unavailable
from app.core.metrics import RUN_STREAMS, RUNS
from app.core.redis import REDIS_ERRORS
from app.core.sse import is_server_stopping

log = structlog.get_logger(__name__)

MAX_READERS_PER_USER = 20

_LOOK_S = 0.5
_TOUCH_S = 4.0
_KEEP_TEXT_S = 4.0
# At once: each takes milliseconds, and cancellations wait meanwhile.
_MAX_NEW_TRACES = 20
_STOP_LOOK_S = 0.25
# However many runs begin and end at once.
_DATABASE_SLOTS = 3
_LAST_WORDS_S = 2.0


class RunEngine:
    """The runs of one process. Made in the loop that uses it; its tasks start with the first run.

    `unread_s`: after so many seconds without a reader anywhere a run is cancelled, unless it is
    detached. `drain_s`: how long runs may go on once the server stops.
    """

    def __init__(
        self, db: Database, redis: Redis, answerer: Answerer, *, unread_s: float, drain_s: float
    ) -> None:
        self._db = db
        self._redis = redis
        self._unread_s = unread_s
        self._drain_s = drain_s
        self._rows = RunRows(db)
        self._store = RunStore(redis)
        self._tails = RunTails(db, redis, self._rows)
        self._slots = asyncio.Semaphore(_DATABASE_SLOTS)
        self._maker = RunMaker(db, answerer, self._slots)
        self._runs: dict[UUID, LocalRun] = {}
        self._readers: set[RunReader] = set()
        self._readers_by_user: Counter[UUID] = Counter()
        self._tasks: list[asyncio.Task[None]] = []
        self._stop_at: float | None = None

    # Making

    @asynccontextmanager
    async def beginning(self, principal: Principal) -> AsyncGenerator[AsyncSession]:
        """A transaction in which a run may be begun; `start` must follow its commit.

        Raises Unavailable (`shutting_down`) while the server stops.
        """
        self._refuse_when_stopping()
        async with self._slots, self._db.transaction(principal) as session:
            yield session

    def start(
        self, principal: Principal, begun: BegunRun, admitted: Admitted, *, is_detached: bool
    ) -> None:
        """Make the answer in a task of its own; `admitted` asks `begun.messages`."""
        run = LocalRun(
            principal=principal,
            begun=begun,
            admitted=admitted,
            is_detached=is_detached,
            log=RunLog(self._store),
            read_at=time.monotonic(),
            has_content=asyncio.Event(),
        )
        self._store.add(begun.run_id, run.log)
        self._runs[begun.run_id] = run
        run.task = asyncio.create_task(self._make(run))
        self._ensure_tasks()

    async def _make(self, run: LocalRun) -> None:
        try:
            ending = await self._maker.make(run)
            if ending is None:
                self._store.drop(run.log)
            else:
                failure, done = ending
                run.log.finish(failure, done)
                RUNS.labels(outcome=done.status.value).inc()
        except Exception:  # its lease runs out, and the sweeper closes it
            log.exception("run_lost")
        finally:
            run.log.close()
            del self._runs[run.begun.run_id]

    def _stop(self, run: LocalRun, why: Stop) -> None:
        if run.stop is None:
            run.stop = why
            if run.is_making and run.task is not None:
                run.task.cancel()

    # Reading

    async def open(
        self, principal: Principal, run_id: UUID, *, after: int | None = None
    ) -> RunReader | None:
        """Return a reader of the frames behind `after`, None for a run whose end was among them.

        The reader must be closed. Raises NotFound, RateLimited (`too_many_streams`), and what the
        database raises.
        """
        run = self._find_local(principal, run_id)
        if run is not None:
            return self._make_reader(principal, run, run.log, after or 0)
        async with self._db.transaction(principal) as session:
            view = await load_run(session, principal, run_id)
        if view.record is None:
            self.refuse_too_many(principal)
            tail = self._tails.join(principal, run_id)
            self._ensure_tasks()
            reader = self._make_reader(principal, None, tail, after or 0)
            if self._stop_at is not None:
                reader.interrupt()
            return reader
        if after is not None and after >= view.record.last_event_id:
            return None
        told = FrameLog()
        await fill(told, events_of(view))
        return self._make_reader(principal, None, told, after or 0)

    async def wait(self, principal: Principal, run_id: UUID) -> RunView:
        """Wait for the end of a run that was started here; that counts as reading.

        Raises what it failed with, NotFound where it is gone by then, and what the database raises.
        """
        run = self._runs.get(run_id)
        if run is not None and run.task is not None:
            run.readers += 1
            try:
                await asyncio.wait([run.task])
            finally:
                run.readers -= 1
                run.read_at = time.monotonic()
            if run.error is not None:
                raise run.error
        async with self._db.transaction(principal) as session:
            return await load_run(session, principal, run_id)

    async def wait_until_begun(self, run_id: UUID, timeout_s: float) -> None:
        """Wait for the first words of a run that was started here, but no longer than `timeout_s`.

        Raises what it failed with instead; later failures are frames.
        """
        run = self._runs.get(run_id)
        if run is None:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await run.has_content.wait()
        if run.error is not None and not run.log.tokens:
            if run.task is not None:
                # Stored first: who asks again at once finds a conversation that is free.
                await asyncio.wait([run.task], timeout=timeout_s)
            raise run.error

    def find_route(self, run_id: UUID) -> Route | None:
        """Return who answers a run that was started here, as far as that is known."""
        run = self._runs.get(run_id)
        if run is None:
            return None
        if run.answer is not None and run.answer.route is not None:
            return run.answer.route
        return Route(run.admitted.candidate.provider.name, run.admitted.model_id, None)

    async def get(self, principal: Principal, run_id: UUID) -> RunState:
        """Return a run as far as it is, and note that somebody asks. Raises NotFound."""
        run = self._find_local(principal, run_id)
        if run is not None:
            run.read_at = time.monotonic()
            return local_state(run)
        async with self._db.transaction(principal) as session:
            view = await load_run(session, principal, run_id)
        if view.record is not None:
            return ended_state(view, view.record)
        await self._rows.see(principal, run_id)
        return running_state(view, await self._hear(run_id))

    async def cancel(self, principal: Principal, run_id: UUID) -> RunState:
        """Ask for the end of a run, wherever it is made; does nothing to one that has ended.

        Raises NotFound.
        """
        run = self._find_local(principal, run_id)
        if run is not None:
            self._stop(run, Stop.CANCELLED)
            return local_state(run)
        await self._rows.request_cancel(principal, run_id)
        return await self.get(principal, run_id)

    def _find_local(self, principal: Principal, run_id: UUID) -> LocalRun | None:
        """Raises NotFound for another user's run."""
        run = self._runs.get(run_id)
        if run is None:
            return None
        owner = run.principal
        if (owner.org_id, owner.user_id) != (principal.org_id, principal.user_id):
            raise NotFound("There is no such run.")
        return run

    async def _hear(self, run_id: UUID) -> Heard:
        try:
            lines = await read_lines(self._redis, run_id)
            return await asyncio.to_thread(rebuild, lines)
        except REDIS_ERRORS as error:
            log.info("run_not_read", error=type(error).__name__)
            return Heard()

    def _make_reader(
        self, principal: Principal, run: LocalRun | None, frames: FrameLog, after: int
    ) -> RunReader:
        """Raises RateLimited for a user with too many."""
        self.refuse_too_many(principal)

        def forget(reader: RunReader) -> None:
            self._readers.discard(reader)
            self._readers_by_user -= Counter([principal.user_id])
            RUN_STREAMS.dec()
            if run is not None:
                run.readers -= 1
                run.read_at = time.monotonic()
            if isinstance(frames, Tail):
                self._tails.leave(frames)

        reader = RunReader(frames, after, on_close=forget)
        self._readers.add(reader)
        self._readers_by_user[principal.user_id] += 1
        RUN_STREAMS.inc()
        if run is not None:
            run.readers += 1
        return reader

    def refuse_too_many(self, principal: Principal) -> None:
        """Raises RateLimited (`too_many_streams`) for a user who has as many as one may."""
        if self._readers_by_user[principal.user_id] >= MAX_READERS_PER_USER:
            raise RateLimited(
                f"At most {MAX_READERS_PER_USER} event streams of a user may be open: close some.",
                code="too_many_streams",
            )

    # Supervision

    def _ensure_tasks(self) -> None:
        if not self._tasks:
            self._tasks = [
                start_apart(self._store.run()),
                start_apart(self._keep_alive()),
                start_apart(self._supervise()),
                start_apart(self._watch_for_stop()),
            ]

    async def _keep_alive(self) -> None:
        """Renew the leases, until cancelled.

        Apart from all else: a run whose lease runs out is closed as lost, and waiting for a busy
        database takes seconds.
        """
        touch_s = min(_TOUCH_S, self._unread_s / 3)
        wait_s = min(_LOOK_S, touch_s)
        while True:
            await asyncio.sleep(wait_s)
            wait_s = min(_LOOK_S, touch_s)
            try:
                await self._touch()
                wait_s = touch_s
            except DATABASE_ERRORS as error:
                log.warning("runs_not_kept_alive", error=type(error).__name__)
            except Exception:  # the next round may go well, and without it runs would be lost
                log.exception("runs_not_kept_alive")

    async def _supervise(self) -> None:
        """Do in few statements what many runs need, until cancelled."""
        keep_at = time.monotonic()
        while True:
            await asyncio.sleep(_LOOK_S)
            try:
                await self._look()
                if time.monotonic() >= keep_at:
                    await self._keep_texts()
                    keep_at = time.monotonic() + _KEEP_TEXT_S
            except DATABASE_ERRORS as error:
                log.warning("runs_not_supervised", error=type(error).__name__)
            except Exception:  # the next round may go well, and without it nothing would
                log.exception("runs_not_supervised")

    async def _look(self) -> None:
        """Hear who wants which run to end, and which have."""
        runs = [run for run in self._runs.values() if run.is_making]
        if not runs:
            return
        begun = [run for run in runs if not run.is_marked]
        news = await self._rows.look([run.key for run in runs], begun=[run.key for run in begun])
        for run in begun:
            run.is_marked = True
        for run in runs:
            self._take_news(run, news[run.begun.run_id])

    def _take_news(self, run: LocalRun, news: RunNews) -> None:
        if news.has_ended:
            self._stop(run, Stop.DELETED if news.is_deleted else Stop.ENDED)
        elif news.is_unwanted:
            self._stop(run, Stop.CANCELLED)

    async def _touch(self) -> None:
        """Say that this process lives and what is read here; cancel what nobody reads."""
        ours = list(self._runs.values())
        touches = [Touch(run.key, is_ours=True, is_read=run.readers > 0) for run in ours]
        touches += [Touch(key, is_ours=False, is_read=True) for key in self._tails.watched()]
        if not touches:
            return
        unseen_s = await self._rows.touch(touches)
        now = time.monotonic()
        for run in ours:
            unread_s = min(unseen_s.get(run.begun.run_id, 0.0), now - run.read_at)
            if unread_s > self._unread_s and not run.readers and not run.is_detached:
                log.info("unread_run_cancelled")
                self._stop(run, Stop.CANCELLED)

    async def _keep_texts(self) -> None:
        """Store how far the answers are, for when this process and Redis are both gone."""
        texts = {}
        new_traces = _MAX_NEW_TRACES
        for run in list(self._runs.values()):
            text = run.log.text if run.is_making else ""
            if len(text) <= run.kept_length or run.answer is None:
                continue
            trace = ""
            if not run.has_kept_trace and new_traces:
                trace = to_json(await run.answer.describe())
                run.has_kept_trace = True
                new_traces -= 1
            run.kept_length = len(text)
            texts[run.principal.org_id, run.begun.message_id] = (text, trace)
        if texts:
            await self._rows.keep_texts(texts)

    # The end of the process

    async def aclose(self) -> None:
        """Let runs go on for what is left of `drain_s`, then end them as failed."""
        self._begin_to_stop()
        tasks = [run.task for run in self._runs.values() if run.task is not None]
        if tasks:
            assert self._stop_at is not None  # noqa: S101  # set above
            await asyncio.wait(tasks, timeout=max(0.0, self._stop_at - time.monotonic()))
            self._interrupt_all()
            await asyncio.wait(tasks, timeout=_LAST_WORDS_S)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._store.finish()
        await self._tails.aclose()

    async def _watch_for_stop(self) -> None:
        """The server waits for its open streams before it closes anything; so look for oneself."""
        while not is_server_stopping():  # noqa: ASYNC110  # the server tells nobody
            await asyncio.sleep(_STOP_LOOK_S)
        self._begin_to_stop()
        await asyncio.sleep(self._drain_s)
        self._interrupt_all()

    def _begin_to_stop(self) -> None:
        if self._stop_at is not None:
            return
        self._stop_at = time.monotonic() + self._drain_s
        for reader in list(self._readers):
            if isinstance(reader.frames, Tail):
                reader.interrupt()  # it comes back to another process

    def _interrupt_all(self) -> None:
        for run in list(self._runs.values()):
            self._stop(run, Stop.SHUTTING_DOWN)

    def _refuse_when_stopping(self) -> None:
        if self._stop_at is not None or is_server_stopping():
            raise Unavailable("The server is restarting.", code="shutting_down", retry_after_s=2)

"""One run of this process: asks, fills the log, and stores the end before it is told."""

import asyncio
import time
from contextlib import aclosing
from dataclasses import dataclass, replace
from enum import StrEnum
from hashlib import sha256

import structlog

from app.accounts.principal import Principal
from app.chat.events import Citation, Done, Failure, Start, Token
from app.chat.pipeline import Admitted, Answer, Answerer, AnswerIds
from app.chat.recording import BegunRun, RunRecord, end_run
from app.chat.run_log import RunLog
from app.chat.run_rows import RunKey
from app.core.db import DATABASE_ERRORS, Database
from app.core.errors import AppError, Unavailable
from app.llm.base import FinishReason, Usage
from app.models.conversations import RunStatus

log = structlog.get_logger(__name__)

# How long the end of a run waits for a database that is away.
_STORE_FOR_S = 8.0
_STORE_PAUSE_S = 0.25

DELETED = Failure("conversation_deleted", "The conversation was deleted.", is_retryable=False)
_NOT_STORED = Failure("storage_unavailable", "The answer could not be stored.", is_retryable=True)

# How an answer ends.
Ending = tuple[Failure | None, Done]


class Stop(StrEnum):
    """Why a run is made no further."""

    CANCELLED = "cancelled"
    SHUTTING_DOWN = "shutting_down"
    ENDED = "ended"  # by the sweeper of another process
    DELETED = "deleted"  # with its conversation


@dataclass(slots=True, eq=False)
class LocalRun:
    """A run that this process makes."""

    principal: Principal
    begun: BegunRun
    admitted: Admitted
    is_detached: bool
    log: RunLog
    read_at: float
    has_content: asyncio.Event
    task: asyncio.Task[None] | None = None
    answer: Answer | None = None
    stop: Stop | None = None
    error: AppError | None = None
    readers: int = 0
    is_marked: bool = False  # as running, in its row
    kept_length: int = 0
    has_kept_trace: bool = False
    is_making: bool = False  # and its task can be cancelled

    @property
    def key(self) -> RunKey:
        return self.principal.org_id, self.begun.run_id


@dataclass(frozen=True, slots=True)
class RunMaker:
    """Makes runs. `slots` bounds how many of them use the database at once to begin or to end."""

    db: Database
    answerer: Answerer
    slots: asyncio.Semaphore

    async def make(self, run: LocalRun) -> Ending | None:
        """Fill the log, freeze it and store the end, which is returned to be told.

        None where somebody else has ended the run: then there is nothing to tell.
        """
        if run.stop is None:
            ending = await self._generate(run)
        else:  # a task that was cancelled before its first step would never have run
            ending = _conclude_stopped(run, run.stop)
        run.log.freeze()
        run.has_content.set()
        if ending is None or run.stop is Stop.DELETED:
            return ending  # there is no row to store it in
        return await self._store_end(run, *ending)

    async def _generate(self, run: LocalRun) -> Ending | None:
        """Fill the log. Returns how the answer ended, None for one that has ended elsewhere."""
        run.is_making = True
        try:
            done = await self._consume(run)
        except asyncio.CancelledError:
            if run.stop is None:
                raise
            return _conclude_stopped(run, run.stop)
        except AppError as error:
            if run.stop is not None:  # a provider may call its cancellation a failure
                return _conclude_stopped(run, run.stop)
            run.error = error
            log.warning("run_failed", code=error.code)
            return _fail(run, Failure.of(error))
        except DATABASE_ERRORS as error:
            log.warning("run_failed", error=type(error).__name__)
            run.error = Unavailable("The database is not available.", code="database_unavailable")
            return _fail(run, Failure.of(run.error))
        except Exception:
            log.exception("run_failed")
            run.error = AppError("Something went wrong on our side.")
            return _fail(run, Failure.of(run.error))
        else:
            return None, done
        finally:
            run.is_making = False

    async def _consume(self, run: LocalRun) -> Done:
        begun = run.begun
        ids = AnswerIds(begun.run_id, begun.message_id, begun.conversation_id)
        prepared = await self.answerer.prepare(run.principal, run.admitted, ids)
        run.answer = answer = Answer(prepared)
        async with aclosing(answer.events()) as events:
            async for event in events:
                if isinstance(event, Done):
                    return event
                if isinstance(event, Start | Token | Citation):
                    run.log.add(event)
                if isinstance(event, Token):
                    run.has_content.set()
                if run.log.is_full and run.log.text == answer.text:
                    break
        return answer.conclude(RunStatus.COMPLETED, FinishReason.LENGTH)

    async def _store_end(self, run: LocalRun, failure: Failure | None, done: Done) -> Ending | None:
        """Store what is about to be told. None where somebody else has ended the run.

        What can't be stored is told as a failure, and the sweeper will store that.
        """
        give_up_at = time.monotonic() + _STORE_FOR_S
        try:
            record = await _record(run, failure, done)
            while True:
                try:
                    async with self.slots, self.db.transaction(run.principal) as session:
                        is_ours = await end_run(session, *run.key, record)
                    return (failure, done) if is_ours else None
                except DATABASE_ERRORS as error:
                    log.warning("run_not_stored", error=type(error).__name__)
                    if time.monotonic() >= give_up_at:
                        return _fail(run, _NOT_STORED)
                await asyncio.sleep(_STORE_PAUSE_S)
        except Exception:  # whatever it is, the reader is owed an end
            log.exception("run_not_stored")
            return _fail(run, _NOT_STORED)


def _conclude_stopped(run: LocalRun, stop: Stop) -> Ending | None:
    task = asyncio.current_task()
    assert task is not None  # noqa: S101  # runs in one
    task.uncancel()
    if stop is Stop.ENDED:
        return None
    if stop is Stop.DELETED:
        return _fail(run, DELETED)
    if stop is Stop.CANCELLED:
        return None, _conclude(run, RunStatus.CANCELLED, "cancelled")
    run.error = Unavailable("The server is restarting.", code="shutting_down")
    return _fail(run, Failure.of(run.error))


async def _record(run: LocalRun, failure: Failure | None, done: Done) -> RunRecord:
    return RunRecord(
        start=run.log.start,
        text=run.log.text,
        tokens=run.log.tokens,
        citations=run.log.citations,
        failure=failure,
        done=done,
        last_event_id=run.log.last_id + (1 if failure is None else 2),
        trace=None if run.answer is None else await run.answer.describe(),
    )


def _conclude(run: LocalRun, status: RunStatus, finish_reason: str) -> Done:
    """Return the end of an answer that came to no end of its own."""
    text = run.log.text
    done = (
        run.answer.conclude(status, finish_reason)
        if run.answer is not None
        else Done(
            status=status,
            finish_reason=finish_reason,
            usage=Usage(0, 0),
            model_version=run.admitted.model_id,
            cost_usd="0",
            answer_sha256="",
            degraded=False,
            dropped_markers=0,
        )
    )
    # Of what is told: the answer may be ahead of it.
    return replace(done, answer_sha256=sha256(text.encode()).hexdigest())


def _fail(run: LocalRun, failure: Failure) -> Ending:
    return failure, _conclude(run, RunStatus.FAILED, "error")

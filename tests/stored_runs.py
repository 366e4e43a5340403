"""Runs that a test ends itself, as the task that answers would have done it."""

import hashlib
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from sqlalchemy import text

from app.accounts.principal import Principal
from app.chat.events import (
    Citation,
    Done,
    Event,
    Failure,
    SourceInfo,
    Start,
    Token,
    UnreadyDocument,
)
from app.chat.recording import BegunRun, RunRecord, RunRequest, begin_run, end_run
from app.core.db import Database
from app.core.ids import new_id
from app.llm.base import Usage
from app.models.accounts import MemberRole
from app.models.conversations import RunStatus

MODEL = "extractive/extractive"
QUOTE = "The quokka lives on Rottnest Island."
ANSWER = "The quokka lives on Rottnest Island [1]. It smiles."


@dataclass(frozen=True, slots=True)
class Ended:
    """A run with what was sent live."""

    begun: BegunRun
    record: RunRecord
    events: list[tuple[int, Event]]


def principal_of(org_id: UUID, user_id: UUID) -> Principal:
    return Principal(user_id, org_id, MemberRole.OWNER, new_id())


async def begin(db: Database, who: Principal, question: str | None, **fields: Any) -> BegunRun:
    async with db.transaction(who) as session:
        return await begin_run(session, who, RunRequest(question, MODEL, **fields))


async def ask(
    db: Database, who: Principal, question: str | None, *, document_id: UUID, **fields: Any
) -> Ended:
    """Begin a run and end it with an answer that cites `document_id`, called quokka.txt."""
    ended = answer_with(await begin(db, who, question, **fields), document_id)
    async with db.transaction(who) as session:
        assert await end_run(session, who.org_id, ended.begun.run_id, ended.record)
    return ended


def answer_with(begun: BegunRun, document_id: UUID) -> Ended:
    """Return a whole answer of two tokens with a citation before the second."""
    chunk_id, cut = new_id(), ANSWER.index("[1]")
    start = Start(
        run_id=begun.run_id,
        message_id=begun.message_id,
        conversation_id=begun.conversation_id,
        model=MODEL,
        sources=(SourceInfo(1, document_id, chunk_id, "quokka.txt", 1, 2, 0.8125),),
        unready_documents=(UnreadyDocument(document_id, "quokka.txt", "processing"),),
    )
    citation = Citation(
        n=1,
        document_id=document_id,
        filename="quokka.txt",
        chunk_id=chunk_id,
        chunk_index=0,
        text="",
        page_start=1,
        page_end=1,
        page_label="iv",
        quote=QUOTE,
        quote_start=0,
        quote_end=len(QUOTE),
        chunk_start=0,
        chunk_end=len(QUOTE),
        answer_start=cut,
        score=0.8125,
        verified=True,
        missing_numbers=("12", "7"),
    )
    done = Done(
        status=RunStatus.COMPLETED,
        finish_reason="stop",
        usage=Usage(120, 12, is_estimated=True),
        model_version="extractive-1",
        cost_usd="0.000784",
        answer_sha256=hashlib.sha256(ANSWER.encode()).hexdigest(),
        degraded=False,
        dropped_markers=2,
        unsupported=((cut + 5, len(ANSWER)),),
    )
    events: list[tuple[int, Event]] = [
        (1, start),
        (2, Token(ANSWER[:cut], 0)),
        (3, citation),
        (5, Token(ANSWER[cut:], cut)),
        (6, done),
    ]
    record = RunRecord(
        start=start,
        text=ANSWER,
        tokens=((2, 0), (5, cut)),
        citations=((3, citation),),
        failure=None,
        done=done,
        last_event_id=6,
        trace={"asked": "Where?", "candidates": [{"document_id": str(document_id), "rank": 1}]},
    )
    return Ended(begun, record, events)


def failed_with(ended: Ended, *, text: str = "") -> RunRecord:
    """Return the record of a run that broke off before its sources were known."""
    done = replace(
        ended.record.done,
        status=RunStatus.FAILED,
        finish_reason="error",
        model_version="",
        cost_usd=None,
        answer_sha256=hashlib.sha256(text.encode()).hexdigest(),
        unsupported=(),
    )
    return RunRecord(
        start=None,
        text=text,
        tokens=(),
        citations=(),
        failure=Failure("stream_interrupted", "The server stopped.", is_retryable=True),
        done=done,
        last_event_id=9,
    )


async def count_of(db: Database, table: str, **where: Any) -> int:
    """Count rows of any organization; `table` and the names of `where` are the test's own."""
    condition = " AND ".join(f"{name} = :{name}" for name in where) or "true"
    async with db.system_transaction() as session:
        found = await session.scalar(text(f"SELECT count(*) FROM {table} WHERE {condition}"), where)
    return int(found or 0)

"""What is kept of a run: begun with its question, ended once, told again frame by frame."""

import asyncio
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from app.accounts.principal import Principal
from app.chat.conversations import delete_conversation
from app.chat.events import Citation, Snapshot, Start, to_frame
from app.chat.recording import RunRecord, end_run, events_of, load_run
from app.chat.stored_answers import to_nano, to_usd
from app.chat.titles import make_title
from app.core.db import Database
from app.core.errors import Conflict, InvalidRequest, NotFound
from app.core.ids import new_id
from app.llm.base import Message, Role
from app.models.conversations import MAX_EVENTS, RunStatus
from tests.stored import store_organization
from tests.stored_runs import (
    ANSWER,
    MODEL,
    QUOTE,
    answer_with,
    ask,
    begin,
    count_of,
    failed_with,
    principal_of,
)

USER, ASSISTANT, SYSTEM = Role.USER, Role.ASSISTANT, Role.SYSTEM


@pytest.fixture
async def who(db: Database) -> Principal:
    """An organization with one user."""
    org_id, user_id = new_id(), new_id()
    async with db.system_transaction() as session:
        await store_organization(session, org_id, user_id)
    return principal_of(org_id, user_id)


@pytest.fixture
async def document_id(db: Database, who: Principal) -> UUID:
    document_id = new_id()
    async with db.system_transaction() as session:
        await session.execute(
            text(
                "INSERT INTO documents (org_id, id, uploaded_by, filename, media_type, size_bytes,"
                " sha256, status, generation, ready_version, chunk_count, ready_filename,"
                " ready_media_type)"
                " VALUES (:o, :d, :u, 'newer.txt', 'text/plain', 1,"
                " :s, 'ready', 1, 1, 1, 'quokka.txt', 'text/plain')"
            ),
            {"o": who.org_id, "d": document_id, "u": who.user_id, "s": uuid4().bytes},
        )
    return document_id


async def change_document(db: Database, document_id: UUID, assignments: str) -> None:
    async with db.system_transaction() as session:
        await session.execute(
            text(f"UPDATE documents SET {assignments} WHERE id = :id"), {"id": document_id}
        )


async def read_messages(db: Database, conversation_id: UUID) -> list[Any]:
    async with db.system_transaction() as session:
        rows = await session.execute(
            text("SELECT * FROM messages WHERE conversation_id = :id ORDER BY id"),
            {"id": conversation_id},
        )
        return list(rows)


def user(content: str) -> Message:
    return Message(USER, content)


# Begin


async def test_the_first_question_begins_a_conversation_with_its_history(
    db: Database, who: Principal
) -> None:
    history = (
        Message(SYSTEM, "Be brief."),
        user("What is a quokka? Say."),
        Message(ASSISTANT, "A marsupial."),
    )
    begun = await begin(db, who, "Where does it live?", history=history)
    assert begun.messages == (*history, user("Where does it live?"))
    rows = await read_messages(db, begun.conversation_id)
    assert [(row.role, row.content) for row in rows] == [
        ("user", "What is a quokka? Say."),
        ("assistant", "A marsupial."),
        ("user", "Where does it live?"),
        ("assistant", ""),
    ]
    assert [row.parent_id for row in rows] == [None, *(row.id for row in rows[:-1])]
    assert rows[-1].id == begun.message_id
    assert "'quokka':4" in rows[0].terms and "'live':" in rows[2].terms
    async with db.system_transaction() as session:
        conversation = (
            await session.execute(
                text("SELECT * FROM conversations WHERE id = :id"), {"id": begun.conversation_id}
            )
        ).one()
        run = (
            await session.execute(
                text("SELECT *, lease_expires_at - created_at AS lease FROM runs WHERE id = :id"),
                {"id": begun.run_id},
            )
        ).one()
    assert conversation.title == "What is a quokka?"
    assert (conversation.org_id, conversation.user_id) == (who.org_id, who.user_id)
    assert (run.status, run.model, run.is_detached) == ("queued", MODEL, False)
    assert (run.message_id, run.user_id) == (begun.message_id, who.user_id)
    assert run.lease.total_seconds() == 12


async def test_a_follow_up_goes_below_the_newest_answer(
    db: Database, who: Principal, document_id: UUID
) -> None:
    first = await ask(db, who, "Where does the quokka live?", document_id=document_id)
    begun = await begin(
        db, who, "And what does it do?", conversation_id=first.begun.conversation_id
    )
    assert begun.conversation_id == first.begun.conversation_id
    assert begun.messages == (
        user("Where does the quokka live?"),
        Message(ASSISTANT, ANSWER),
        user("And what does it do?"),
    )
    rows = await read_messages(db, begun.conversation_id)
    assert rows[2].parent_id == first.begun.message_id
    assert await count_of(db, "conversations", org_id=who.org_id) == 1


async def test_an_answer_is_replaced_by_a_sibling_and_nothing_is_overwritten(
    db: Database, who: Principal, document_id: UUID
) -> None:
    first = await ask(db, who, "Where?", document_id=document_id)
    key = {"conversation_id": first.begun.conversation_id}
    second = await ask(
        db, who, None, document_id=document_id, replaces=first.begun.message_id, **key
    )
    assert second.begun.messages == (user("Where?"),)
    rows = await read_messages(db, first.begun.conversation_id)
    assert [row.role for row in rows] == ["user", "assistant", "assistant"]
    assert {row.parent_id for row in rows[1:]} == {rows[0].id}
    assert [row.content for row in rows[1:]] == [ANSWER, ANSWER]


async def test_an_edited_question_is_a_sibling_with_an_answer_of_its_own(
    db: Database, who: Principal, document_id: UUID
) -> None:
    first = await ask(db, who, "Where?", document_id=document_id)
    key = {"conversation_id": first.begun.conversation_id}
    follow_up = await ask(db, who, "Why?", document_id=document_id, **key)
    question_id = (await read_messages(db, first.begun.conversation_id))[2].id
    edited = await begin(db, who, "Why there?", replaces=question_id, **key)
    assert [each.content for each in edited.messages] == ["Where?", ANSWER, "Why there?"]
    rows = await read_messages(db, first.begun.conversation_id)
    assert rows[4].parent_id == rows[2].parent_id == first.begun.message_id
    assert rows[5].parent_id == rows[4].id and rows[3].id == follow_up.begun.message_id


async def test_a_question_can_follow_any_answer(
    db: Database, who: Principal, document_id: UUID
) -> None:
    first = await ask(db, who, "Where?", document_id=document_id)
    key = {"conversation_id": first.begun.conversation_id}
    await ask(db, who, "Why?", document_id=document_id, **key)
    begun = await begin(db, who, "Since when?", parent_id=first.begun.message_id, **key)
    assert [each.content for each in begun.messages] == ["Where?", ANSWER, "Since when?"]


async def test_only_the_newest_messages_come_along(db: Database, who: Principal) -> None:
    history = tuple(user(f"Question {n}") for n in range(250))
    begun = await begin(db, who, "Now?", history=history)
    async with db.transaction(who) as session:
        ended = answer_with(begun, new_id())
        await end_run(session, who.org_id, begun.run_id, replace(ended.record, citations=()))
    follow_up = await begin(db, who, "Then?", conversation_id=begun.conversation_id)
    contents = [each.content for each in follow_up.messages]
    assert len(contents) == 201
    assert contents[0] == "Question 52" and contents[-3:] == ["Now?", ANSWER, "Then?"]


async def test_messages_sort_by_id_in_the_order_they_were_made(
    db: Database, who: Principal
) -> None:
    """Many within one millisecond, where a UUIDv7 is random."""
    history = tuple(user(f"{n}") for n in range(199))
    begun = await begin(db, who, "199", history=history)
    rows = await read_messages(db, begun.conversation_id)
    assert [row.content for row in rows] == [*(f"{n}" for n in range(200)), ""]


async def test_two_runs_at_once_are_a_conflict(db: Database, who: Principal) -> None:
    begun = await begin(db, who, "Where?")
    for fields in ({}, {"replaces": begun.message_id}, {"parent_id": begun.message_id}):
        question = None if "replaces" in fields else "Why?"
        with pytest.raises(Conflict) as conflict:
            await begin(db, who, question, conversation_id=begun.conversation_id, **fields)
        assert conflict.value.code == "run_active"
    assert len(await read_messages(db, begun.conversation_id)) == 2


async def test_of_many_that_begin_at_once_one_does(db: Database, who: Principal) -> None:
    begun = await begin(db, who, "Where?")
    async with db.transaction(who) as session:
        await end_run(session, who.org_id, begun.run_id, failed_with(answer_with(begun, new_id())))
    results = await asyncio.gather(
        *(begin(db, who, f"{n}?", conversation_id=begun.conversation_id) for n in range(5)),
        return_exceptions=True,
    )
    assert sum(isinstance(each, Conflict) for each in results) == 4
    assert len(await read_messages(db, begun.conversation_id)) == 4


async def test_what_does_not_fit_is_refused(
    db: Database, who: Principal, document_id: UUID
) -> None:
    ended = await ask(
        db, who, "Where?", document_id=document_id, history=(Message(ASSISTANT, "Hi"),)
    )
    greeting, question, answer = (
        row.id for row in await read_messages(db, ended.begun.conversation_id)
    )
    key = {"conversation_id": ended.begun.conversation_id}
    for asked, fields in (
        (None, {}),
        (None, key),
        ("Why?", {"parent_id": answer}),
        ("Why?", {"replaces": answer}),
        ("Why?", key | {"parent_id": question}),
        ("Why?", key | {"replaces": answer}),
        ("Why?", key | {"replaces": question, "parent_id": answer}),
        (None, key | {"replaces": question}),
        (None, key | {"replaces": greeting}),
    ):
        with pytest.raises(InvalidRequest):
            await begin(db, who, asked, **fields)
    other = await begin(db, who, "Elsewhere?")
    for fields in ({"replaces": other.message_id}, {"parent_id": other.message_id}):
        with pytest.raises(NotFound):
            await begin(db, who, None if "replaces" in fields else "?", **key, **fields)
    assert len(await read_messages(db, ended.begun.conversation_id)) == 3


async def test_another_users_conversation_is_not_found(db: Database, who: Principal) -> None:
    begun = await begin(db, who, "Where?")
    colleague = replace(who, user_id=new_id())
    foreigner = principal_of(new_id(), who.user_id)
    for other in (colleague, foreigner):
        with pytest.raises(NotFound):
            await begin(db, other, "Why?", conversation_id=begun.conversation_id)
        async with db.transaction(other) as session:
            with pytest.raises(NotFound):
                await load_run(session, other, begun.run_id)


@pytest.mark.parametrize(
    ("question", "title"),
    [
        ("What were net sales? And why?", "What were net sales?"),
        ("  Two\t words \n\nand more", "Two words"),
        ("x" * 200, "x" * 79 + "…"),
        ("a word " * 40, "a word " * 11 + "a…"),
        ("日本" * 100, "日本" * 39 + "日…"),
        ("???", "???"),
    ],
)
def test_a_title_is_the_first_sentence_and_short(question: str, title: str) -> None:
    assert make_title(question) == title
    assert len(title) <= 80


# End


async def test_what_was_sent_live_is_told_again(
    db: Database, who: Principal, document_id: UUID
) -> None:
    ended = await ask(db, who, "Where?", document_id=document_id)
    async with db.transaction(who) as session:
        view = await load_run(session, who, ended.begun.run_id)
    assert view.status is RunStatus.COMPLETED and view.text == ANSWER
    assert view.record == ended.record
    assert events_of(view) == ended.events
    assert [to_frame(event) for _, event in events_of(view)] == [
        to_frame(event) for _, event in ended.events
    ]


async def test_a_run_that_goes_on_has_no_record_yet(db: Database, who: Principal) -> None:
    begun = await begin(db, who, "Where?")
    async with db.transaction(who) as session:
        view = await load_run(session, who, begun.run_id)
    assert (view.status, view.text, view.record) == (RunStatus.QUEUED, "", None)
    assert (view.run_id, view.message_id, view.model) == (begun.run_id, begun.message_id, MODEL)
    assert events_of(view) == []


async def test_a_run_that_failed_before_its_sources_were_known(
    db: Database, who: Principal
) -> None:
    begun = await begin(db, who, "Where?")
    record = failed_with(answer_with(begun, new_id()))
    async with db.transaction(who) as session:
        assert await end_run(session, who.org_id, begun.run_id, record)
        view = await load_run(session, who, begun.run_id)
    assert view.record == replace(record, trace={})  # nothing is known of it
    assert events_of(view) == [(8, record.failure), (9, record.done)]
    # An answer without a word is nothing that a model could go on from.
    follow_up = await begin(db, who, "Why?", conversation_id=begun.conversation_id)
    assert follow_up.messages == (user("Where?"), user("Why?"))


async def test_a_run_closed_for_a_dead_process_is_told_with_a_snapshot(
    db: Database, who: Principal, document_id: UUID
) -> None:
    begun = await begin(db, who, "Where?")
    whole = answer_with(begun, document_id).record
    record = replace(
        failed_with(answer_with(begun, document_id), text=ANSWER[:10]),
        snapshot_id=MAX_EVENTS + 1,
        last_event_id=MAX_EVENTS + 3,
    )
    async with db.system_transaction() as session:
        assert await end_run(session, who.org_id, begun.run_id, record)
    async with db.transaction(who) as session:
        view = await load_run(session, who, begun.run_id)
    start = Start(begun.run_id, begun.message_id, begun.conversation_id, MODEL, ())
    assert events_of(view) == [
        (MAX_EVENTS + 1, Snapshot(start, ANSWER[:10], ())),
        (MAX_EVENTS + 2, record.failure),
        (MAX_EVENTS + 3, record.done),
    ]
    assert whole.text != view.text


async def test_a_run_ends_once(db: Database, who: Principal, document_id: UUID) -> None:
    begun = await begin(db, who, "Where?")
    whole = answer_with(begun, document_id)
    failed = replace(failed_with(whole), trace={})
    records = [whole.record, failed, whole.record, failed]

    async def end(record: RunRecord) -> bool:
        async with db.transaction(who) as session:
            return await end_run(session, who.org_id, begun.run_id, record)

    results = await asyncio.gather(*map(end, records))
    assert sum(results) == 1
    async with db.transaction(who) as session:
        view = await load_run(session, who, begun.run_id)
    assert view.record == records[results.index(True)]


async def test_a_run_whose_conversation_was_deleted_has_ended(
    db: Database, who: Principal, document_id: UUID
) -> None:
    begun = await begin(db, who, "Where?")
    async with db.transaction(who) as session:
        await delete_conversation(session, who, begun.conversation_id)
    async with db.transaction(who) as session:
        assert not await end_run(
            session, who.org_id, begun.run_id, answer_with(begun, document_id).record
        )
    for table in ("conversations", "messages", "runs", "citations"):
        assert await count_of(db, table, org_id=who.org_id) == 0, table


async def test_ending_and_deleting_at_once_never_deadlock(
    db: Database, who: Principal, document_id: UUID
) -> None:
    async def end(begun: Any) -> None:
        async with db.transaction(who) as session:
            record = answer_with(begun, document_id).record
            await end_run(session, who.org_id, begun.run_id, record)

    async def delete(begun: Any) -> None:
        async with db.transaction(who) as session:
            await delete_conversation(session, who, begun.conversation_id)

    for _ in range(20):
        begun = await begin(db, who, "Where?")
        await asyncio.gather(end(begun), delete(begun))
    assert await count_of(db, "messages", org_id=who.org_id) == 0


async def test_text_that_postgres_refuses_is_made_storable(
    db: Database, who: Principal, document_id: UUID
) -> None:
    begun = await begin(db, who, "Where?")
    record = answer_with(begun, document_id).record
    odd = replace(
        record,
        text="a\x00b\ud800c",
        tokens=((2, 0),),
        citations=(),
        trace={"asked\x00": ["\x00", {"x": "\udfff"}]},
        done=replace(record.done, model_version="m\x00"),
    )
    async with db.transaction(who) as session:
        assert await end_run(session, who.org_id, begun.run_id, odd)
        view = await load_run(session, who, begun.run_id)
    assert view.text == "a\ufffdb\ufffdc"
    assert view.record is not None
    assert view.record.trace == {"asked\ufffd": ["\ufffd", {"x": "\ufffd"}]}


async def test_an_answer_of_any_length_and_script_is_stored(
    db: Database, who: Principal, document_id: UUID
) -> None:
    for content in (
        "".join(chr(0x4E00 + n % 20_000) for n in range(400_000)),
        "ab1 " * 100_000,
        "R&" * 5_000,
    ):
        begun = await begin(db, who, content[:10_000])
        record = answer_with(begun, document_id).record
        async with db.transaction(who) as session:
            assert await end_run(
                session, who.org_id, begun.run_id, replace(record, text=content, citations=())
            )


# Documents that go


@pytest.mark.parametrize("gone", ["deleted_at = now()", "expires_at = now()"])
async def test_a_document_that_is_gone_takes_its_name_and_quotes_along(
    db: Database, who: Principal, document_id: UUID, gone: str
) -> None:
    ended = await ask(db, who, "Where?", document_id=document_id)
    await change_document(db, document_id, gone)
    async with db.transaction(who) as session:
        events = dict(events_of(await load_run(session, who, ended.begun.run_id)))
    start, citation = events[1], events[3]
    assert isinstance(start, Start) and isinstance(citation, Citation)
    assert start.sources[0].filename == start.unready_documents[0].filename == ""
    assert (citation.filename, citation.quote) == ("", "")
    assert (citation.page_start, citation.quote_end) == (1, len(QUOTE))


async def test_a_quote_of_a_document_that_was_deleted_meanwhile_is_not_stored(
    db: Database, who: Principal, document_id: UUID
) -> None:
    begun = await begin(db, who, "Where?")
    await change_document(db, document_id, "deleted_at = now()")
    async with db.transaction(who) as session:
        await end_run(session, who.org_id, begun.run_id, answer_with(begun, document_id).record)
    async with db.system_transaction() as session:
        quotes = await session.scalars(
            text("SELECT quote FROM citations WHERE message_id = :id"), {"id": begun.message_id}
        )
        assert list(quotes) == [None]


# Money


@pytest.mark.parametrize(
    ("usd", "nano"),
    [("0", 0), ("0.000784", 784_000), ("12", 12_000_000_000), ("0.000000001", 1), (None, None)],
)
def test_a_price_survives_being_stored(usd: str | None, nano: int | None) -> None:
    assert to_nano(usd) == nano
    assert to_usd(nano) == usd

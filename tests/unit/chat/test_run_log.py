"""The log of a run: ids without holes, tokens that are joined, and any place to go on from."""

import asyncio
import hashlib
import json
import random
from typing import Any
from uuid import UUID, uuid4

import pytest

from app.accounts.principal import Principal
from app.chat.events import Citation, Done, Event, Failure, SourceInfo, Start, Token, to_frame
from app.chat.run_frames import rebuild
from app.chat.run_log import FrameLog, RunLog, to_line
from app.chat.run_reader import RunReader
from app.chat.run_tails import Tail, fill
from app.core.errors import NotAuthenticated
from app.core.sse import encode_frame, line_of, to_json_line
from app.llm.base import Usage
from app.models.accounts import MemberRole
from app.models.conversations import MAX_EVENTS, RunStatus

IDS = [UUID(int=n) for n in range(1, 6)]
START = Start(
    IDS[0],
    IDS[1],
    IDS[2],
    "openai/gpt-4.1-mini",
    (SourceInfo(1, IDS[3], IDS[4], "zoo.pdf", 1, 2, 0.8125),),
)
DONE = Done(RunStatus.COMPLETED, "stop", Usage(3, 4), "gpt", None, "00", False, 0)


class Watch:
    """Notes what a log asks for."""

    def __init__(self) -> None:
        self.pending: list[RunLog] = []
        self.told = 0

    def has_pending(self, log: RunLog) -> None:
        self.pending.append(log)

    def has_frames(self, log: RunLog) -> None:
        self.told += 1


def citation(n: int, at: int) -> Citation:
    return Citation(
        n=n,
        document_id=IDS[3],
        filename="zoo.pdf",
        chunk_id=IDS[4],
        chunk_index=0,
        text="",
        page_start=1,
        page_end=1,
        page_label=None,
        quote="seven zebras",
        quote_start=0,
        quote_end=12,
        chunk_start=0,
        chunk_end=12,
        answer_start=at,
        score=0.25,
        verified=True,
        missing_numbers=("7",),
    )


def frames_of(log: FrameLog, after: int = 0) -> list[tuple[int, dict[str, object]]]:
    frames = []
    while (step := log.read(after))[1]:
        after, encoded = step
        for block in encoded.split(b"\n\n")[:-1]:
            number, line = block.split(b"\n")
            frames.append((int(number.removeprefix(b"id: ")), json.loads(line[6:])))
    return frames


def lines_of(log: FrameLog) -> list[tuple[int, bytes]]:
    """Where no id is missing."""
    return list(enumerate(log.lines_after(0, limit=9999), start=1))


def types_of(log: FrameLog) -> list[object]:
    return [frame["type"] for _, frame in frames_of(log)]


def text_of(log: FrameLog) -> str:
    return "".join(str(f["token"]) for _, f in frames_of(log) if f["type"] == "token")


def write(log: RunLog, pieces: list[str]) -> None:
    at = 0
    for piece in pieces:
        log.add(Token(piece, at))
        at += len(piece)


def test_the_first_token_is_told_at_once_and_the_others_together() -> None:
    watch = Watch()
    log = RunLog(watch)
    log.add(START)
    write(log, ["Seven", " zebras", " and", " a lion"])
    assert [frame for _, frame in frames_of(log)][1:] == [
        {"type": "token", "token": "Seven", "offset": 0}
    ]
    assert watch.pending == [log]
    log.flush()
    log.flush()
    assert frames_of(log)[2:] == [
        (3, {"type": "token", "token": " zebras and a lion", "offset": 5})
    ]
    assert log.tokens == [(2, 0), (3, 5)]


def test_a_citation_and_the_end_send_on_what_came_before() -> None:
    log = RunLog(Watch())
    log.add(START)
    write(log, ["a", "b", "c"])
    log.add(citation(1, 3))
    log.add(Token(" [1]", 3))
    log.add(Token(" d", 7))
    log.finish(None, DONE)
    assert types_of(log) == ["start", "token", "token", "citation", "token", "done"]
    assert log.is_closed
    assert [number for number, _ in frames_of(log)] == [1, 2, 3, 4, 5, 6]
    assert text_of(log) == log.text == "abc [1] d"
    assert [number for number, _ in log.citations] == [4]


def test_a_failure_comes_before_the_end() -> None:
    log = RunLog(Watch())
    log.finish(Failure("provider_timeout", "Too slow.", is_retryable=True), DONE)
    assert types_of(log) == ["error", "done"]


def test_after_it_is_frozen_a_log_tells_only_the_end() -> None:
    log = RunLog(Watch())
    log.add(START)
    write(log, ["a", "b"])
    log.freeze()
    last = log.last_id
    assert log.add_snapshot() is None
    log.finish(None, DONE)
    assert log.last_id == last + 1


@pytest.mark.parametrize("seed", range(20))
def test_any_place_to_go_on_from_gives_the_same_text(seed: int) -> None:
    dice = random.Random(seed)
    log = RunLog(Watch())
    log.add(START)
    whole = ""
    for _ in range(dice.randrange(5, 60)):
        piece = dice.choice(["word ", "\n\n", "id: 3\n", "🌀", "\u2028", "x" * 3000, '"\\'])
        log.add(Token(piece, len(whole)))
        whole += piece
        if dice.random() < 0.3:
            log.flush()
        if dice.random() < 0.1:
            log.add(citation(1, len(whole)))
    log.finish(None, DONE)
    frames = frames_of(log)
    assert [number for number, _ in frames] == list(range(1, len(frames) + 1))
    assert text_of(log) == whole
    for place in range(len(frames) + 1):
        assert frames_of(log, place) == frames[place:]
    # From the lines alone, all of it is known again.
    heard = rebuild(lines_of(log))
    assert (heard.start, heard.text) == (START, whole)
    assert heard.tokens == log.tokens
    assert heard.citations == log.citations
    assert hashlib.sha256(heard.text.encode()).digest() == hashlib.sha256(whole.encode()).digest()


def test_a_snapshot_stands_for_all_before_it() -> None:
    log = RunLog(Watch())
    log.add(START)
    write(log, ["one ", "two "])
    log.add(citation(1, 8))
    assert log.add_snapshot() == 5
    log.add(Token("three", 8))
    log.finish(None, DONE)
    heard = rebuild(lines_of(log)[4:])
    assert (heard.start, heard.text) == (START, "one two three")
    assert heard.tokens == [(5, 0), (6, 8)]
    assert [each for _, each in heard.citations] == [citation(1, 8)]
    # Without the sources there is nothing yet to begin again with.
    assert RunLog(Watch()).add_snapshot() is None


def test_one_read_is_bounded() -> None:
    log = FrameLog()
    for number in range(1, 101):
        log.append(number, b"x" * 10_000)
    last, encoded = log.read(0)
    assert last < 10
    assert len(encoded) < 70_000
    assert log.read(100) == (100, b"")
    log.append(101, b"y" * 1_000_000)  # longer than what one read takes
    assert log.read(100)[0] == 101


def test_a_log_says_when_it_is_full() -> None:
    log = RunLog(Watch())
    log.add(START)
    log.add(Token("ü" * 500_001, 0))
    assert log.is_full
    many = RunLog(Watch())
    many.add(START)
    for n in range(MAX_EVENTS):
        if many.is_full:
            break
        many.add(Token("x", n))
        many.flush()
    assert MAX_EVENTS - 200 < many.last_id < MAX_EVENTS
    while many.add_snapshot() is not None:
        pass
    many.finish(Failure("x", "x", is_retryable=False), DONE)
    assert many.last_id < MAX_EVENTS


async def test_who_waits_is_woken_by_a_frame_by_the_end_by_time_and_by_hand() -> None:
    log = FrameLog()
    closed: list[RunReader] = []
    reader = RunReader(log, 0, on_close=closed.append)

    async def next_of(reader: RunReader, timeout_s: float = 60.0) -> bytes | None:
        taking = asyncio.create_task(reader.take(timeout_s))
        await asyncio.sleep(0)
        if pending:
            pending.pop()()
        return await taking

    async with asyncio.timeout(10):
        pending: list[Any] = [lambda: log.append(1, b"{}")]
        assert await next_of(reader) == b"id: 1\ndata: {}\n\n"
        assert await next_of(reader, 0.01) == b""
        assert await next_of(reader, 0.02) == b""
        pending = [lambda: log.append(2, b"{}")]
        assert await next_of(reader) == b"id: 2\ndata: {}\n\n"
        other = RunReader(log, 2, on_close=closed.append)
        pending = [other.interrupt]
        assert await next_of(other) is None
        pending = [log.close]
        assert await next_of(reader) is None
    assert not log._waiting
    reader.close()
    reader.close()
    assert closed == [reader]


async def test_the_right_to_read_is_asked_for_again() -> None:
    asked = 0

    async def confirm() -> None:
        nonlocal asked
        asked += 1
        if asked == 2:
            raise OSError("the database is away")
        if asked == 3:
            raise NotAuthenticated("Revoked.", code="token_revoked")

    log = FrameLog()
    reader = RunReader(log, 0, on_close=lambda _: None)
    reader.confirm_with(confirm, every_s=0.01)
    log.append(1, b"{}")
    async with asyncio.timeout(10):
        assert await reader.take(60.0) == b"id: 1\ndata: {}\n\n"
        refusal = await reader.take(60.0)
        assert refusal is not None and b"token_revoked" in refusal
        assert await reader.take(60.0) is None
    assert asked == 3


async def test_no_frame_waits_for_the_right_to_read_on() -> None:
    asked, answered = asyncio.Event(), asyncio.Event()

    async def confirm() -> None:
        asked.set()
        await answered.wait()
        raise NotAuthenticated("Revoked.", code="token_revoked")

    log = FrameLog()
    reader = RunReader(log, 0, on_close=lambda _: None)
    reader.confirm_with(confirm, every_s=60, is_due=True)
    async with asyncio.timeout(10):
        await asked.wait()
        log.append(1, b"{}")
        assert await reader.take(60.0) == b"id: 1\ndata: {}\n\n"
        taking = asyncio.create_task(reader.take(60.0))
        answered.set()
        assert b"token_revoked" in (await taking or b"")
        assert await reader.take(60.0) is None


async def test_who_cannot_be_asked_about_for_an_unknown_reason_reads_no_more() -> None:
    async def confirm() -> None:
        raise LookupError

    reader = RunReader(FrameLog(), 0, on_close=lambda _: None)
    reader.confirm_with(confirm, every_s=60, is_due=True)
    async with asyncio.timeout(10):
        assert await reader.take(60.0) is None


async def test_a_closed_reader_is_confirmed_no_more() -> None:
    asked, given_up = asyncio.Event(), asyncio.Event()

    async def confirm() -> None:
        asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            given_up.set()

    reader = RunReader(FrameLog(), 0, on_close=lambda _: None)
    reader.confirm_with(confirm, every_s=60, is_due=True)
    async with asyncio.timeout(10):
        await asked.wait()
        reader.close()
        await given_up.wait()


def test_frames_and_lines_are_each_others_inverse() -> None:
    event: Event = Token('a "quoted"\nline\u2028', 0)
    line = to_line(event)
    assert line.count(b"\n") == 0
    assert line_of(encode_frame(17, line)) == line
    assert encode_frame(17, line) == b"id: 17\ndata: " + line + b"\n\n"


@pytest.mark.parametrize("text", ["", "Zoë \u2028\u2029", "\x00\x1f\x7f", "🌀\ud800", 'a"b\\c\n</'])
def test_the_line_of_a_token_is_the_one_of_its_frame(text: str) -> None:
    event = Token(text, 12)
    assert to_line(event) == to_json_line(to_frame(event)).encode()


# Logs of other processes' runs


def tail() -> Tail:
    return Tail(Principal(uuid4(), uuid4(), MemberRole.MEMBER, uuid4()), uuid4())


def test_a_tail_takes_what_follows_and_waits_at_a_hole_for_a_snapshot() -> None:
    log = RunLog(Watch())
    log.add(START)
    write(log, ["a", "b"])
    log.flush()
    log.add(Token("c", 2))
    snapshot_id = log.add_snapshot()
    log.add(Token("d", 3))
    log.finish(None, DONE)
    lines = lines_of(log)
    whole = tail()
    for number, line in lines:
        whole.hear(number, line)
    assert whole.is_closed
    assert frames_of(whole) == frames_of(log)
    holed = tail()
    for number, line in lines:
        if number not in (2, 3):
            holed.hear(number, line)
    assert [n for n, _ in frames_of(holed)] == [1, *range(snapshot_id or 0, log.last_id + 1)]
    again = tail()
    for number, line in [*lines[:3], *lines]:
        again.hear(number, line)
    assert frames_of(again) == frames_of(log)


async def test_the_rest_is_told_once() -> None:
    log = tail()
    log.hear(1, to_line(START))
    log.hear(2, to_line(Token("a", 0)))
    events: list[tuple[int, Event]] = [
        (1, START),
        (2, Token("a", 0)),
        (4, Token("b", 1)),
        (5, DONE),
    ]
    await fill(log, events)
    await fill(log, events)
    assert [number for number, _ in frames_of(log)] == [1, 2, 4, 5]
    assert log.is_closed

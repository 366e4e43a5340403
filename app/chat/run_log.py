"""The frames of one run in memory, for whoever reads it in this process."""

import asyncio
from bisect import bisect_right
from collections.abc import Sequence
from json.encoder import encode_basestring_ascii
from typing import Protocol

from app.chat.events import Citation, Done, Event, Failure, Snapshot, Start, Token, to_frame
from app.core.sse import encode_frame, line_of, to_json_line
from app.models.conversations import MAX_EVENTS

MAX_TEXT_BYTES = 1_000_000
# For what must still be told when no more of the answer may be.
_RESERVED_EVENTS = 100
_LAST_EVENTS = 10
_MAX_READ_BYTES = 64 * 1024


def to_line(event: Event) -> bytes:
    """Return the one line of JSON of an event: the same wherever it is told from."""
    if isinstance(event, Token):
        return _token_line(event.text, event.offset)
    return to_json_line(to_frame(event)).encode()


def _token_line(text: str, offset: int) -> bytes:
    """Return what `to_json_line` makes of a Token, at a fifth of its cost: most events are one."""
    quoted = encode_basestring_ascii(text).encode()
    return b'{"type":"token","token":%b,"offset":%d}' % (quoted, offset)


class FrameLog:
    """Encoded frames with ascending ids. A reader holds no more than a place in it.

    Where ids are missing before a frame, that frame stands for all that came before it.
    """

    def __init__(self) -> None:
        self.is_closed = False
        self._ids: list[int] = []
        self._frames: list[bytes] = []
        self._waiting: set[asyncio.Future[None]] = set()

    @property
    def last_id(self) -> int:
        return self._ids[-1] if self._ids else 0

    def append(self, number: int, line: bytes) -> None:
        self._ids.append(number)
        self._frames.append(encode_frame(number, line))
        self.wake()

    def close(self) -> None:
        """No frame comes any more."""
        self.is_closed = True
        self.wake()

    def read(self, after: int) -> tuple[int, bytes]:
        """Return frames behind an id as they are sent, about 64 KB at most, and the last's id."""
        first = bisect_right(self._ids, after)
        if first == len(self._ids) - 1:  # as it is for who keeps up
            return self._ids[first], self._frames[first]
        frames = self._frames[first : first + 1]
        size = sum(map(len, frames))
        for frame in self._frames[first + 1 :]:
            size += len(frame)
            if size > _MAX_READ_BYTES:
                break
            frames.append(frame)
        return (self._ids[first + len(frames) - 1] if frames else after), b"".join(frames)

    def lines_after(self, after: int, *, limit: int) -> Sequence[bytes]:
        """Return the JSON lines behind an id, the first so many."""
        first = bisect_right(self._ids, after)
        return [line_of(frame) for frame in self._frames[first : first + limit]]

    def expect(self) -> asyncio.Future[None]:
        """Return what is done as soon as anything happens. Not for more than one who waits."""
        news: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(news)
        return news

    def forget(self, news: asyncio.Future[None]) -> None:
        self._waiting.discard(news)

    def wake(self) -> None:
        """Let everybody who waits look again."""
        for news in self._waiting:
            resolve(news)
        self._waiting.clear()


class LogWatch(Protocol):
    """Who is told what a log needs."""

    def has_pending(self, log: "RunLog") -> None:
        """Tokens wait in it: `flush` it soon."""
        ...

    def has_frames(self, log: "RunLog") -> None:
        """It has frames that it did not have before."""
        ...


class RunLog(FrameLog):
    """The log of the process that makes the answer: gives frames their ids, 1, 2, 3, …

    Tokens wait for `flush`, but for the very first; a citation sends on what came before it.
    """

    def __init__(self, watch: LogWatch) -> None:
        super().__init__()
        self.start: Start | None = None
        self.tokens: list[tuple[int, int]] = []  # id of a frame, offset of its text in the answer
        self.citations: list[tuple[int, Citation]] = []
        self.is_frozen = False
        self._watch = watch
        self._pieces: list[str] = []
        self._pending: list[str] = []
        self._length = 0  # code points of `_pieces`
        self._size_bytes = 0

    @property
    def text(self) -> str:
        """The answer so far, with what was not told yet."""
        return "".join([*self._pieces, *self._pending])

    @property
    def is_full(self) -> bool:
        """Whether the answer must end here, whatever the model still has to say."""
        has_events = self.last_id + _RESERVED_EVENTS >= MAX_EVENTS
        return has_events or self._size_bytes > MAX_TEXT_BYTES

    def add(self, event: Start | Token | Citation) -> None:
        if isinstance(event, Token):
            self._add_token(event)
            return
        self.flush()
        if isinstance(event, Citation):
            self.citations.append((self.last_id + 1, event))
        else:
            self.start = event
        self._tell(event)

    def add_snapshot(self) -> int | None:
        """Tell everything so far again, and return the frame's id.

        None where that is too late: the end has been written with its ids, or there are few left.
        """
        is_late = self.is_frozen or self.last_id + _LAST_EVENTS >= MAX_EVENTS
        if is_late or self.start is None:
            return None
        self.flush()
        citations = tuple(citation for _, citation in self.citations)
        self._tell(Snapshot(self.start, "".join(self._pieces), citations))
        return self.last_id

    def flush(self) -> None:
        if not self._pending:
            return
        text = "".join(self._pending)
        self._pending.clear()
        number, offset = self.last_id + 1, self._length
        self.tokens.append((number, offset))
        self._pieces.append(text)
        self._length += len(text)
        self._tell_line(number, _token_line(text, offset))

    def freeze(self) -> None:
        """Tell what waits; from now on nothing but `finish` gives out ids."""
        self.flush()
        self.is_frozen = True

    def finish(self, failure: Failure | None, done: Done) -> None:
        self.freeze()
        if failure is not None:
            self._tell(failure)
        self._tell(done)
        self.close()

    def _add_token(self, token: Token) -> None:
        self._pending.append(token.text)
        self._size_bytes += len(token.text if token.text.isascii() else token.text.encode())
        if not self.tokens:
            self.flush()
        elif len(self._pending) == 1:
            self._watch.has_pending(self)

    def _tell(self, event: Event) -> None:
        self._tell_line(self.last_id + 1, to_line(event))

    def _tell_line(self, number: int, line: bytes) -> None:
        self.append(number, line)
        self._watch.has_frames(self)


def resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)

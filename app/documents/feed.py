"""The one poller of a process that tells everybody who watches documents how far these are."""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from uuid import UUID

import structlog
from sqlalchemy.exc import SQLAlchemyError

from app.core.db import Database
from app.core.errors import RateLimited
from app.core.sse import Frame
from app.documents.progress import (
    MAX_FOLLOWED,
    Audience,
    Counts,
    Deleted,
    Progress,
    Reading,
    State,
    States,
    is_active,
    read,
    read_recent,
)

log = structlog.get_logger(__name__)

POLL_INTERVAL_S = 0.5
# Watchers are promised an event every 2 s while something is active.
BEAT_S = 1.4
MAX_WATCHES_PER_USER = 20
# `updated_at` is when a transaction began, and the poller sees it once it has committed.
_OVERLAP_S = 5.0
# A reader who comes back is told what was missed meanwhile.
_RESUME_BACK_S = 600.0

Frames = Mapping[UUID, Frame]


class Watch:
    """What one reader has not read yet: the newest frame of each document, never more.

    Of one document, or of the whole organization when `document_id` is None.
    """

    def __init__(
        self, user_id: UUID, org_id: UUID, document_id: UUID | None, *, is_resumed: bool
    ) -> None:
        self.user_id = user_id
        self.org_id = org_id
        self.document_id = document_id
        self.is_resumed = is_resumed
        self.has_begun = False
        self._beat_at = 0.0
        self._counts = Counts()
        self._unread: dict[UUID | None, Frame] = {}
        self._is_closed = False
        self._news = asyncio.Event()

    def follow(self, state: State, *, is_new: bool) -> None:
        """Take the state of the one document: told when new, and again while it is active.

        One that is private to somebody else now is gone.
        """
        assert self.document_id is not None  # noqa: S101  # it watches one
        if state.private_to not in (None, self.user_id):
            state = Deleted(None)
        if is_new or not self.has_begun or (is_active(state) and self._is_beat_due()):
            self._tell(self.document_id, _frame_of(self.document_id, state))
            self._beat_at = time.monotonic()
        self.has_begun = True

    def follow_all(self, changed: Frames, counts: Counts) -> None:
        """Take what is new of all documents.

        The counts are told at the beginning, while something is active, and when nothing is any
        more.
        """
        for document_id, frame in changed.items():
            self._tell(document_id, frame)
        has_ended = counts == Counts() != self._counts
        if not self.has_begun or has_ended or (counts != Counts() and self._is_beat_due()):
            self._tell(None, counts.to_frame())
            self._beat_at = time.monotonic()
        self._counts = counts
        self.has_begun = True

    def _is_beat_due(self) -> bool:
        return time.monotonic() - self._beat_at >= BEAT_S

    def _tell(self, about: UUID | None, frame: Frame) -> None:
        """Leave a frame, in place of an unread one about the same document (None: the counts)."""
        self._unread.pop(about, None)
        self._unread[about] = frame
        self._news.set()

    def close(self) -> None:
        self._is_closed = True
        self._news.set()

    async def take(self, *, timeout_s: float) -> Sequence[Frame] | None:
        """Wait for news; empty when there is none for so long, None once the watch is closed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._news.wait()
        if self._is_closed:
            return None
        frames = list(self._unread.values())
        self._unread.clear()
        self._news.clear()
        return frames


class ProgressFeed:
    """Polls Postgres while somebody watches: one transaction per interval, however many do.

    While the database is away it goes on trying, and the watchers hear nothing.
    """

    def __init__(self, db: Database) -> None:
        self._db = db
        self._watches: dict[UUID, set[Watch]] = {}
        self._users: Counter[UUID] = Counter()
        self._known: States = {}
        self._read_at = 0.0
        self._poller: asyncio.Task[None] | None = None

    def join(
        self, user_id: UUID, org_id: UUID, document_id: UUID | None, *, is_resumed: bool
    ) -> Watch:
        """Begin to watch; `leave` must follow. Raises RateLimited for a user with too many."""
        if self._users[user_id] >= MAX_WATCHES_PER_USER:
            raise RateLimited(
                f"At most {MAX_WATCHES_PER_USER} event streams of a user may be open: close some.",
                code="too_many_streams",
            )
        watch = Watch(user_id, org_id, document_id, is_resumed=is_resumed)
        self._users[user_id] += 1
        self._watches.setdefault(org_id, set()).add(watch)
        if self._poller is None or self._poller.done():
            self._poller = asyncio.create_task(self._poll())
        return watch

    def leave(self, watch: Watch) -> None:
        """Forget the watch, once or again."""
        watches = self._watches.get(watch.org_id, set())
        if watch not in watches:
            return
        watches.remove(watch)
        if not watches:
            del self._watches[watch.org_id]
        self._users -= Counter([watch.user_id])

    async def close(self) -> None:
        """Stop polling; open watches end."""
        if self._poller is not None:
            self._poller.cancel()
            await asyncio.wait([self._poller])

    async def _poll(self) -> None:
        is_away = False
        self._known, self._read_at = {}, time.monotonic()
        try:
            while self._watches:
                try:
                    await self._look()
                    is_away = False
                except (SQLAlchemyError, OSError) as error:
                    if not is_away:
                        log.warning("progress_not_read", error=type(error).__name__)
                    is_away = True
                await asyncio.sleep(POLL_INTERVAL_S)
        finally:
            # Who still watches when this fails had better come again.
            for watch in self._all_watches():
                watch.close()

    async def _look(self) -> None:
        """Read what is new since the last look, and tell everybody who watched by then."""
        began_at = time.monotonic()
        watches = list(self._all_watches())
        whole = [watch for watch in watches if watch.document_id is None]
        users = list({watch.user_id for watch in watches})
        async with self._db.system_transaction() as session:
            reading = await read(
                session,
                whole_orgs=list({watch.org_id for watch in whole}),
                users=users,
                followed={(w.org_id, w.document_id) for w in watches if w.document_id is not None},
                known=self._known,
                back_s=_OVERLAP_S + began_at - self._read_at,
            )
            resumed = {w.org_id for w in whole if w.is_resumed and not w.has_begun}
            missed = await read_recent(
                session, list(resumed), users, back_s=_RESUME_BACK_S, limit=MAX_FOLLOWED
            )
        self._tell(watches, reading, missed)
        self._known, self._read_at = reading.states, began_at

    def _tell(self, watches: Iterable[Watch], reading: Reading, missed: States) -> None:
        states, known = reading.states, self._known
        changed = _News(
            {k: s for k, s in states.items() if k not in known or _is_news(known[k], s)}
        )
        active = _News({k: s for k, s in states.items() if is_active(s)})
        missed_news = _News(missed)
        for watch in watches:
            org_id, document_id = watch.org_id, watch.document_id
            if document_id is not None:
                state = states[org_id, document_id]
                watch.follow(state, is_new=known.get((org_id, document_id)) != state)
                continue
            news = (changed if watch.has_begun else active).told_to(watch)
            if watch.is_resumed and not watch.has_begun:
                news = {**missed_news.told_to(watch), **news}
            shared = reading.counts.get((org_id, None), Counts())
            own = reading.counts.get((org_id, watch.user_id), Counts())
            watch.follow_all(news, shared + own)

    def _all_watches(self) -> Iterator[Watch]:
        for watches in self._watches.values():
            yield from watches


class _News:
    """Frames as they are told to who watches all: made once, for however many these are."""

    def __init__(self, states: States) -> None:
        self._frames: defaultdict[Audience, dict[UUID, Frame]] = defaultdict(dict)
        # By organization: whose they are now, and what everybody else is told of them.
        self._hidden: defaultdict[UUID, list[tuple[UUID | None, UUID]]] = defaultdict(list)
        for (org_id, document_id), state in states.items():
            frame = _frame_of(document_id, _among_many(state))
            self._frames[org_id, state.private_to][document_id] = frame
            if isinstance(state, Progress) and state.is_hidden:
                self._hidden[org_id].append((state.private_to, document_id))

    def told_to(self, watch: Watch) -> Frames:
        """Return what is shared, what is the watcher's own, and what is there no more for them."""
        hidden = {
            document_id: _frame_of(document_id, Deleted(None))
            for owner, document_id in self._hidden[watch.org_id]
            if owner != watch.user_id
        }
        shared = self._frames[watch.org_id, None]
        return {**shared, **self._frames[watch.org_id, watch.user_id], **hidden}


def _among_many(state: State) -> State:
    return state.among_many() if isinstance(state, Progress) else state


def _is_news(known: State, state: State) -> bool:
    """Say whether who watches all documents is to be told."""
    return _among_many(known) != _among_many(state)


def _frame_of(document_id: UUID, state: State) -> Frame:
    if isinstance(state, Deleted):
        return {"type": "deleted", "document_id": str(document_id)}
    return state.to_frame()

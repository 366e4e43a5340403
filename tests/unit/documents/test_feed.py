"""What a reader of the progress feed has not read yet stays small."""

from uuid import UUID, uuid4

from app.core.sse import Frame
from app.documents.feed import Watch
from app.documents.progress import Counts

ORG, USER = uuid4(), uuid4()


def about(document_id: UUID, percent: int) -> dict[UUID, Frame]:
    return {
        document_id: {
            "type": "document",
            "document_id": str(document_id),
            "percent": percent,
        }
    }


async def test_a_slow_reader_gets_the_newest_frame_of_each_document() -> None:
    watch = Watch(USER, ORG, None, is_resumed=False)
    first, second = uuid4(), uuid4()
    for percent in range(100):
        watch.follow_all(about(first, percent), Counts(processing=2))
        watch.follow_all(about(second, percent), Counts(processing=2))
    frames = await watch.take(timeout_s=1)
    assert frames is not None
    told = {f["document_id"]: f["percent"] for f in frames if f["type"] == "document"}
    assert told == {str(first): 99, str(second): 99}
    assert len(frames) == 3
    assert [f["processing"] for f in frames if f["type"] == "progress"] == [2]
    assert await watch.take(timeout_s=0) == []


async def test_a_deletion_replaces_what_was_not_read() -> None:
    watch = Watch(USER, ORG, None, is_resumed=False)
    document_id = uuid4()
    watch.follow_all(about(document_id, 10), Counts(processing=1))
    deleted = {"type": "deleted", "document_id": str(document_id)}
    watch.follow_all({document_id: deleted}, Counts())
    frames = await watch.take(timeout_s=1)
    assert frames == [deleted, {"type": "progress", "queued": 0, "processing": 0}]


async def test_a_closed_watch_ends_even_with_news_in_it() -> None:
    watch = Watch(USER, ORG, None, is_resumed=False)
    watch.follow_all({}, Counts())
    watch.close()
    assert await watch.take(timeout_s=1) is None

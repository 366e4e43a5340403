"""The benchmarks' `EventSource`, against the rules and examples of the HTML standard."""

import random

import pytest

from bench.event_source import ChunkedBody, EventParser

STREAM = (
    b"\xef\xbb\xbf: a comment\nid: 1\ndata: first\n\nid: 2\r\ndata: two\r\ndata:lines\r\n\r\n"
    b"data: without an id\r\rretry: 250\n\nid\ndata\n\nid: 7\n\n"
    b"event: other\nid: a\0b\ndata:  x\n\nid: 9\ndata: unfinished"
)


def test_messages_of_a_stream() -> None:
    parser = EventParser()
    assert parser.feed(STREAM) == [b"first", b"two\nlines", b"without an id", b"", b" x"]
    # `id: 7` came without data, and still counts; an id with NUL does not.
    assert parser.last_event_id == "7"
    assert parser.retry_s == 0.25


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_splitting_a_stream_changes_nothing(size: int) -> None:
    parser = EventParser()
    stream = STREAM.removeprefix(b"\xef\xbb\xbf")
    blocks = [stream[start : start + size] for start in range(0, len(stream), size)]
    messages = [message for block in blocks for message in parser.feed(block)]
    assert messages == [b"first", b"two\nlines", b"without an id", b"", b" x"]
    assert parser.last_event_id == "7"


def test_the_id_of_an_unfinished_message_is_not_sent_on_reconnect() -> None:
    parser = EventParser()
    parser.feed(b"id: 3\ndata: whole\n\nid: 4\ndata: cut o")
    parser.reconnect()
    assert parser.last_event_id == "3"
    assert parser.feed(b"data: again\n\n") == [b"again"]
    assert parser.last_event_id == "3"


def test_chunks_however_they_are_split() -> None:
    content = [b"a" * 20, b"\r\n0\r\n\r\n", b"c"]
    raw = b"".join(b"%x;extension\r\n%s\r\n" % (len(part), part) for part in content)
    raw += b"0\r\n\r\n"
    chance = random.Random(1)
    for _ in range(200):
        body, received, rest = ChunkedBody(), b"", raw
        while rest:
            assert not body.is_complete
            size = chance.randint(1, 9)
            received += body.feed(rest[:size])
            rest = rest[size:]
        assert received == b"".join(content)
        assert body.is_complete


def test_a_body_without_chunks_is_refused() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        ChunkedBody().feed(b'{"status": "error"}\r\n')

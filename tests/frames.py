"""Streams of frames, as a client reads them, and what is true of each."""

import hashlib
import json
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Any

import httpx2


@dataclass(frozen=True, slots=True)
class Frame:
    id: int | None
    data: dict[str, Any]

    @property
    def type(self) -> str:
        return str(self.data["type"])


def parse_frames(body: str) -> list[Frame]:
    return [parse_frame(block) for block in body.split("\n\n") if block and not _is_retry(block)]


async def iter_frames(response: httpx2.Response) -> AsyncIterator[Frame]:
    """Yield frames as they come."""
    block: list[str] = []
    async for line in response.aiter_lines():
        if line:
            block.append(line)
        elif block:
            if not _is_retry("\n".join(block)):
                yield parse_frame("\n".join(block))
            block = []


def _is_retry(block: str) -> bool:
    """Whether a block only tells an `EventSource` when to come again."""
    return block.startswith("retry: ") and block.removeprefix("retry: ").isdigit()


def parse_frame(block: str) -> Frame:
    """A frame is an id, unless it is a ping, and one line of data; nothing else."""
    lines = block.split("\n")
    *ids, data = lines
    assert len(ids) <= 1, block
    assert data.startswith("data: "), block
    number = int(ids[0].removeprefix("id: ")) if ids else None
    return Frame(number, json.loads(data.removeprefix("data: ")))


def answer_of(frames: Iterable[Frame]) -> str:
    return "".join(frame.data["token"] for frame in frames if frame.type == "token")


def check_stream(frames: list[Frame], *, status: str = "completed") -> str:
    """Assert what holds for every stream of an answer. Returns the answer."""
    numbered = [frame for frame in frames if frame.type != "ping"]
    assert [frame.id for frame in numbered] == list(range(1, len(numbered) + 1))
    assert all(frame.id is None for frame in frames if frame.type == "ping")
    types = [frame.type for frame in numbered]
    assert types[0] == "start"
    assert types[-1] == "done"
    assert types.count("start") == types.count("done") == 1
    done = numbered[-1].data
    assert done["done"] is True
    assert done["status"] == status
    text, cited = "", 0
    for frame in numbered:
        if frame.type == "token":
            assert frame.data["offset"] == len(text)
            text += frame.data["token"]
            assert text.count("[") <= cited, "a marker without the citation before it"
        elif frame.type == "citation":
            cited += 1
    if status == "completed":
        assert hashlib.sha256(text.encode()).hexdigest() == done["answer_sha256"]
        assert "error" not in types
    else:
        assert types[-2] == "error"
        assert types.count("error") == 1
    return text

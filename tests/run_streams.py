"""Runs as their clients use them: begun, read, lost and found again."""

import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2

from tests.frames import Frame, parse_frame
from tests.people import Person

RUNS = "/api/v1/chat/runs"
RETRY = "retry: 1000"


async def begin(
    person: Person, content: str = "How many zebras?", **options: Any
) -> dict[str, Any]:
    """Begin a run. Returns the body of the 201."""
    headers = person.headers | options.pop("headers", {})
    body = {"messages": [{"content": content}], "use_rag": False} | options
    response = await person.client.post(RUNS, json=body, headers=headers)
    assert response.status_code == 201, response.text
    created: dict[str, Any] = response.json()
    return created


async def state_of(person: Person, run: dict[str, Any]) -> dict[str, Any]:
    response = await person.get(f"{RUNS}/{run['run_id']}")
    assert response.status_code == 200, response.text
    state: dict[str, Any] = response.json()
    return state


async def cancel(person: Person, run: dict[str, Any]) -> httpx2.Response:
    return await person.post(f"{RUNS}/{run['run_id']}/cancel")


@asynccontextmanager
async def reading(
    client: httpx2.AsyncClient, run: dict[str, Any], after: int | None = None
) -> AsyncIterator[AsyncIterator[Frame]]:
    """The frames of a run as an EventSource gets them: with the URL alone, and no other header."""
    headers = {} if after is None else {"Last-Event-ID": str(after)}
    async with client.stream("GET", run["events_url"], headers=headers) as response:
        assert response.status_code == 200, await response.aread()
        yield iter_run_frames(response)


async def iter_run_frames(response: httpx2.Response) -> AsyncIterator[Frame]:
    """Yield frames; the stream begins by saying how soon to come back."""
    lines = response.aiter_lines()
    assert await anext(lines) == RETRY
    assert await anext(lines) == ""
    block: list[str] = []
    async for line in lines:
        if line:
            block.append(line)
        elif block:
            yield parse_frame("\n".join(block))
            block = []


async def read(
    client: httpx2.AsyncClient, run: dict[str, Any], after: int | None = None
) -> list[Frame]:
    """All frames that come until the stream ends, without pings."""
    async with reading(client, run, after) as frames:
        return [frame async for frame in frames if frame.type != "ping"]


def text_of(frames: list[Frame]) -> str:
    """The answer as a client has it that follows the rules: a snapshot replaces what there is."""
    text = ""
    for frame in frames:
        if frame.type == "snapshot":
            text = frame.data["text"]
        elif frame.type == "token":
            assert frame.data["offset"] == len(text), frame
            text += frame.data["token"]
    return text


def check_run(frames: list[Frame], *, status: str = "completed") -> str:
    """Assert what holds for what a reader has got of a run in the end. Returns the answer."""
    ids = [frame.id for frame in frames]
    assert ids == sorted({number for number in ids if number is not None})
    types = [frame.type for frame in frames]
    assert types.count("done") == 1
    assert types[-1] == "done"
    assert types.count("error") == (1 if status == "failed" else 0)
    if status == "failed":
        assert types[-2] == "error"
    done = frames[-1].data
    assert (done["done"], done["status"]) == (True, status)
    text = text_of(frames)
    assert hashlib.sha256(text.encode()).hexdigest() == done["answer_sha256"]
    return text


def lines_of(frames: list[Frame]) -> list[tuple[int | None, str]]:
    """What identifies frames to the byte, keys in order."""
    return [(frame.id, json.dumps(frame.data)) for frame in frames]

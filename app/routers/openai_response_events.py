"""A response as an object, and as the typed events of a stream."""

import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from app.core.sse import Frame, to_json_line
from app.routers.openai_chat import annotation_of
from app.routers.openai_shapes import RESPONSE, to_id

# Why an answer is not whole, by the reason that its model gave.
_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
_CODES = {"provider_rate_limited": "rate_limit_exceeded"}

Results = Sequence[Mapping[str, Any]]
# From the sources of a `start` frame to what the search found; for who asked for that.
FindResults = Callable[[Sequence[Frame]], Awaitable[Results]]
# When the making of a kept response ended, in seconds since 1970.
FindEnd = Callable[[], Awaitable[int | None]]


@dataclass(slots=True)
class ResponseDraft:
    """A response as far as it is known.

    `queries` is what the files were searched for, None without a search.
    """

    run_id: UUID
    model: str
    request: Mapping[str, Any]
    queries: Sequence[str] | None
    created_at: int = field(default_factory=lambda: int(time.time()))
    status: str = "in_progress"
    text: str = ""
    annotations: list[dict[str, Any]] = field(default_factory=list)
    results: Results | None = None
    has_message: bool = False
    usage: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    incomplete_reason: str | None = None
    degraded: bool | None = None
    completed_at: int | None = None

    @property
    def message_id(self) -> str:
        return f"msg_{self.run_id.hex}"

    @property
    def search_id(self) -> str:
        return f"fs_{self.run_id.hex}"

    @property
    def message_index(self) -> int:
        return 0 if self.queries is None else 1

    def end(self, done: Frame, *, ended_at: int | None = None) -> None:
        """Take the `done` frame of an answer that did not fail. None is now."""
        self.usage = to_usage(done["usage"])
        self.degraded = done["degraded"]
        self.incomplete_reason = _INCOMPLETE.get(done["finish_reason"])
        if done["status"] == "cancelled":
            self.status = "cancelled"
        elif self.incomplete_reason:
            self.status = "incomplete"
        else:
            self.status = "completed"
            self.completed_at = ended_at or int(time.time())

    def fail(self, code: str, message: str) -> None:
        self.status = "failed"
        self.error = {"code": _CODES.get(code, "server_error"), "message": message}

    def to_json(self) -> dict[str, Any]:
        output = []
        if self.queries is not None and (self.has_message or self.status == "completed"):
            output.append(self.search_item("completed"))
        if self.has_message:
            output.append(self.message_item())
        incomplete = {"reason": self.incomplete_reason} if self.incomplete_reason else None
        return {
            "id": to_id(RESPONSE, self.run_id),
            "object": "response",
            "created_at": self.created_at,
            "completed_at": self.completed_at,
            "status": self.status,
            "error": self.error,
            "incomplete_details": incomplete,
            "model": self.model,
            **self.request,
            "output": output,
            "usage": self.usage,
            "degraded": self.degraded,
        }

    def search_item(self, status: str) -> dict[str, Any]:
        return {
            "id": self.search_id,
            "type": "file_search_call",
            "status": status,
            "queries": list(self.queries or ()),
            "results": None if self.results is None else list(self.results),
        }

    def message_item(self) -> dict[str, Any]:
        is_open = self.status == "in_progress"
        return {
            "id": self.message_id,
            "type": "message",
            "role": "assistant",
            "status": "completed"
            if self.status == "completed"
            else "incomplete"
            if not is_open
            else "in_progress",
            "content": [] if is_open and not self.text else [self.part()],
        }

    def part(self) -> dict[str, Any]:
        return {
            "type": "output_text",
            "text": self.text,
            "annotations": self.annotations,
            "logprobs": [],
        }


def to_usage(usage: Frame) -> dict[str, Any]:
    return {
        "input_tokens": usage["input_tokens"],
        "input_tokens_details": {
            "cached_tokens": usage.get("cached_input_tokens", 0),
            "cache_write_tokens": 0,
        },
        "output_tokens": usage["output_tokens"],
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage["total_tokens"],
    }


class ResponseEvents:
    """Turns the frames of one answer into OpenAI's typed events, numbered from 0."""

    def __init__(
        self,
        draft: ResponseDraft,
        find_results: FindResults | None,
        find_end: FindEnd | None = None,
    ) -> None:
        self._draft = draft
        self._find_results = find_results
        self._find_end = find_end
        self._next = 0
        self._has_begun = False
        # Told behind the text that holds their markers.
        self._waiting: deque[dict[str, Any]] = deque()

    async def write(self, frames: AsyncGenerator[Frame]) -> AsyncGenerator[bytes]:
        async with aclosing(frames):
            async for frame in frames:
                for event in await self._take(frame):
                    yield event

    async def _take(self, frame: Frame) -> list[bytes]:
        match frame["type"]:
            case "start":
                return await self._begin(frame)
            case "token":
                return [self._write_text(frame["token"]), *self._tell_annotations()]
            case "citation":
                self._waiting.append(annotation_of(frame))
            case "error":
                opening = [] if self._has_begun else self._open()
                self._draft.fail(frame["code"], frame["message"])
                return [*opening, self._tell_response("response.failed")]
            case "done" if self._draft.error is None:
                return self._finish(frame, await self._find_end() if self._find_end else None)
        return []

    async def _begin(self, start: Frame) -> list[bytes]:
        """The first of several says it: another model may have taken over since."""
        self._draft.model = start["model"]
        if self._has_begun:
            return []
        events = self._open()
        if self._draft.queries is not None:
            events += await self._tell_search(start["sources"])
        draft, index = self._draft, self._draft.message_index
        events.append(
            self._tell("response.output_item.added", output_index=index, item=draft.message_item())
        )
        draft.has_message = True
        events.append(self._tell_part("response.content_part.added", part=draft.part()))
        return events

    def _open(self) -> list[bytes]:
        self._has_begun = True
        return [
            self._tell_response("response.created"),
            self._tell_response("response.in_progress"),
        ]

    async def _tell_search(self, sources: Sequence[Frame]) -> list[bytes]:
        """The search is over when its answer begins: these events come together."""
        draft, kind = self._draft, "response.file_search_call"
        place = {"output_index": 0, "item_id": draft.search_id}
        item = draft.search_item("in_progress")
        added = self._tell("response.output_item.added", output_index=0, item=item)
        told = [
            self._tell(f"{kind}.{step}", **place)
            for step in ("in_progress", "searching", "completed")
        ]
        if self._find_results is not None:
            draft.results = await self._find_results(sources)
        item = draft.search_item("completed")
        return [added, *told, self._tell("response.output_item.done", output_index=0, item=item)]

    def _write_text(self, token: str) -> bytes:
        self._draft.text += token
        return self._tell_part("response.output_text.delta", delta=token, logprobs=[])

    def _tell_annotations(self, *, is_last: bool = False) -> list[bytes]:
        draft, told = self._draft, []
        while self._waiting and (is_last or self._waiting[0]["index"] < len(draft.text)):
            annotation = self._waiting.popleft()
            event = self._tell_part(
                "response.output_text.annotation.added",
                annotation=annotation,
                annotation_index=len(draft.annotations),
            )
            draft.annotations.append(annotation)
            told.append(event)
        return told

    def _finish(self, done: Frame, ended_at: int | None) -> list[bytes]:
        draft = self._draft
        annotations = self._tell_annotations(is_last=True)
        draft.end(done, ended_at=ended_at)
        text, part, item = draft.text, draft.part(), draft.message_item()
        last = "response.completed" if draft.status == "completed" else "response.incomplete"
        return [
            *annotations,
            self._tell_part("response.output_text.done", text=text, logprobs=[]),
            self._tell_part("response.content_part.done", part=part),
            self._tell("response.output_item.done", output_index=draft.message_index, item=item),
            self._tell_response(last),
        ]

    def _tell_response(self, kind: str) -> bytes:
        return self._tell(kind, response=self._draft.to_json())

    def _tell_part(self, kind: str, **fields: Any) -> bytes:
        draft = self._draft
        return self._tell(
            kind,
            item_id=draft.message_id,
            output_index=draft.message_index,
            content_index=0,
            **fields,
        )

    def _tell(self, kind: str, **fields: Any) -> bytes:
        event = {"type": kind, "sequence_number": self._next, **fields}
        self._next += 1
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), to_json_line(event).encode())

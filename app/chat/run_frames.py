"""From the lines of a stream back to its events, where no process is left that knows them."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from app.chat.events import Citation, SourceInfo, Start, UnreadyDocument

SNAPSHOT = b'{"type":"snapshot"'
DONE = b'{"type":"done"'


@dataclass(slots=True)
class Heard:
    """What a stream told of an answer. Texts of chunks are not in a stream: they are empty."""

    start: Start | None = None
    text: str = ""
    tokens: list[tuple[int, int]] = field(default_factory=list)
    citations: list[tuple[int, Citation]] = field(default_factory=list)


def rebuild(lines: Iterable[tuple[int, bytes]]) -> Heard:
    """Take frames (id, line) in order, without a hole or from a snapshot on."""
    heard = Heard()
    for number, line in lines:
        frame = json.loads(line)
        kind = frame["type"]
        if kind == "token":
            heard.tokens.append((number, len(heard.text)))
            heard.text += frame["token"]
        elif kind == "citation":
            heard.citations.append((number, _citation(frame)))
        elif kind == "start":
            heard.start = _start(frame)
        elif kind == "snapshot":
            heard = _from_snapshot(number, frame)
    return heard


def _from_snapshot(number: int, frame: dict[str, Any]) -> Heard:
    """Ids of citations are made up, but below the snapshot's: one is as good as another there."""
    citations = [_citation(each) for each in frame["citations"]]
    first = number - len(citations)
    return Heard(
        start=_start(frame),
        text=frame["text"],
        tokens=[(number, 0)] if frame["text"] else [],
        citations=[(first + index, citation) for index, citation in enumerate(citations)],
    )


def _start(frame: dict[str, Any]) -> Start:
    conversation_id = frame["conversation_id"]
    return Start(
        run_id=UUID(frame["run_id"]),
        message_id=UUID(frame["message_id"]),
        conversation_id=None if conversation_id is None else UUID(conversation_id),
        model=frame["model"],
        sources=tuple(
            SourceInfo(
                n=source["n"],
                document_id=UUID(source["document_id"]),
                chunk_id=UUID(source["chunk_id"]),
                filename=source["filename"],
                page_start=source["page_start"],
                page_end=source["page_end"],
                score=source["score"],
            )
            for source in frame["sources"]
        ),
        unready_documents=tuple(
            UnreadyDocument(UUID(each["document_id"]), each["filename"], each["status"])
            for each in frame["unready_documents"]
        ),
    )


def _citation(frame: dict[str, Any]) -> Citation:
    fields = {name: value for name, value in frame.items() if name != "type"}
    return Citation(
        **fields
        | {
            "document_id": UUID(frame["document_id"]),
            "chunk_id": UUID(frame["chunk_id"]),
            "missing_numbers": tuple(frame["missing_numbers"]),
            "text": "",
        }
    )

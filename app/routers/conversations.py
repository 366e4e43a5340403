"""Conversations of the caller: nobody else sees them, not even in the same organization."""

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import datetime
from enum import StrEnum
from typing import Annotated
from urllib.parse import quote
from uuid import UUID

from fastapi import APIRouter, Query, status
from fastapi.responses import StreamingResponse
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from app.accounts.principal import Principal
from app.chat import conversation_search, conversations
from app.chat.markdown import MarkdownWriter
from app.chat.messages import MessageView, list_messages
from app.core.pagination import Cursor, Page
from app.core.text import AnyText, storable
from app.dependencies import ConversationWriter, Reader, ResourcesDep
from app.documents.filenames import clean_filename
from app.models.conversations import Conversation, MessageRole
from app.resources import Resources
from app.retrieval.query_terms import analyze_query
from app.routers.messages import show_message

router = APIRouter(prefix="/api/v1/conversations", tags=["conversations"])

MAX_TITLE_CHARS = 200
# Messages that an export holds in memory.
_EXPORT_PAGE = 50
_SLASH = re.compile(r"[/\\]")


def _fold(title: str) -> str:
    folded = " ".join(title.split())
    if not folded:
        raise ValueError("it is blank")
    return folded


Title = Annotated[AnyText, Field(max_length=MAX_TITLE_CHARS), AfterValidator(_fold)]


class ConversationCreate(BaseModel):
    model_config = ConfigDict(extra="forbid")

    title: Title | None = Field(
        default=None, description="Without one it is made from the first question."
    )


class ConversationPatch(BaseModel):
    model_config = ConfigDict(extra="forbid")

    title: Title


class ConversationOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: UUID
    title: str = Field(description="Empty until the first question, unless it was given.")
    created_at: datetime
    updated_at: datetime = Field(description="When something was last asked in it.")


class ConversationPage(BaseModel):
    items: list[ConversationOut]
    next_cursor: str | None


class MatchOut(BaseModel):
    """A word that was searched for: where it stands in the snippet, in code points."""

    start: int
    end: int


class FoundMessageOut(BaseModel):
    conversation_id: UUID
    title: str
    message_id: UUID
    role: MessageRole
    created_at: datetime
    snippet: str = Field(description="Plain text, not HTML.")
    snippet_start: int = Field(description="Where it begins in the message.")
    matches: list[MatchOut]


class SearchResults(BaseModel):
    items: list[FoundMessageOut]


class ExportFormat(StrEnum):
    MARKDOWN = "markdown"
    JSON = "json"


_FILE_TYPES = {
    ExportFormat.MARKDOWN: ("md", "text/markdown; charset=utf-8"),
    ExportFormat.JSON: ("json", "application/json"),
}


@router.post("", status_code=status.HTTP_201_CREATED)
async def create_conversation(
    caller: ConversationWriter, resources: ResourcesDep, body: ConversationCreate | None = None
) -> ConversationOut:
    """Begin an empty conversation. Asking without one begins one too."""
    title = body.title if body and body.title else ""
    async with resources.db.transaction(caller) as session:
        created = await conversations.create_conversation(session, caller, title=title)
    return ConversationOut.model_validate(created)


@router.get("")
async def list_conversations(
    caller: Reader,
    resources: ResourcesDep,
    cursor: Annotated[str | None, Query(max_length=500)] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> ConversationPage:
    """Conversations, the one that was last asked in first."""
    async with resources.db.transaction(caller) as session:
        page = await conversations.list_conversations(
            session, caller, cursor=Cursor.decode(cursor) if cursor else None, limit=limit
        )
    return ConversationPage(
        items=[ConversationOut.model_validate(each) for each in page.items],
        next_cursor=page.next_cursor,
    )


# Before the routes with an id: `search` is no conversation's.
@router.get("/search")
async def search_conversations(
    caller: Reader,
    resources: ResourcesDep,
    q: Annotated[str, Query(min_length=1, max_length=1_000)],
    limit: Annotated[int, Query(ge=1, le=50)] = 20,
) -> SearchResults:
    """Questions and answers that hold all of the words, in any form; the best first."""
    query = analyze_query(storable(q))
    async with resources.db.transaction(caller) as session:
        found = await conversation_search.search_messages(session, caller, query, limit=limit)
    snippets = await asyncio.to_thread(conversation_search.make_snippets, found, query)
    return SearchResults(
        items=[
            FoundMessageOut(
                conversation_id=message.conversation_id,
                title=message.title,
                message_id=message.message_id,
                role=message.role,
                created_at=message.created_at,
                snippet=snippet.text,
                snippet_start=snippet.start,
                matches=[MatchOut(start=start, end=end) for start, end in snippet.matches],
            )
            for message, snippet in zip(found, snippets, strict=True)
        ]
    )


@router.get("/{conversation_id}")
async def get_conversation(
    conversation_id: UUID, caller: Reader, resources: ResourcesDep
) -> ConversationOut:
    async with resources.db.transaction(caller) as session:
        found = await conversations.get_conversation(session, caller, conversation_id)
    return ConversationOut.model_validate(found)


@router.patch("/{conversation_id}")
async def patch_conversation(
    conversation_id: UUID,
    body: ConversationPatch,
    caller: ConversationWriter,
    resources: ResourcesDep,
) -> ConversationOut:
    async with resources.db.transaction(caller) as session:
        renamed = await conversations.rename_conversation(
            session, caller, conversation_id, title=body.title
        )
    return ConversationOut.model_validate(renamed)


@router.delete("/{conversation_id}", status_code=status.HTTP_204_NO_CONTENT)
async def remove_conversation(
    conversation_id: UUID, caller: ConversationWriter, resources: ResourcesDep
) -> None:
    """Delete a conversation with all that is in it. An answer that is being written stops."""
    async with resources.db.transaction(caller) as session:
        await conversations.delete_conversation(session, caller, conversation_id)


@router.get("/{conversation_id}/export", response_class=StreamingResponse)
async def export_conversation(
    conversation_id: UUID,
    caller: Reader,
    resources: ResourcesDep,
    file_format: Annotated[ExportFormat, Query(alias="format")] = ExportFormat.MARKDOWN,
    leaf: Annotated[
        UUID | None, Query(description="Only what leads to this message, and it.")
    ] = None,
) -> StreamingResponse:
    """The conversation as a file: all branches, oldest message first, with what answers cite."""
    async with resources.db.transaction(caller) as session:
        conversation = await conversations.get_conversation(session, caller, conversation_id)
    # The first page before the status goes out: there may be no such leaf.
    first = await _load_page(resources, caller, conversation_id, leaf, None)
    views = _iter_views(resources, caller, conversation_id, leaf, first)
    suffix, media_type = _FILE_TYPES[file_format]
    write = _write_markdown if file_format is ExportFormat.MARKDOWN else _write_json
    return StreamingResponse(
        write(conversation, views),
        media_type=media_type,
        headers={
            "Content-Disposition": _as_download(conversation.title or "conversation", suffix),
            "Content-Security-Policy": "sandbox; default-src 'none'",
        },
    )


async def _load_page(
    resources: Resources,
    caller: Principal,
    conversation_id: UUID,
    leaf: UUID | None,
    cursor: UUID | None,
) -> Page[MessageView]:
    async with resources.db.transaction(caller) as session:
        return await list_messages(
            session, caller, conversation_id, leaf=leaf, cursor=cursor, limit=_EXPORT_PAGE
        )


async def _iter_views(
    resources: Resources,
    caller: Principal,
    conversation_id: UUID,
    leaf: UUID | None,
    page: Page[MessageView],
) -> AsyncIterator[MessageView]:
    """Yield every message. No transaction is open while the client reads."""
    while True:
        for view in page.items:
            yield view
        if page.next_cursor is None:
            return
        page = await _load_page(resources, caller, conversation_id, leaf, UUID(page.next_cursor))


async def _write_markdown(
    conversation: Conversation, views: AsyncIterator[MessageView]
) -> AsyncIterator[str]:
    writer = MarkdownWriter()
    yield writer.begin(conversation)
    async for view in views:
        yield writer.write(view)


async def _write_json(
    conversation: Conversation, views: AsyncIterator[MessageView]
) -> AsyncIterator[str]:
    shown = ConversationOut.model_validate(conversation).model_dump_json()
    yield f'{{"conversation":{shown},"messages":['
    separator = "\n"
    async for view in views:
        yield separator + show_message(view).model_dump_json()
        separator = ",\n"
    yield "\n]}\n"


def _as_download(title: str, suffix: str) -> str:
    """Return the value of `Content-Disposition`, as it is for the files of documents."""
    # A slash would begin the file's name.
    filename = clean_filename(_SLASH.sub("-", title))
    quoted = quote(f"{filename}.{suffix}", safe="")
    return f"attachment; filename*=utf-8''{quoted}"

"""The tools of the Model Context Protocol: each is a few calls of our own API.

So a tool can do what its caller's credential can, within the same limits, and fails in the same
words.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Self
from uuid import UUID

import httpx2
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

_MAX_PAGES = 20
_MAX_RESULTS = 20

Api = httpx2.AsyncClient


class ToolFailed(Exception):
    """What the caller is told; `error` is the API's own object."""

    def __init__(self, error: Mapping[str, Any]) -> None:
        super().__init__(error["message"])
        self.error = error


@dataclass(frozen=True, slots=True)
class ToolResult:
    """`text` for a model, `data` for a program."""

    text: str
    data: dict[str, Any]


class _Arguments(BaseModel):
    model_config = ConfigDict(extra="forbid")


_DocumentIds = Annotated[
    list[UUID], Field(max_length=100, description="Only these documents; none: all of them.")
]
_Tags = Annotated[list[str], Field(max_length=32, description="Only documents with all of these.")]


class ListDocuments(_Arguments):
    """List the documents with their ids, tags, pages and state, newest first."""

    name: str = Field(default="", max_length=255, description="Any part of the file name.")
    tags: _Tags = []
    cursor: str = Field(default="", max_length=2_000, description="The `next_cursor` before.")
    limit: int = Field(default=50, ge=1, le=200)


class Search(_Arguments):
    """Find the passages of the documents that answer a question, best first, with their pages."""

    query: str = Field(min_length=1, max_length=4_000)
    document_ids: _DocumentIds = []
    tags: _Tags = []
    limit: int = Field(default=5, ge=1, le=_MAX_RESULTS)


class ReadDocument(_Arguments):
    """Read the text of a document's pages, at most 20 at once."""

    document_id: UUID
    first_page: int = Field(default=1, ge=1, le=1_000_000)
    last_page: int | None = Field(default=None, ge=1, le=1_000_000)

    @model_validator(mode="after")
    def _reads_on(self) -> Self:
        if self.last_page is not None and self.last_page < self.first_page:
            raise ValueError("last_page: it is before first_page")
        return self


class Ask(_Arguments):
    """Answer a question from the documents. Each claim cites its page, with a verbatim quote."""

    question: str = Field(min_length=1, max_length=10_000)
    document_ids: _DocumentIds = []
    tags: _Tags = []
    model: str = Field(
        default="", max_length=200, description="`provider/model`, else the default."
    )


async def list_documents(api: Api, wanted: ListDocuments) -> ToolResult:
    query: dict[str, Any] = {"limit": wanted.limit, "tag": wanted.tags}
    query |= {name: value for name in ("name", "cursor") if (value := getattr(wanted, name))}
    page = await _call(api, "GET", "/api/v1/documents", params=query)
    lines = [
        f"{each['filename']} (id {each['id']}, {each['status']}, {each['page_count'] or '?'} pages)"
        for each in page["items"]
    ]
    more = f"\nMore with the cursor {page['next_cursor']}" if page["next_cursor"] else ""
    return ToolResult(f"{page['total']} documents\n" + "\n".join(lines) + more, page)


async def search(api: Api, wanted: Search) -> ToolResult:
    found = await _call(
        api,
        "POST",
        "/api/v1/search",
        json={"query": wanted.query, "top_k": wanted.limit, **_narrowed(wanted)},
    )
    passages = [
        f"{each['filename']}, {_pages(each)} (document {each['document_id']}, "
        f"score {each['score']:.2f})\n{each['text']}"
        for each in found["results"]
    ]
    return ToolResult("\n\n".join(passages) or "Nothing was found.", found)


async def read_document(api: Api, wanted: ReadDocument) -> ToolResult:
    path = f"/api/v1/documents/{wanted.document_id}"
    document = await _call(api, "GET", path)
    last = min(
        wanted.last_page or wanted.first_page,
        wanted.first_page + _MAX_PAGES - 1,
        max(document["page_count"] or 1, wanted.first_page),
    )
    pages = [
        await _call(api, "GET", f"{path}/pages/{number}")
        for number in range(wanted.first_page, last + 1)
    ]
    data = {
        "document_id": document["id"],
        "filename": document["filename"],
        "page_count": document["page_count"],
        "pages": [{"number": each["number"], "text": each["text"]} for each in pages],
    }
    text = "\n\n".join(f"Page {each['number']}\n{each['text']}" for each in pages)
    return ToolResult(f"{document['filename']}, {document['page_count']} pages\n\n{text}", data)


async def ask(api: Api, wanted: Ask) -> ToolResult:
    body: dict[str, Any] = {"messages": [{"role": "user", "content": wanted.question}]}
    body |= _narrowed(wanted)
    if wanted.model:
        body["model"] = wanted.model
    answer = await _call(api, "POST", "/api/v1/chat/", json=body)
    sources = [
        f"[{each['n']}] {each['filename']}, {_pages(each)}"
        f"{'' if each['verified'] else ' (not verified)'}: “{each['quote']}”"
        for each in answer["citations"]
    ]
    text = "\n".join([answer["response"], *(["", "Sources:", *sources] if sources else [])])
    return ToolResult(text, answer)


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool; its arguments' docstring is what models read of it."""

    name: str
    title: str
    arguments: type[_Arguments]
    run: Callable[[Api, Any], Awaitable[ToolResult]]

    @property
    def input_schema(self) -> dict[str, Any]:
        return self.arguments.model_json_schema()

    @property
    def description(self) -> str:
        return self.arguments.__doc__ or ""


TOOLS: Mapping[str, Tool] = {
    tool.name: tool
    for tool in (
        Tool("list_documents", "List documents", ListDocuments, list_documents),
        Tool("search", "Search documents", Search, search),
        Tool("read_document", "Read a document", ReadDocument, read_document),
        Tool("ask", "Ask the documents", Ask, ask),
    )
}


async def call_tool(api: Api, name: str, arguments: Mapping[str, Any]) -> ToolResult:
    """Run one tool. Raises ToolFailed, KeyError for a name that is none."""
    tool = TOOLS[name]
    try:
        wanted = tool.arguments.model_validate(arguments)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"] if first["type"] != "extra_forbidden")
        reason = first["msg"].removeprefix("Value error, ")
        message = f"{place}: {reason}." if place else f"{reason}."
        raise ToolFailed({"code": "validation_error", "message": message}) from error
    return await tool.run(api, wanted)


async def _call(api: Api, method: str, path: str, **options: Any) -> dict[str, Any]:
    response = await api.request(method, path, **options)
    body: dict[str, Any] = response.json()
    if response.is_success:
        return body
    error = dict(body["error"])
    if retry_after := response.headers.get("Retry-After"):
        error["retry_after_s"] = int(retry_after)
    raise ToolFailed(error)


def _narrowed(wanted: Search | Ask) -> dict[str, Any]:
    narrowed: dict[str, Any] = {}
    if wanted.document_ids:
        narrowed["document_ids"] = [str(each) for each in wanted.document_ids]
    if wanted.tags:
        narrowed["tags"] = wanted.tags
    return narrowed


def _pages(each: Mapping[str, Any]) -> str:
    first, last = each["page_start"], each["page_end"]
    return f"page {first}" if first == last else f"pages {first} to {last}"

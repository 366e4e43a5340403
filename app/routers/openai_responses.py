"""Responses in the shape of OpenAI's API, with the tool `file_search` over vector stores.

A response that is kept (`store`) is an answer in a conversation of the caller's: it is in the web
app too, and `previous_response_id` goes on from it. Without `file_search` the model gets the
messages as they are.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import Field

from app.accounts.principal import Principal
from app.chat.events import Citation, Done, Failure, Start, to_frame
from app.chat.pipeline import Admitted, Answerer
from app.chat.recording import BegunRun, RunRequest, RunView, begin_run, load_run
from app.chat.responses import (
    InputItem,
    KeptResponse,
    delete_response,
    find_end,
    find_input,
    find_passages,
    get_response,
    keep_response,
)
from app.chat.run_reader import RunReader
from app.chat.runs import RunEngine
from app.core.connection import while_served
from app.core.errors import AppError, NotFound
from app.core.sse import PING_COMMENT, Frame, FrameSource, FrameStream, StreamTiming
from app.dependencies import (
    AnswererDep,
    Asker,
    ConversationWriter,
    Reader,
    ResourcesDep,
    RunsDep,
    StreamTimingDep,
    take_stream_place,
)
from app.documents.vector_stores import find_attributes, open_stores
from app.llm.base import Role
from app.resources import Resources
from app.routers.chat import (
    CollectedAnswer,
    begin_stream,
    collect,
    collect_run,
    prepare_answer,
    set_route_headers,
)
from app.routers.openai_chat import annotation_of
from app.routers.openai_response_events import (
    FindEnd,
    FindResults,
    ResponseDraft,
    ResponseEvents,
    Results,
)
from app.routers.openai_response_requests import RESULTS, ResponseRequest
from app.routers.openai_shapes import (
    FILE,
    RESPONSE,
    STORE,
    AfterQuery,
    ListOut,
    OrderQuery,
    list_ends,
    parse_id,
    to_id,
    to_seconds,
    unsupported_value,
)

router = APIRouter(prefix="/v1/responses", tags=["openai"])

_READ_S = 15.0
_CANCEL_WAIT_S, _POLL_S = 3.0, 0.05
_DATA = b"data: "
IncludeQuery = Annotated[list[str] | None, Query(alias="include[]", max_length=20)]


class InputItemListOut(ListOut):
    data: list[dict[str, Any]] = Field(description="Messages, as of the input of a response.")


@router.post("", response_model=None)
async def create_response(
    body: ResponseRequest,
    request: Request,
    caller: Asker,
    resources: ResourcesDep,
    answerer: AnswererDep,
    runs: RunsDep,
    timing: StreamTimingDep,
) -> Response:
    """Answer as OpenAI does, with `file_search` from vector stores, citations as annotations."""
    if body.search is not None:
        async with resources.db.transaction(caller) as session:
            await open_stores(session, caller.org_id, body.search.store_ids)
    if body.stream:
        await take_stream_place(request, caller)
    if body.store:
        return await _answer_kept(body, request, caller, resources, answerer, runs, timing)
    answer = await prepare_answer(body.to_question(caller), request, caller, answerer)
    draft = _draft(body, answer.start.run_id, answer.start.model)
    if body.stream:
        stream = await begin_stream(answer, request, timing)
        streamed = _stream(stream, draft, _finder(body, caller, resources), timing)
        set_route_headers(streamed, stream.route)
        return streamed
    collected = await while_served(request, collect(answer))
    return await _respond(collected, draft, _finder(body, caller, resources))


@router.get("/{response_id}", response_model=None)
async def get_kept_response(
    response_id: str,
    caller: Reader,
    resources: ResourcesDep,
    include: IncludeQuery = None,
    stream: bool = False,
) -> Response:
    """A response that was kept; while it is being made, as far as it was stored. No stream."""
    if stream:
        raise unsupported_value("stream", "false")
    run_id = parse_id(RESPONSE, response_id, param="response_id")
    async with resources.db.transaction(caller) as session:
        kept = await get_response(session, caller, run_id)
        view = await load_run(session, caller, run_id)
        asked = await find_input(session, caller, kept) if _is_search(kept) else ()
    draft = _draft_of(kept, view, asked)
    if draft.queries is not None and RESULTS in (include or []) and view.record is not None:
        start = view.record.start
        sources = to_frame(start)["sources"] if start else []
        draft.results = await _find_results(_store_ids(kept), caller, resources, sources)
    return JSONResponse(draft.to_json())


@router.get("/{response_id}/input_items")
async def list_input_items(
    response_id: str,
    caller: Reader,
    resources: ResourcesDep,
    after: AfterQuery = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: OrderQuery = "desc",
) -> InputItemListOut:
    """The messages that a kept response was made from, also those of the responses before it.

    Its `instructions` are its own, and what a message of the system said is not kept.
    """
    run_id = parse_id(RESPONSE, response_id, param="response_id")
    async with resources.db.transaction(caller) as session:
        found = await find_input(session, caller, await get_response(session, caller, run_id))
    items = [_input_item(each) for each in (found if order == "asc" else reversed(found))]
    ids = [item["id"] for item in items]
    if after is not None:
        if after not in ids:
            raise NotFound("There is nothing with this id.", param="after")
        items = items[ids.index(after) + 1 :]
    page = items[:limit]
    return InputItemListOut(
        data=page, has_more=len(items) > limit, **list_ends([item["id"] for item in page])
    )


@router.post("/{response_id}/cancel", response_model=None)
async def cancel_response(
    response_id: str, caller: ConversationWriter, resources: ResourcesDep, runs: RunsDep
) -> Response:
    """End a response where it is; one that has ended stays as it is."""
    run_id = parse_id(RESPONSE, response_id, param="response_id")
    async with resources.db.transaction(caller) as session:
        await get_response(session, caller, run_id)
    await runs.cancel(caller, run_id)
    await _wait_for_end(runs, caller, run_id)
    return await get_kept_response(response_id, caller, resources)


@router.delete("/{response_id}", response_model=None)
async def delete_kept_response(
    response_id: str, caller: ConversationWriter, resources: ResourcesDep
) -> Response:
    """Have a response found no more. The last one of a conversation takes that with it."""
    async with resources.db.transaction(caller) as session:
        run_id = parse_id(RESPONSE, response_id, param="response_id")
        await delete_response(session, caller, run_id)
    return JSONResponse({"id": response_id, "object": "response", "deleted": True})


async def _answer_kept(
    body: ResponseRequest,
    request: Request,
    caller: Principal,
    resources: Resources,
    answerer: Answerer,
    runs: RunEngine,
    timing: StreamTiming,
) -> Response:
    if body.stream:
        runs.refuse_too_many(caller)  # while nothing has begun that nobody would read
    question = body.to_question(caller)
    previous = None
    if body.previous_run_id is not None:
        async with resources.db.transaction(caller) as session:
            previous = await get_response(
                session, caller, body.previous_run_id, param="previous_response_id"
            )
    admitted = await while_served(request, answerer.admit(caller, question))
    created_at = datetime.now(UTC)
    begun = await _begin(body, caller, runs, admitted, previous, created_at)
    draft = _draft(body, begun.run_id, admitted.model_id)
    draft.created_at = to_seconds(created_at)
    find_results = _finder(body, caller, resources)
    find_end = partial(_find_end, caller, resources, begun.run_id)
    if body.stream:
        wait = runs.wait_until_begun(begun.run_id, timing.status_wait_s)
        await while_served(request, wait)
        reader = await runs.open(caller, begun.run_id)
        assert reader is not None  # noqa: S101  # it has seen nothing yet
        reader.confirm_with(request.state.confirm)
        streamed = _stream(_RunFrames(reader), draft, find_results, timing, find_end)
        set_route_headers(streamed, runs.find_route(begun.run_id))
        return streamed
    wait_for = collect_run(resources.db, runs, caller, begun.run_id)
    collected = await while_served(request, wait_for)
    return await _respond(collected, draft, find_results, ended_at=await find_end())


async def _begin(
    body: ResponseRequest,
    caller: Principal,
    runs: RunEngine,
    admitted: Admitted,
    previous: KeptResponse | None,
    created_at: datetime,
) -> BegunRun:
    """Begin the run that makes the response. Raises what `begin_run` does."""
    *before, question = admitted.question.messages
    asked = RunRequest(
        question=question.content,
        model=admitted.model_id,
        conversation_id=previous.conversation_id if previous else None,
        parent_id=previous.message_id if previous else None,
        history=() if previous else tuple(before),
    )
    async with runs.beginning(caller) as session:
        begun = await begin_run(session, caller, asked)
        keep_response(
            session,
            caller,
            begun.run_id,
            previous_run_id=previous.run_id if previous else None,
            request=body.repeated(),
            created_at=created_at,
        )
    # Instructions are for one response alone: no conversation holds them.
    system = tuple(each for each in before if each.role is Role.SYSTEM) if previous else ()
    runs.start(caller, begun, admitted.behind((*system, *begun.messages)), is_detached=False)
    return begun


class _RunFrames:
    """A run's encoded frames as a FrameSource."""

    def __init__(self, reader: RunReader) -> None:
        self._reader = reader

    async def frames(self) -> AsyncGenerator[Frame]:
        while (encoded := await self._reader.take(_READ_S)) is not None:
            for line in encoded.split(b"\n"):
                if line.startswith(_DATA):
                    yield json.loads(line[len(_DATA) :])

    def interrupt(self) -> None:
        self._reader.interrupt()

    async def aclose(self) -> None:
        await self._reader.aclose()


def _stream(
    source: FrameSource,
    draft: ResponseDraft,
    find_results: FindResults | None,
    timing: StreamTiming,
    find_end: FindEnd | None = None,
) -> FrameStream:
    write = ResponseEvents(draft, find_results, find_end).write
    return FrameStream(source, timing, write=write, ping=PING_COMMENT)


async def _respond(
    collected: CollectedAnswer,
    draft: ResponseDraft,
    find_results: FindResults | None,
    *,
    ended_at: int | None = None,
) -> Response:
    _fill(
        draft,
        collected.start,
        collected.text,
        collected.citations,
        collected.done,
        ended_at=ended_at,
    )
    if find_results is not None:
        draft.results = await find_results(to_frame(collected.start)["sources"])
    response = JSONResponse(draft.to_json())
    set_route_headers(response, collected.route)
    return response


def _draft(body: ResponseRequest, run_id: UUID, model: str) -> ResponseDraft:
    queries = [body.messages[-1].content] if body.search else None
    return ResponseDraft(run_id, model, body.repeated(), queries)


def _is_search(kept: KeptResponse) -> bool:
    return bool(kept.request.get("tools")) and kept.request.get("tool_choice") != "none"


def _draft_of(kept: KeptResponse, view: RunView, asked: Sequence[InputItem]) -> ResponseDraft:
    """Return a kept response as it is stored. What was searched for is the question.

    `asked` is the input of one that searched.
    """
    draft = ResponseDraft(
        kept.run_id,
        view.model,
        kept.request,
        [each.text for each in asked[-1:]] if _is_search(kept) else None,
        created_at=kept.created_at_s,
        text=view.text,
        has_message=bool(view.text),
    )
    record = view.record
    if record is None:
        return draft
    if record.failure is not None:
        _fail(draft, record.failure)
    else:
        citations = [citation for _, citation in record.citations]
        ended_at = to_seconds(view.finished_at) if view.finished_at else None
        _fill(draft, record.start, record.text, citations, record.done, ended_at=ended_at)
    return draft


def _fill(
    draft: ResponseDraft,
    start: Start | None,
    text: str,
    citations: Sequence[Citation],
    done: Done,
    *,
    ended_at: int | None = None,
) -> None:
    if start is not None:
        draft.model = start.model
    draft.text = text
    draft.has_message = True
    draft.annotations = [annotation_of(to_frame(each)) for each in citations]
    draft.end(to_frame(done), ended_at=ended_at)


async def _find_end(caller: Principal, resources: Resources, run_id: UUID) -> int | None:
    async with resources.db.transaction(caller) as session:
        ended_at = await find_end(session, caller, run_id)
    return to_seconds(ended_at) if ended_at else None


async def _wait_for_end(runs: RunEngine, caller: Principal, run_id: UUID) -> None:
    """Wait until a run that was cancelled has ended, but no longer than _CANCEL_WAIT_S."""
    with suppress(TimeoutError, AppError):
        async with asyncio.timeout(_CANCEL_WAIT_S):
            record = None
            while record is None:
                record = (await runs.wait(caller, run_id)).record
                if record is None:  # another process makes it
                    await asyncio.sleep(_POLL_S)


def _input_item(item: InputItem) -> dict[str, Any]:
    content: dict[str, Any] = {"type": "input_text", "text": item.text}
    if item.role == Role.ASSISTANT:
        content = {"type": "output_text", "text": item.text, "annotations": [], "logprobs": []}
    return {
        "id": f"msg_{item.id.hex}",
        "type": "message",
        "role": item.role,
        "status": "completed",
        "content": [content],
    }


def _fail(draft: ResponseDraft, failure: Failure) -> None:
    draft.fail(failure.code, failure.message)


def _finder(body: ResponseRequest, caller: Principal, resources: Resources) -> FindResults | None:
    """Return what finds the search's results, for who asked for them."""
    if body.search is None or RESULTS not in body.include:
        return None
    return partial(_find_results, body.search.store_ids, caller, resources)


async def _find_results(
    store_ids: Sequence[UUID], caller: Principal, resources: Resources, sources: Sequence[Frame]
) -> Results:
    """Return the passages that the model was shown, as they are now."""
    document_ids = [UUID(source["document_id"]) for source in sources]
    async with resources.db.transaction(caller) as session:
        texts = await find_passages(
            session, caller.org_id, [UUID(source["chunk_id"]) for source in sources]
        )
        attributes = await find_attributes(session, caller.org_id, store_ids, document_ids)
    results: list[dict[str, Any]] = []
    for source, document_id in zip(sources, document_ids, strict=True):
        text = texts.get(UUID(source["chunk_id"]))
        if text is not None:
            results.append(
                {
                    "file_id": to_id(FILE, document_id),
                    "filename": source["filename"],
                    "score": source["score"],
                    "text": text,
                    "attributes": dict(attributes.get(document_id, {})),
                }
            )
    return results


def _store_ids(kept: KeptResponse) -> list[UUID]:
    return [
        parse_id(STORE, id_, param="tools")
        for tool in kept.request.get("tools", ())
        for id_ in tool.get("vector_store_ids", ())
    ]

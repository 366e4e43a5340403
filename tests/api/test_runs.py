"""Runs over a real socket: the contract, who may read, and that each ends exactly once."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest

from app.accounts.principal import Principal
from app.chat.pipeline import Question
from app.chat.recording import RunRequest, begin_run
from app.chat.runs import MAX_READERS_PER_USER
from app.config import Settings
from app.core.ids import new_id
from app.core.sse import StreamTiming
from app.core.stream_tokens import StreamAudience, StreamScope
from app.dependencies import get_stream_timing
from app.ingestion.pipeline import Ingester
from app.llm.base import Message, Role
from app.models.accounts import MemberRole
from app.models.conversations import RunStatus
from tests.conftest import ingest_all
from tests.frames import parse_frames
from tests.integration.test_streams import Server, listen
from tests.openai_api import with_openai
from tests.people import Person, register
from tests.provider_server import Failure, ProviderServer, Reply
from tests.run_streams import (
    RUNS,
    begin,
    cancel,
    check_run,
    lines_of,
    read,
    reading,
    state_of,
    text_of,
)

ANSWER = "The zoo keeps seven zebras, twelve giraffes and a lion, says the report."
CITING = "The zoo keeps seven zebras [1], twelve giraffes [1] and a lion, says the report."
MODELS = ["openai/gpt-4.1-mini", "ollama/llama3.2"]
ENDLESS = Reply(text="word " * 4000, chunk_delay_s=0.01)


@pytest.fixture(scope="module")
def default_reply() -> Reply:
    return Reply(text=ANSWER)


@pytest.fixture(scope="module")
def configured(settings: Settings, provider: ProviderServer) -> Settings:
    return with_openai(
        settings,
        provider,
        ollama_base_url=provider.url,
        default_model=MODELS[0],
        model_first_content_timeout_s=0.5,
        model_idle_timeout_s=0.5,
    )


@pytest.fixture(scope="module")
async def server(configured: Settings) -> AsyncIterator[Server]:
    async with listen(configured) as server:
        await server.client.get("/health/ready")  # has looked for models when it returns
        yield server


@pytest.fixture
async def reader(server: Server) -> Person:
    return await register(server.client, f"reader-{uuid4().hex}@example.com")


@pytest.fixture(scope="module")
async def zoo(client: httpx2.AsyncClient, server: Server, ingester: Ingester) -> Person:
    person = await register(client, f"zoo-{uuid4().hex}@example.com")
    await person.upload("zoo.txt", b"The zoo keeps seven zebras, twelve giraffes and one lion.")
    await ingest_all(ingester)
    return replace(person, client=server.client)


@contextmanager
def timing(server: Server, **changes: float) -> Iterator[None]:
    server.app.dependency_overrides[get_stream_timing] = lambda: StreamTiming(**changes)
    try:
        yield
    finally:
        server.app.dependency_overrides.clear()


# The contract


async def test_a_run_is_begun_read_and_kept(
    server: Server, zoo: Person, provider: ProviderServer
) -> None:
    provider.script(Reply(text=CITING))
    run = await begin(zoo, "How many zebras does the zoo keep?", use_rag=True)
    assert run["status"] == "queued"
    assert run["events_url"].startswith(f"{RUNS}/{run['run_id']}/events?token=st_")
    frames = await read(server.client, run)
    assert [frame.id for frame in frames] == list(range(1, len(frames) + 1))
    assert frames[0].type == "start"
    for name in ("run_id", "message_id", "conversation_id"):
        assert frames[0].data[name] == run[name]
    assert check_run(frames) == CITING
    state = await state_of(zoo, run)
    assert state["status"] == "completed"
    assert state["answer"] == CITING
    assert state["citations"] == [
        {name: value for name, value in frame.data.items() if name != "type"}
        for frame in frames
        if frame.type == "citation"
    ]
    assert state["citations"]
    assert state["sources"] == frames[0].data["sources"]
    for name in ("usage", "answer_sha256", "finish_reason", "model_version", "unsupported"):
        assert state[name] == frames[-1].data[name]
    assert state["error"] is None


async def test_every_place_to_resume_gives_exactly_the_rest(
    server: Server, zoo: Person, provider: ProviderServer
) -> None:
    """While the answer is made, from memory, and when it has ended, from Postgres."""
    provider.script(Reply(text=CITING, chunk_delay_s=0.06))
    run = await begin(zoo, "How many zebras does the zoo keep?", use_rag=True)
    following: list[asyncio.Task[Any]] = []
    live: list[Any] = []
    async with reading(server.client, run) as frames:
        async for frame in frames:
            live.append(frame)
            following.append(asyncio.create_task(read(server.client, run, frame.id)))
    assert len(live) > 8
    rests = await asyncio.gather(*following[:-1])
    for place, rest in enumerate(rests):
        assert lines_of(rest) == lines_of(live[place + 1 :])
        stored = await read(server.client, run, live[place].id)
        assert lines_of(stored) == lines_of(rest)
    assert lines_of(await read(server.client, run)) == lines_of(live)


async def test_after_the_end_was_seen_it_is_204(server: Server, reader: Person) -> None:
    run = await begin(reader)
    last = (await read(server.client, run))[-1]
    again = await server.client.get(run["events_url"], headers={"Last-Event-ID": str(last.id)})
    assert (again.status_code, again.content) == (204, b"")
    url = f"{run['events_url']}&after={last.id}"
    assert (await server.client.get(url)).status_code == 204
    assert (await server.client.get(f"{run['events_url']}&after=1")).status_code == 200


async def test_streams_are_not_cached_buffered_or_changed_on_the_way(
    server: Server, reader: Person
) -> None:
    run = await begin(reader)
    response = await server.client.get(run["events_url"])
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-cache, no-transform"
    assert response.headers["x-accel-buffering"] == "no"
    assert "content-length" not in response.headers


@pytest.mark.parametrize(
    "options",
    [
        {"messages": []},
        {"messages": [{"content": "x"}, {"role": "assistant", "content": "y"}]},
        {"detached": "maybe"},
        {"conversation_id": str(uuid4()), "messages": [{"content": "x"}] * 2},
        {"conversation_id": "x"},
        {"replaces": 7},
        {"temperature": 3},
        {"nonsense": 1},
    ],
)
async def test_wrong_requests_are_422(reader: Person, options: dict[str, Any]) -> None:
    response = await reader.post(RUNS, json={"messages": [{"content": "x"}]} | options)
    assert response.status_code == 422, response.text


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"model": "nobody/none-such"}, 404),
        ({"document_ids": [str(uuid4())]}, 404),
        ({"conversation_id": str(uuid4())}, 404),
        ({"replaces": str(uuid4())}, 422),
        ({"parent_id": str(uuid4())}, 422),
    ],
)
async def test_what_can_be_refused_is_refused_by_the_post(
    reader: Person, provider: ProviderServer, options: dict[str, Any], status: int
) -> None:
    calls = len(provider.calls)
    response = await reader.post(RUNS, json={"messages": [{"content": "x"}]} | options)
    assert response.status_code == status, response.text
    assert len([c for c in provider.calls[calls:] if "chat" in c.path]) == 0


async def test_a_follow_up_knows_what_was_said(
    server: Server, reader: Person, provider: ProviderServer
) -> None:
    first = await begin(reader, "How many zebras?")
    await read(server.client, first)
    second = await begin(reader, "And lions?", conversation_id=first["conversation_id"])
    assert second["conversation_id"] == first["conversation_id"]
    assert check_run(await read(server.client, second)) == ANSWER
    asked = [message["content"] for message in provider.calls[-1].body["messages"]]
    assert asked[-3:] == ["How many zebras?", ANSWER, "And lions?"]


async def test_an_answer_can_be_given_again(
    server: Server, reader: Person, provider: ProviderServer
) -> None:
    first = await begin(reader, "How many zebras?")
    await read(server.client, first)
    again = await begin(
        reader,
        messages=[],
        replaces=first["message_id"],
        conversation_id=first["conversation_id"],
    )
    assert check_run(await read(server.client, again)) == ANSWER
    assert provider.calls[-1].body["messages"][-1]["content"] == "How many zebras?"
    assert (await state_of(reader, first))["answer"] == ANSWER


async def test_a_second_run_of_a_conversation_waits_for_the_first(
    server: Server, reader: Person, provider: ProviderServer
) -> None:
    provider.script(ENDLESS)
    first = await begin(reader)
    body = {"messages": [{"content": "x"}], "conversation_id": first["conversation_id"]}
    refused = await reader.post(RUNS, json=body)
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "run_active")
    await cancel(reader, first)
    await read(server.client, first)
    assert (await reader.post(RUNS, json=body)).status_code == 201


async def test_twenty_posts_with_one_key_are_one_run(
    server: Server, reader: Person, provider: ProviderServer
) -> None:
    calls = len(provider.calls)
    key = {"Idempotency-Key": uuid4().hex}
    runs = await asyncio.gather(*(begin(reader, headers=key) for _ in range(20)))
    assert len({run["run_id"] for run in runs}) == 1
    assert len({run["message_id"] for run in runs}) == 1
    answers = await asyncio.gather(*(read(server.client, run) for run in runs[::4]))
    assert {check_run(frames) for frames in answers} == {ANSWER}
    assert len([call for call in provider.calls[calls:] if "chat" in call.path]) == 1
    assert (await begin(reader, headers=key))["status"] == "completed"
    other = {"messages": [{"content": "Something else?"}]}
    response = await reader.client.post(RUNS, json=other, headers=reader.headers | key)
    assert response.status_code == 422
    assert response.json()["error"]["code"] == "idempotency_mismatch"


# Every end


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (Reply(failure=Failure.STATUS, status=500), "provider_overloaded"),
        (Reply(failure=Failure.STATUS, status=401), "provider_auth"),
        (Reply(failure=Failure.HANG), "provider_timeout"),
        (Reply(failure=Failure.HANG_CONTENT), "provider_timeout"),
        (Reply(text=ANSWER, failure=Failure.STALL), "provider_timeout"),
        (Reply(text=ANSWER, failure=Failure.STALL_COMMENTS), "provider_timeout"),
        (Reply(text=ANSWER, failure=Failure.CUT), "provider_truncated"),
        (Reply(text=ANSWER, failure=Failure.CUT_BODY), "provider_"),
        (Reply(text=ANSWER, failure=Failure.RESET), "provider_"),
        (Reply(failure=Failure.RESET_EARLY), "provider_unreachable"),
        (Reply(text=ANSWER, failure=Failure.MALFORMED), "provider_protocol"),
        (Reply(text=ANSWER, failure=Failure.WRONG_SHAPE), "provider_protocol"),
        (Reply(text=ANSWER, failure=Failure.INLINE_ERROR), "provider_"),
        (Reply(failure=Failure.HTML), "provider_"),
        (Reply(text=""), "provider_protocol"),
    ],
)
async def test_whatever_the_provider_does_a_run_ends_once(
    server: Server, reader: Person, provider: ProviderServer, model: str, reply: Reply, code: str
) -> None:
    provider.script(reply)
    run = await begin(reader, model=model)
    frames = await read(server.client, run)
    told = check_run(frames, status="failed")
    assert frames[-2].data["code"].startswith(code)
    assert ANSWER.startswith(told)
    state = await state_of(reader, run)
    assert (state["status"], state["answer"]) == ("failed", told)
    assert state["error"]["code"] == frames[-2].data["code"]
    assert lines_of(await read(server.client, run)) == lines_of(frames)
    await provider.wait_until(lambda: provider.open_streams == 0)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("reason", ["length", "content_filter"])
async def test_an_answer_that_was_cut_short_says_why(
    server: Server, reader: Person, provider: ProviderServer, model: str, reason: str
) -> None:
    if model.startswith("ollama") and reason == "content_filter":
        pytest.skip("Ollama has no such reason")
    provider.script(Reply(text=ANSWER, finish_reason=reason))
    run = await begin(reader, model=model)
    frames = await read(server.client, run)
    assert check_run(frames) == ANSWER
    assert frames[-1].data["finish_reason"] == reason


async def test_an_answer_without_end_is_ended(
    server: Server, reader: Person, provider: ProviderServer
) -> None:
    aborts = provider.aborts
    provider.script(Reply(text=("x" * 30_000 + " ") * 60))
    run = await begin(reader)
    frames = await read(server.client, run)
    assert 1_000_000 < len(check_run(frames)) < 1_100_000
    assert frames[-1].data["finish_reason"] == "length"
    await provider.wait_until(lambda: provider.aborts == aborts + 1)


async def test_text_that_looks_like_frames_is_text(
    server: Server, reader: Person, provider: ProviderServer
) -> None:
    text = 'a\n\nid: 9\nevent: done\ndata: {"type":"done"}\n\n retry: 0 \u2028\u2029\x85 🌀 end'
    provider.script(Reply(text=text))
    run = await begin(reader)
    assert check_run(await read(server.client, run)) == text
    assert (await state_of(reader, run))["answer"] == text
    assert check_run(await read(server.client, run)) == text


# Cancelling


@pytest.mark.parametrize("model", MODELS)
async def test_cancelling_closes_the_providers_socket_and_keeps_the_text(
    server: Server, reader: Person, provider: ProviderServer, model: str
) -> None:
    aborts = provider.aborts
    provider.script(ENDLESS)
    run = await begin(reader, model=model)
    async with reading(server.client, run) as frames:
        seen = [await anext(frames) for _ in range(4)]
        response = await cancel(reader, run)
        assert response.status_code == 202
        await provider.wait_until(lambda: provider.aborts == aborts + 1)
        seen += [frame async for frame in frames]
    told = check_run(seen, status="cancelled")
    assert told
    assert seen[-1].data["finish_reason"] == "cancelled"
    assert seen[-1].data["usage"]["estimated"] is True
    state = await state_of(reader, run)
    assert (state["status"], state["answer"]) == ("cancelled", told)
    # Again, and after the end, it is the same.
    again = await cancel(reader, run)
    assert (again.status_code, again.json()) == (202, state)


async def test_cancelling_before_the_first_word(
    server: Server, reader: Person, provider: ProviderServer
) -> None:
    provider.script(Reply(failure=Failure.HANG))
    run = await begin(reader)
    await provider.wait_until(lambda: provider.open_streams == 1)
    await cancel(reader, run)
    assert check_run(await read(server.client, run), status="cancelled") == ""
    await provider.wait_until(lambda: provider.open_streams == 0)


async def test_cancelling_before_the_first_step(
    server: Server, reader: Person, provider: ProviderServer
) -> None:
    calls = len(provider.calls)
    runs = server.resources.runs
    principal = await server.resources.principals.resolve(reader.tokens["access_token"])
    question = Question((Message(Role.USER, "x"),), MODELS[0], 0.0, 16, use_rag=False)
    admitted = await server.resources.answerer.admit(principal, question)
    async with runs.beginning(principal) as session:
        begun = await begin_run(session, principal, RunRequest("x", admitted.model_id))
    runs.start(principal, begun, admitted, is_detached=False)
    await runs.cancel(principal, begun.run_id)  # the task has not come to run
    view = await runs.wait(principal, begun.run_id)
    assert (view.status, view.text) == (RunStatus.CANCELLED, "")
    assert len(provider.calls) == calls
    assert begun.run_id not in runs._runs


async def test_a_reader_that_leaves_does_not_stop_the_run(
    server: Server, reader: Person, provider: ProviderServer
) -> None:
    provider.script(Reply(text=ANSWER, chunk_delay_s=0.03))
    run = await begin(reader)
    async with reading(server.client, run) as frames:
        first = [await anext(frames), await anext(frames)]
    rest = await read(server.client, run, first[-1].id)
    assert text_of([*first, *rest]) == ANSWER


async def test_the_answer_so_far_can_be_asked_for(
    server: Server, reader: Person, provider: ProviderServer
) -> None:
    provider.script(ENDLESS)
    run = await begin(reader)
    async with reading(server.client, run) as frames:
        seen = [await anext(frames) for _ in range(3)]
    state = await state_of(reader, run)
    assert state["status"] == "running"
    assert state["answer"].startswith(text_of(seen))
    assert state["usage"] is None
    await cancel(reader, run)


# Who may read


async def test_of_another_user_it_is_404(
    server: Server, reader: Person, provider: ProviderServer
) -> None:
    stranger = await register(server.client, f"stranger-{uuid4().hex}@example.com")
    provider.script(ENDLESS)
    running, ended = await begin(reader), None
    try:
        ended = await begin(reader)
        await read(server.client, ended)
        for run in (running, ended):
            path = f"{RUNS}/{run['run_id']}"
            for method, url in (
                ("GET", path),
                ("GET", f"{path}/events"),
                ("POST", f"{path}/cancel"),
                ("POST", f"{path}/events"),
            ):
                response = await server.client.request(method, url, headers=stranger.headers)
                assert response.status_code == 404, (method, url)
        assert (await state_of(reader, running))["status"] in ("queued", "running")
    finally:
        await cancel(reader, running)


async def test_of_another_user_of_the_organization_it_is_404(
    server: Server, reader: Person
) -> None:
    run = await begin(reader)
    await read(server.client, run)
    colleague = Principal(uuid4(), reader.org_id, MemberRole.ADMIN, uuid4())
    runs = server.resources.runs
    with pytest.raises(Exception, match="no such run"):
        await runs.get(colleague, UUID(run["run_id"]))
    with pytest.raises(Exception, match="no such run"):
        await runs.open(colleague, UUID(run["run_id"]))


async def test_a_token_opens_its_run_alone(server: Server, reader: Person) -> None:
    first, second = await begin(reader), await begin(reader)
    token = first["events_url"].partition("token=")[2]
    for url in (
        f"{RUNS}/{second['run_id']}/events?token={token}",
        f"{RUNS}/{first['run_id']}/events?token={token[:-2]}xx",
        f"/api/v1/documents/events?token={token}",
    ):
        assert (await server.client.get(url)).status_code == 401, url
    headers = {"Authorization": f"Bearer {token}"}
    for method, url in (("GET", f"{RUNS}/{first['run_id']}"), ("POST", RUNS)):
        response = await server.client.request(method, url, headers=headers)
        assert response.status_code == 401
    assert (await server.client.get(f"{RUNS}/{new_id()}/events")).status_code == 401


async def test_another_url_opens_the_same_events(
    server: Server, reader: Person, provider: ProviderServer
) -> None:
    """Of a page that was loaded anew."""
    provider.script(Reply(text=ANSWER))
    run = await begin(reader)
    frames = await read(server.client, run)
    response = await reader.post(f"{RUNS}/{run['run_id']}/events")
    assert response.status_code == 201
    made = response.json()
    assert set(made) == {"events_url", "expires_at"}
    assert made["events_url"].startswith(f"{RUNS}/{run['run_id']}/events?token=st_")
    assert made["expires_at"] >= run["expires_at"]
    assert lines_of(await read(server.client, run | made)) == lines_of(frames)
    assert (await reader.post(f"{RUNS}/{new_id()}/events")).status_code == 404


async def test_the_token_of_a_document_opens_no_run(server: Server, reader: Person) -> None:
    run = await begin(reader)
    principal = await server.resources.principals.resolve(reader.tokens["access_token"])
    issued = await server.resources.principals.issue_stream_token(
        principal, StreamScope(StreamAudience.DOCUMENTS, UUID(run["run_id"]))
    )
    url = f"{RUNS}/{run['run_id']}/events?token={issued.token}"
    assert (await server.client.get(url)).status_code == 401


async def test_a_stream_ends_with_the_sign_in(
    server: Server, reader: Person, provider: ProviderServer
) -> None:
    provider.script(ENDLESS)
    run = await begin(reader, detached=True)
    with timing(server, confirm_s=0.2):
        async with asyncio.timeout(20), reading(server.client, run) as frames:
            await anext(frames)
            signed_out = await server.client.post(
                "/api/v1/auth/logout", json={"refresh_token": reader.tokens["refresh_token"]}
            )
            assert signed_out.status_code < 300
            last = [frame async for frame in frames][-1]
    assert (last.type, last.id) == ("error", None)
    assert last.data["code"] == "token_revoked"
    again = await server.client.get(run["events_url"])
    assert again.status_code == 401
    await server.resources.runs.cancel(
        Principal(reader.user_id, reader.org_id, MemberRole.OWNER, uuid4()), UUID(run["run_id"])
    )


@asynccontextmanager
async def busy_database(server: Server) -> AsyncIterator[None]:
    """All connections that sign-ins are looked at with are in use."""
    async with AsyncExitStack() as stack:
        for _ in range(2):
            session = await stack.enter_async_context(server.resources.db.system_transaction())
            await session.connection()
        yield


async def age_sign_ins(server: Server, seconds: float) -> None:
    """Let what is known of all of them be older than it is."""
    resolver = server.resources.principals
    while resolver._asking is not None:
        await asyncio.sleep(0.01)
    for sign_in, standing in resolver._cache.items():
        resolver._cache[sign_in] = replace(standing, asked_at=standing.asked_at - seconds)


async def test_who_was_known_a_moment_ago_reads_on_while_the_database_is_busy(
    server: Server, reader: Person, provider: ProviderServer
) -> None:
    provider.script(ENDLESS)
    run = await begin(reader)
    async with asyncio.timeout(30):
        async with busy_database(server):
            await age_sign_ins(server, 6)
            async with reading(server.client, run) as frames:
                assert (await anext(frames)).type == "start"
        # One who was not is told nothing, and may come again.
        async with busy_database(server):
            await age_sign_ins(server, 60)
            response = await server.client.get(run["events_url"])
            assert (response.status_code, "data: {" in response.text) == (200, True)
            assert all(frame.type == "ping" for frame in parse_frames(response.text))
    await cancel(reader, run)


async def test_who_was_known_a_moment_ago_and_is_no_more_reads_no_further(
    server: Server, reader: Person, provider: ProviderServer
) -> None:
    provider.script(ENDLESS)
    run = await begin(reader, detached=True)
    await server.client.post(
        "/api/v1/auth/logout", json={"refresh_token": reader.tokens["refresh_token"]}
    )
    async with asyncio.timeout(30):
        async with busy_database(server):
            await age_sign_ins(server, 6)
            opening = reading(server.client, run)
            frames = await opening.__aenter__()
            assert (await anext(frames)).type == "start"
        # The default asks every 10 s; this one is asked about as soon as that can be done.
        last = [frame async for frame in frames][-1]
        await opening.__aexit__(None, None, None)
    assert (last.type, last.data["code"]) == ("error", "token_revoked")
    await server.resources.runs.cancel(
        Principal(reader.user_id, reader.org_id, MemberRole.OWNER, uuid4()), UUID(run["run_id"])
    )


async def test_one_user_has_so_many_streams_and_no_more(
    server: Server, reader: Person, provider: ProviderServer
) -> None:
    provider.script(ENDLESS)
    run = await begin(reader)
    full = asyncio.Event()

    async def hold() -> None:
        async with reading(server.client, run) as frames:
            await anext(frames)
            await full.wait()

    holding = [asyncio.create_task(hold()) for _ in range(MAX_READERS_PER_USER)]
    try:
        async with asyncio.timeout(10):
            while len(server.resources.runs._readers) < MAX_READERS_PER_USER:
                await asyncio.sleep(0.02)
        response = await server.client.get(run["events_url"])
        assert response.status_code == 429
        assert response.json()["error"]["code"] == "too_many_streams"
        assert response.headers["retry-after"]
        # A chat that is kept is not begun for nobody.
        response = await server.client.post(
            "/api/v1/chat/stream",
            json={"messages": [{"content": "And lions?"}], "use_rag": False},
            headers=reader.headers | {"Idempotency-Key": uuid4().hex},
        )
        assert response.json()["error"]["code"] == "too_many_streams"
        assert len(server.resources.runs._runs) == 1
    finally:
        full.set()
        await asyncio.gather(*holding)
        await cancel(reader, run)
    async with asyncio.timeout(10):
        while server.resources.runs._readers:
            await asyncio.sleep(0.02)
    assert (await server.client.get(run["events_url"])).status_code == 200
    assert not server.resources.runs._readers_by_user


async def test_a_silent_model_is_covered_by_pings(
    server: Server, reader: Person, provider: ProviderServer
) -> None:
    provider.script(Reply(text=ANSWER, chunk_delay_s=0.15))
    run = await begin(reader)
    with timing(server, ping_s=0.05):
        async with reading(server.client, run) as frames:
            seen = [frame async for frame in frames]
    pings = [frame for frame in seen if frame.type == "ping"]
    assert len(pings) > 5
    assert {frame.id for frame in pings} == {None}
    assert check_run([frame for frame in seen if frame.type != "ping"]) == ANSWER

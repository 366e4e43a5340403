"""Conversations: whose they are, their messages and branches, search, export, feedback, traces."""

import asyncio
import json
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
from markdown_it import MarkdownIt
from sqlalchemy import text

from app.accounts.principal import Principal
from app.chat.conversations import delete_conversation
from app.chat.recording import end_run
from app.core.ids import new_id
from app.llm.base import Message, Role
from app.resources import Resources
from tests.people import PASSWORD, Person
from tests.stored import ChunkRow, PageRow, make_ready
from tests.stored_runs import (
    ANSWER,
    MODEL,
    QUOTE,
    Ended,
    answer_with,
    ask,
    begin,
    count_of,
    failed_with,
    principal_of,
)

URL = "/api/v1/conversations"
PAGES = [PageRow(1, QUOTE)]
CHUNKS = [ChunkRow(QUOTE, (1, 0, len(QUOTE)))]


@pytest.fixture
async def who(person: Person) -> Principal:
    return principal_of(person.org_id, person.user_id)


@pytest.fixture
async def document_id(person: Person, resources: Resources) -> UUID:
    uploaded = await person.upload("quokka.txt", uuid4().hex.encode())
    document_id = str(uploaded.json()["document_id"])
    await make_ready(resources, person.org_id, document_id, PAGES, CHUNKS)
    return UUID(document_id)


async def move_into(org_id: UUID, other: Person, resources: Resources) -> Person:
    """Make somebody a colleague, signed in there."""
    async with resources.db.system_transaction() as session:
        await session.execute(
            text("UPDATE memberships SET org_id = :org, role = 'admin' WHERE user_id = :user"),
            {"org": org_id, "user": other.user_id},
        )
    signed_in = await other.client.post(
        "/api/v1/auth/login", data={"username": other.email, "password": PASSWORD}
    )
    colleague = Person(other.client, other.email, signed_in.json())
    assert colleague.org_id == org_id
    return colleague


async def send(person: Person, method: str, path: str, body: object = None) -> httpx2.Response:
    return await person.client.request(method, path, json=body, headers=person.headers)


async def create(person: Person, title: str) -> str:
    response = await person.post(URL, json={"title": title})
    assert response.status_code == 201, response.text
    return str(response.json()["id"])


async def list_all(person: Person, path: str, **params: Any) -> list[Any]:
    """Follow the cursors to the end."""
    items: list[Any] = []
    while True:
        response = await person.get(path, params=params)
        assert response.status_code == 200, response.text
        page = response.json()
        items += page["items"]
        if page["next_cursor"] is None:
            return items
        params["cursor"] = page["next_cursor"]


def url_of(ended: Ended) -> str:
    return f"{URL}/{ended.begun.conversation_id}"


# Conversations


async def test_a_conversation_is_begun_named_and_deleted(person: Person) -> None:
    response = await person.post(URL, json={"title": " Net \n sales "})
    assert response.status_code == 201, response.text
    created = response.json()
    assert created["title"] == "Net sales"
    url = f"{URL}/{created['id']}"
    assert (await person.get(url)).json() == created
    renamed = await send(person, "PATCH", url, {"title": "Gross sales"})
    assert renamed.json() == created | {"title": "Gross sales"}
    assert (await person.get(f"{url}/messages")).json() == {"items": [], "next_cursor": None}
    assert (await person.delete(url)).status_code == 204
    for method, path in (("GET", url), ("DELETE", url), ("GET", f"{url}/messages")):
        assert (await send(person, method, path)).status_code == 404, path


async def test_an_empty_one_is_named_by_its_first_question(
    person: Person, who: Principal, resources: Resources, document_id: UUID
) -> None:
    conversation_id = UUID((await person.post(URL)).json()["id"])
    for question in ("Where is it? Say.", "Why?"):
        await ask(
            resources.db, who, question, document_id=document_id, conversation_id=conversation_id
        )
    assert (await person.get(f"{URL}/{conversation_id}")).json()["title"] == "Where is it?"


async def test_the_list_begins_with_the_one_last_asked_in(
    person: Person, who: Principal, resources: Resources, document_id: UUID
) -> None:
    ids = [await create(person, f"{n}") for n in range(5)]
    await ask(resources.db, who, "?", document_id=document_id, conversation_id=UUID(ids[1]))
    listed = await list_all(person, URL, limit=2)
    assert [each["title"] for each in listed] == ["1", "4", "3", "2", "0"]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "", {"title": "x" * 201}),
        ("POST", "", {"title": " "}),
        ("POST", "", {"name": "x"}),
        ("PATCH", "/{id}", {}),
        ("PATCH", "/{id}", {"title": ""}),
        ("PATCH", "/{id}", {"title": None}),
        ("GET", "?limit=0", None),
        ("GET", "?limit=201", None),
        ("GET", "/{id}/messages?cursor=x", None),
        ("GET", "/{id}/messages?leaf=x", None),
        ("GET", "/{id}/export?format=pdf", None),
        ("GET", "/search", None),
        ("GET", "/search?q=", None),
        ("GET", "/search?q=x&limit=51", None),
    ],
)
async def test_bad_requests_are_422(person: Person, method: str, path: str, body: object) -> None:
    url = URL + path.replace("{id}", await create(person, "x"))
    response = await send(person, method, url, body)
    assert response.status_code == 422, response.text
    assert response.json()["error"]["code"] == "validation_error"


async def test_a_made_up_cursor_is_400(person: Person) -> None:
    response = await person.get(URL, params={"cursor": "made up"})
    assert (response.status_code, response.json()["error"]["param"]) == (400, "cursor")


async def test_nobody_else_sees_a_conversation(
    person: Person,
    stranger: Person,
    who: Principal,
    resources: Resources,
    document_id: UUID,
) -> None:
    ended = await ask(resources.db, who, "Where is the quokka?", document_id=document_id)
    url, message_id = url_of(ended), ended.begun.message_id

    async def check(other: Person) -> None:
        for method, path, body in (
            ("GET", url, None),
            ("PATCH", url, {"title": "Mine"}),
            ("DELETE", url, None),
            ("GET", f"{url}/messages", None),
            ("GET", f"{url}/messages?leaf={message_id}", None),
            ("GET", f"{url}/export", None),
            ("GET", f"{url}/export?format=json", None),
            ("PUT", f"{url}/messages/{message_id}/feedback", {"rating": "up"}),
            ("GET", f"/api/v1/messages/{message_id}/trace", None),
        ):
            response = await send(other, method, path, body)
            assert response.status_code == 404, (method, path)
            assert response.json()["error"]["code"] == "not_found"
        assert (await other.get(URL)).json()["items"] == []
        found = await other.get(f"{URL}/search", params={"q": "quokka"})
        assert found.json()["items"] == []

    await check(stranger)
    await check(await move_into(person.org_id, stranger, resources))
    assert (await person.get(url)).json()["title"] == "Where is the quokka?"


async def test_deleting_takes_everything_along(
    person: Person, who: Principal, resources: Resources, document_id: UUID
) -> None:
    ended = await ask(resources.db, who, "Where?", document_id=document_id)
    kept = await ask(resources.db, who, "Where else?", document_id=document_id)
    key = {"conversation_id": ended.begun.conversation_id}
    running = await begin(resources.db, who, "Why?", **key)
    assert (await person.delete(url_of(ended))).status_code == 204
    for table in ("messages", "runs"):
        assert await count_of(resources.db, table, **key) == 0, table
    assert await count_of(resources.db, "citations", message_id=ended.begun.message_id) == 0
    # The process that writes the answer finds nothing to write to.
    async with resources.db.transaction(who) as session:
        record = answer_with(running, document_id).record
        assert not await end_run(session, who.org_id, running.run_id, record)
    assert len((await person.get(f"{url_of(kept)}/messages")).json()["items"]) == 2


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PATCH", "", {"title": "Another"}),
        ("PUT", "/messages/{answer}/feedback", {"rating": "up"}),
    ],
)
async def test_what_is_deleted_meanwhile_can_not_be_changed(
    person: Person, who: Principal, resources: Resources, method: str, path: str, body: object
) -> None:
    begun = await begin(resources.db, who, "Where?")
    url = f"{URL}/{begun.conversation_id}" + path.format(answer=begun.message_id)
    waiting = text("SELECT true FROM pg_locks WHERE NOT granted")
    async with resources.db.transaction(who) as session:
        await delete_conversation(session, who, begun.conversation_id)
        changing = asyncio.create_task(send(person, method, url, body))
        async with asyncio.timeout(10):
            while not await session.scalar(waiting):
                await asyncio.sleep(0.01)
    assert (await changing).status_code == 404


# Messages


async def test_messages_show_what_was_answered(
    person: Person, who: Principal, resources: Resources, document_id: UUID
) -> None:
    ended = await ask(resources.db, who, "Where does it live?", document_id=document_id)
    question, answer = (await person.get(f"{url_of(ended)}/messages")).json()["items"]
    assert question == {
        "id": question["id"],
        "parent_id": None,
        "role": "user",
        "content": "Where does it live?",
        "created_at": question["created_at"],
        "siblings": [question["id"]],
    }
    cut = ANSWER.index("[1]")
    ((_, cited),) = ended.record.citations
    assert answer == {
        "id": str(ended.begun.message_id),
        "parent_id": question["id"],
        "role": "assistant",
        "content": ANSWER,
        "created_at": answer["created_at"],
        "siblings": [str(ended.begun.message_id)],
        "run_id": str(ended.begun.run_id),
        "status": "completed",
        "error": None,
        "model": MODEL,
        "model_version": "extractive-1",
        "finish_reason": "stop",
        "degraded": False,
        "fallbacks": 0,
        "citations": [
            {
                "n": 1,
                "document_id": str(document_id),
                "filename": "quokka.txt",
                "source_deleted": False,
                "chunk_id": str(cited.chunk_id),
                "chunk_index": 0,
                "page_start": 1,
                "page_end": 1,
                "page_label": "iv",
                "quote": QUOTE,
                "quote_start": 0,
                "quote_end": len(QUOTE),
                "chunk_start": 0,
                "chunk_end": len(QUOTE),
                "answer_start": cut,
                "score": 0.8125,
                "verified": True,
                "missing_numbers": ["12", "7"],
            }
        ],
        "unsupported": [{"start": cut + 5, "end": len(ANSWER)}],
        "unready_documents": [
            {"document_id": str(document_id), "filename": "quokka.txt", "status": "processing"}
        ],
        "usage": {"input_tokens": 120, "output_tokens": 12, "total_tokens": 132, "estimated": True},
        "cost_usd": "0.000784",
        "feedback": None,
    }


async def test_an_answer_that_failed_or_is_not_there_yet(
    person: Person, who: Principal, resources: Resources
) -> None:
    begun = await begin(resources.db, who, "Where?", history=(Message(Role.ASSISTANT, "Hi"),))
    url = f"{URL}/{begun.conversation_id}/messages"
    greeting, _, running = (await person.get(url)).json()["items"]
    assert (greeting["run_id"], greeting["status"], greeting["content"]) == (None, None, "Hi")
    assert (running["status"], running["content"], running["model"]) == ("queued", "", MODEL)
    assert (running["usage"], running["finish_reason"], running["error"]) == (None, None, None)
    async with resources.db.transaction(who) as session:
        record = failed_with(answer_with(begun, new_id()))
        await end_run(session, who.org_id, begun.run_id, record)
    failed = (await person.get(url)).json()["items"][-1]
    assert failed["status"] == "failed"
    assert failed["error"] == {
        "code": "stream_interrupted",
        "message": "The server stopped.",
        "retryable": True,
    }


async def test_branches_are_told_by_their_siblings(
    person: Person, who: Principal, resources: Resources, document_id: UUID
) -> None:
    first = await ask(resources.db, who, "Where?", document_id=document_id)
    key = {"conversation_id": first.begun.conversation_id, "document_id": document_id}
    again = await ask(resources.db, who, None, replaces=first.begun.message_id, **key)
    items = await list_all(person, f"{url_of(first)}/messages", limit=2)
    edited = await ask(resources.db, who, "Where exactly?", replaces=UUID(items[0]["id"]), **key)
    follow_up = await ask(resources.db, who, "Why?", parent_id=again.begun.message_id, **key)

    items = await list_all(person, f"{url_of(first)}/messages", limit=2)
    contents = ["Where?", ANSWER, ANSWER, "Where exactly?", ANSWER, "Why?", ANSWER]
    assert [each["content"] for each in items] == contents
    ids = [each["id"] for each in items]
    assert [each["siblings"] for each in items] == [
        [ids[0], ids[3]],
        [ids[1], ids[2]],
        [ids[1], ids[2]],
        [ids[0], ids[3]],
        [ids[4]],
        [ids[5]],
        [ids[6]],
    ]
    for leaf, path in (
        (follow_up, [0, 2, 5, 6]),
        (first, [0, 1]),
        (edited, [3, 4]),
    ):
        params = {"limit": 3, "leaf": str(leaf.begun.message_id)}
        shown = await list_all(person, f"{url_of(first)}/messages", **params)
        assert [each["id"] for each in shown] == [ids[n] for n in path]
        assert shown == [items[n] for n in path]
    other = await ask(resources.db, who, "Elsewhere?", document_id=document_id)
    response = await person.get(
        f"{url_of(first)}/messages", params={"leaf": str(other.begun.message_id)}
    )
    assert (response.status_code, response.json()["error"]["param"]) == (404, "leaf")


# Feedback


async def test_feedback_is_given_changed_and_taken_back(
    person: Person, who: Principal, resources: Resources, document_id: UUID
) -> None:
    ended = await ask(resources.db, who, "Where?", document_id=document_id)
    url = f"{url_of(ended)}/messages/{ended.begun.message_id}/feedback"
    for body, rating, comment in (
        ({"rating": "up"}, "up", None),
        (
            {"rating": "down", "comment": "It says nothing of\x00 why."},
            "down",
            "It says nothing of� why.",
        ),
        ({"rating": None, "comment": "x" * 2_000}, None, "x" * 2_000),
    ):
        response = await send(person, "PUT", url, body)
        assert response.status_code == 200, response.text
        given = response.json()
        assert (given["rating"], given["comment"]) == (rating, comment)
        answer = (await person.get(f"{url_of(ended)}/messages")).json()["items"][1]
        assert answer["feedback"] == given
    assert (await send(person, "PUT", url, {"rating": None, "comment": ""})).json() is None
    answer = (await person.get(f"{url_of(ended)}/messages")).json()["items"][1]
    assert answer["feedback"] is None


async def test_bad_feedback_is_refused(
    person: Person, who: Principal, resources: Resources, document_id: UUID
) -> None:
    ended = await ask(resources.db, who, "Where?", document_id=document_id)
    other = await ask(resources.db, who, "Elsewhere?", document_id=document_id)
    question, answer = (await person.get(f"{url_of(ended)}/messages")).json()["items"]
    for message_id, body, status, code in (
        (question["id"], {"rating": "up"}, 400, "not_an_answer"),
        (answer["id"], {"rating": "sideways"}, 422, "validation_error"),
        (answer["id"], {}, 422, "validation_error"),
        (answer["id"], {"rating": "up", "comment": "x" * 2_001}, 422, "validation_error"),
        (str(other.begun.message_id), {"rating": "up"}, 404, "not_found"),
    ):
        response = await send(
            person, "PUT", f"{url_of(ended)}/messages/{message_id}/feedback", body
        )
        assert (response.status_code, response.json()["error"]["code"]) == (status, code), body


# Search


async def test_search_finds_questions_and_answers_and_the_place_of_the_words(
    person: Person, who: Principal, resources: Resources, document_id: UUID
) -> None:
    ended = await ask(resources.db, who, "In which city do they live?", document_id=document_id)
    await ask(resources.db, who, "What about the wombats?", document_id=document_id)

    async def find(q: str, **params: Any) -> list[Any]:
        response = await person.get(f"{URL}/search", params={"q": q, **params})
        assert response.status_code == 200, response.text
        return list(response.json()["items"])

    (city,) = await find("cities")
    assert city["conversation_id"] == str(ended.begun.conversation_id)
    assert (city["title"], city["role"]) == ("In which city do they live?", "user")
    assert city["snippet"] == "In which city do they live?"
    assert city["matches"] == [{"start": 9, "end": 13}]
    answers = await find("QUOKKAS Rottnest")
    assert [each["role"] for each in answers] == ["assistant", "assistant"]
    assert answers[1]["message_id"] == str(ended.begun.message_id)
    found = answers[0]
    words = [found["snippet"][m["start"] : m["end"]] for m in found["matches"]]
    assert words == ["quokka", "Rottnest"]
    assert len(await find("quokka", limit=1)) == 1
    assert len(await find("live")) == 3
    # Each word must be there, and what is no word finds nothing.
    for nothing in ("city rottnest", "zebra", "?!", "\x00", "'", "\\", "a" * 1_000):
        assert await find(nothing) == [], nothing


async def test_search_shows_where_in_a_long_answer_and_in_any_script(
    person: Person, who: Principal, resources: Resources
) -> None:
    texts = {
        "wallaby": "Nothing here. " * 300 + "A <b>wallaby</b> at last. " + "More. " * 100,
        "営業利益": "当期の営業利益は前年同期比で増加しました。",
        "Umsätze": "Die Umsätze sanken um 2,8 %.",
        "बिक्री": "बिक्री में गिरावट",
    }
    for content in texts.values():
        begun = await begin(resources.db, who, "?")
        record = answer_with(begun, new_id()).record
        async with resources.db.transaction(who) as session:
            await end_run(
                session, who.org_id, begun.run_id, replace(record, text=content, citations=())
            )
    for word, content in texts.items():
        (found,) = (await person.get(f"{URL}/search", params={"q": word})).json()["items"]
        start = found["snippet_start"]
        assert content[start : start + len(found["snippet"])] == found["snippet"]
        assert len(found["snippet"]) <= 240
        marked = [found["snippet"][m["start"] : m["end"]] for m in found["matches"]]
        assert marked == [word]


# Export

_HOSTILE = (
    "# Not a heading\r1. not a list\n- nor this\n```\nno fence\n<script>x</script> <!-- \n"
    "[1]: https://evil.example\n![x](https://evil.example/a.png) | *a* _b_ `c` &lt;\n===\n\n"
    "    code"
)


async def test_the_markdown_has_the_answers_and_what_they_cite(
    person: Person, who: Principal, resources: Resources, document_id: UUID
) -> None:
    ended = await ask(resources.db, who, "Where is it?", document_id=document_id)
    key = {"conversation_id": ended.begun.conversation_id, "document_id": document_id}
    await ask(resources.db, who, "Why?", **key)
    again = await ask(resources.db, who, None, replaces=ended.begun.message_id, **key)
    response = await person.get(f"{url_of(ended)}/export")
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "text/markdown; charset=utf-8"
    disposition = response.headers["content-disposition"]
    assert disposition == "attachment; filename*=utf-8''Where%20is%20it%3F.md"
    cited = (
        "Sources:\n\n- \\[1\\] quokka.txt, page 1 (printed as iv)\n\n"
        "  > The quokka lives on Rottnest Island.\n"
    )
    begun, exported = response.text.split("UTC.\n", 1)
    assert begun.startswith("# Where is it?\n\nBegun ")
    assert exported == (
        "\n## 1. Question\n\n> Where is it?\n"
        f"\n## 2. Answer (version 1 of 2)\n\n> {ANSWER}\n\n{cited}"
        f"\n## 3. Question\n\n> Why?\n"
        f"\n## 4. Answer\n\n> {ANSWER}\n\n{cited}"
        f"\n## 5. Answer (version 2 of 2)\n\nFollows 1.\n\n> {ANSWER}\n\n{cited}"
    )
    leaf = {"leaf": str(again.begun.message_id)}
    shown = (await person.get(f"{url_of(ended)}/export", params=leaf)).text
    assert "## 2. Answer (version 2 of 2)" in shown and "Why?" not in shown
    missing = await person.get(f"{url_of(ended)}/export", params={"leaf": str(uuid4())})
    assert missing.status_code == 404


async def test_nothing_breaks_out_of_the_markdown(
    person: Person, who: Principal, resources: Resources, document_id: UUID
) -> None:
    begun = await begin(
        resources.db,
        who,
        _HOSTILE,
        history=(Message(Role.USER, _HOSTILE), Message(Role.ASSISTANT, _HOSTILE)),
    )
    record = answer_with(begun, document_id).record
    cited = tuple((n, replace(each, quote=_HOSTILE)) for n, each in record.citations)
    async with resources.db.transaction(who) as session:
        await end_run(session, who.org_id, begun.run_id, replace(record, citations=cited))
    url = f"{URL}/{begun.conversation_id}"
    await send(person, "PATCH", url, {"title": "# <b>Mine</b> [1](x) ../../etc/passwd"})
    response = await person.get(f"{url}/export")
    disposition = response.headers["content-disposition"]
    assert disposition.endswith(
        "''%23%20%3Cb%3EMine%3C-b%3E%20%5B1%5D%28x%29%20..-..-etc-passwd.md"
    )
    tokens = MarkdownIt("gfm-like", {"linkify": False}).parse(response.text)
    headings = [
        tokens[n + 1].content for n, token in enumerate(tokens) if token.type == "heading_open"
    ]
    assert len(headings) == 5 and headings[1:] == [
        "1. Question", "2. Answer", "3. Question", "4. Answer",
    ]  # fmt: skip
    kinds = {token.type for token in tokens}
    inline = {child.type for token in tokens for child in token.children or ()}
    assert not kinds & {
        "fence",
        "code_block",
        "html_block",
        "ordered_list_open",
        "table_open",
        "hr",
    }
    assert inline <= {"text", "softbreak", "text_special", "hardbreak"}
    # And it is shown letter by letter.
    rendered = MarkdownIt("gfm-like", {"linkify": False}).render(response.text)
    assert rendered.count("&lt;script&gt;x&lt;/script&gt; &lt;!--") == 4
    assert rendered.count("[1]: https://evil.example") == 4 and "<a" not in rendered


async def test_the_json_is_the_whole_tree(
    person: Person, who: Principal, resources: Resources, document_id: UUID
) -> None:
    ended = await ask(resources.db, who, "Where?", document_id=document_id)
    key = {"conversation_id": ended.begun.conversation_id, "document_id": document_id}
    await ask(resources.db, who, None, replaces=ended.begun.message_id, **key)
    # More than is held in memory at once.
    history = tuple(Message(Role.USER, f"{n}") for n in range(120))
    long = await begin(resources.db, who, "?", history=history)
    for url, count in ((url_of(ended), 3), (f"{URL}/{long.conversation_id}", 122)):
        response = await person.get(f"{url}/export", params={"format": "json"})
        assert response.headers["content-type"] == "application/json"
        assert response.headers["content-disposition"].endswith(".json")
        exported = json.loads(response.text)
        assert exported["conversation"] == (await person.get(url)).json()
        assert exported["messages"] == await list_all(person, f"{url}/messages")
        assert len(exported["messages"]) == count
    empty = await create(person, "\u200b")
    response = await person.get(f"{URL}/{empty}/export")
    assert response.headers["content-disposition"].endswith("''document.md")
    empty = await create(person, "Empty")
    response = await person.get(f"{URL}/{empty}/export", params={"format": "json"})
    assert response.json()["messages"] == []
    assert (await person.get(f"{URL}/{empty}/export")).text.startswith("# Empty\n")


# Traces


async def test_a_trace_has_the_file_names_of_documents_that_are_there(
    person: Person, who: Principal, resources: Resources, document_id: UUID
) -> None:
    ended = await ask(resources.db, who, "Where?", document_id=document_id)
    url = f"/api/v1/messages/{ended.begun.message_id}/trace"
    response = await person.get(url)
    assert response.status_code == 200, response.text
    shown = response.json()
    candidate = {"document_id": str(document_id), "rank": 1, "filename": "quokka.txt"}
    assert shown == {
        "message_id": str(ended.begun.message_id),
        "run_id": str(ended.begun.run_id),
        "conversation_id": str(ended.begun.conversation_id),
        "status": "completed",
        "trace": {"asked": "Where?", "candidates": [candidate]},
    }
    assert (await person.delete(f"/api/v1/documents/{document_id}")).status_code == 202
    (candidate,) = (await person.get(url)).json()["trace"]["candidates"]
    assert candidate["filename"] is None


async def test_what_has_no_trace_says_why(
    person: Person, who: Principal, resources: Resources
) -> None:
    begun = await begin(resources.db, who, "Where?")
    question = (await person.get(f"{URL}/{begun.conversation_id}/messages")).json()["items"][0]

    async def read(message_id: object) -> tuple[int, str]:
        response = await person.get(f"/api/v1/messages/{message_id}/trace")
        return response.status_code, response.json()["error"]["code"]

    assert await read(begun.message_id) == (409, "run_active")
    assert await read(question["id"]) == (404, "no_trace")
    assert await read(uuid4()) == (404, "not_found")
    async with resources.db.transaction(who) as session:
        record = failed_with(answer_with(begun, new_id()))
        await end_run(session, who.org_id, begun.run_id, record)
    shown = await person.get(f"/api/v1/messages/{begun.message_id}/trace")
    assert (shown.status_code, shown.json()["trace"]) == (200, {})  # it ended before there was any

"""Documents that can't be searched yet: refused by name, waited for, or left out and listed."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest

from app.ingestion.pipeline import Ingester
from tests.conftest import ingest_all
from tests.frames import parse_frames
from tests.pdfs import garbage_pdf, text_pdf
from tests.people import Person

QUESTION = "Who keeps the lighthouse?"


async def upload(person: Person, text: str, **form: str) -> str:
    response = await person.post(
        "/api/v1/documents/upload",
        files={"file": (f"{uuid4().hex}.pdf", text_pdf([text]))},
        data=form,
    )
    assert response.status_code == 202, response.text
    return str(response.json()["document_id"])


def body(**fields: Any) -> dict[str, Any]:
    return {"messages": [{"content": QUESTION}], **fields}


@pytest.mark.parametrize("path", ["/api/v1/chat/", "/api/v1/chat/stream"])
async def test_a_named_document_that_is_not_ready_is_refused_with_its_state(
    person: Person, path: str
) -> None:
    document_id = await upload(person, "Anna keeps the lighthouse.")
    response = await person.post(path, json=body(document_ids=[document_id]))
    assert response.status_code == 409
    assert response.headers["Retry-After"]
    error = response.json()["error"]
    assert error["code"] == "documents_not_ready"
    assert error["param"] == "document_ids"
    [named] = error["details"]["documents"]
    assert named["document_id"] == document_id
    assert named["status"] == "queued"


async def test_a_failed_document_is_refused_at_once_however_long_one_would_wait(
    person: Person, ingester: Ingester
) -> None:
    response = await person.upload("garbage.pdf", garbage_pdf())
    await ingest_all(ingester)
    document_id = response.json()["document_id"]
    async with asyncio.timeout(20):
        response = await person.post(
            "/api/v1/chat/", json=body(document_ids=[document_id], wait_s=30)
        )
    assert response.status_code == 409
    [named] = response.json()["error"]["details"]["documents"]
    assert named["status"] == "failed"
    assert "Retry-After" not in response.headers


async def test_a_question_waits_for_a_named_document(person: Person, ingester: Ingester) -> None:
    document_id = await upload(person, "Anna keeps the lighthouse.")
    asking = asyncio.create_task(
        person.post("/api/v1/chat/", json=body(document_ids=[document_id], wait_s=30))
    )
    await asyncio.sleep(0)
    await ingest_all(ingester)
    response = await asking
    assert response.status_code == 200, response.text
    assert "Anna" in response.json()["response"]
    assert response.json()["unready_documents"] == []


async def test_without_names_what_is_to_come_is_left_out_and_listed(
    person: Person, ingester: Ingester
) -> None:
    await upload(person, "Anna keeps the lighthouse.")
    await ingest_all(ingester)
    late = await upload(person, "Boris keeps the lighthouse since May.")
    response = await person.post("/api/v1/chat/", json=body())
    assert "Anna" in response.json()["response"]
    [left_out] = response.json()["unready_documents"]
    assert (left_out["document_id"], left_out["status"]) == (late, "queued")
    streamed = await person.post("/api/v1/chat/stream", json=body())
    [left_out] = parse_frames(streamed.text)[0].data["unready_documents"]
    assert left_out["document_id"] == late
    await ingest_all(ingester)


async def test_only_what_the_filter_would_search_is_listed(
    person: Person, stranger: Person, ingester: Ingester
) -> None:
    await upload(stranger, "A stranger's page.")
    tagged = await upload(person, "Tagged.", tags="sea")
    await upload(person, "Not tagged.")
    response = await person.post("/api/v1/chat/", json=body(tags=["sea"]))
    assert response.status_code == 200, response.text
    assert [each["document_id"] for each in response.json()["unready_documents"]] == [tagged]
    await ingest_all(ingester)


async def test_documents_play_no_part_without_retrieval(person: Person) -> None:
    await upload(person, "Anna keeps the lighthouse.")
    response = await person.post("/api/v1/chat/", json=body(use_rag=False))
    assert response.json()["unready_documents"] == []


@pytest.mark.parametrize("wait_s", [-1, 31, "long"])
async def test_nobody_waits_longer_than_half_a_minute(person: Person, wait_s: object) -> None:
    response = await person.post("/api/v1/chat/", json=body(wait_s=wait_s))
    assert response.status_code == 422
    assert response.json()["error"]["param"] == "wait_s"


async def test_a_strangers_document_is_not_there(person: Person, stranger: Person) -> None:
    document_id = await upload(stranger, "A stranger's page.")
    response = await person.post("/api/v1/chat/", json=body(document_ids=[document_id], wait_s=30))
    assert response.status_code == 404

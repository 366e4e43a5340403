"""Each call of a model that is made for somebody is one usage event: rewriting, embeddings."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any
from uuid import UUID

import httpx2
import pytest
from redis.asyncio import Redis
from sqlalchemy import text

from app.config import Settings
from app.core.errors import ProviderError, ProviderErrorKind
from app.ingestion.pipeline import Ingester
from app.llm.base import Message, Role
from app.llm.embedder import Embedder
from app.llm.metering import CallKind
from app.llm.providers.openai import OpenAIEmbedding
from app.llm.quick import QuickModel
from app.llm.registry import open_models
from app.resources import Resources
from app.usage.budgets import set_budget
from app.usage.metering import Ledger, utc_now
from app.usage.prices import PriceBook, find_listed_price
from tests.conftest import ingest_all
from tests.openai_api import with_openai
from tests.people import Person
from tests.provider_server import Failure, ProviderServer, Reply

CHAT_MODEL = "gpt-4.1-mini"
EMBEDDING = "text-embedding-3-small"
ASKED = (Message(Role.USER, "and the year before?"),)


@dataclass(frozen=True)
class Payer:
    org_id: UUID
    user_id: UUID
    key_id: UUID | None = None


@pytest.fixture
async def ledger(resources: Resources) -> AsyncIterator[Ledger]:
    ledger = Ledger(resources.db, PriceBook(resources.db), ceiling_usd=Decimal(75))
    yield ledger
    await ledger.aclose()


@pytest.fixture
def payer(person: Person) -> Payer:
    return Payer(person.org_id, person.user_id)


@pytest.fixture
async def embedding(server: ProviderServer) -> AsyncIterator[OpenAIEmbedding]:
    embedding = OpenAIEmbedding(api_key="k", base_url=server.openai_url, model=EMBEDDING)
    yield embedding
    await embedding.aclose()


@pytest.fixture
async def quick(settings: Settings, server: ProviderServer) -> AsyncIterator[QuickModel]:
    # The first look loads the list of prices, for longer than a rewriting may take.
    assert find_listed_price("openai", CHAT_MODEL) is not None
    async with open_models(with_openai(settings, server)) as models:
        yield QuickModel(models, task="rewriting", kind=CallKind.REWRITE, budget_s=1.0)


async def events(resources: Resources, payer: Payer) -> list[Any]:
    async with resources.db.transaction(payer) as session:
        rows = await session.execute(
            text("SELECT * FROM usage_events WHERE org_id = :org_id ORDER BY id"),
            {"org_id": payer.org_id},
        )
        return list(rows.all())


async def spend_all(resources: Resources, payer: Payer) -> None:
    async with resources.db.transaction(payer) as session:
        await set_budget(session, payer.org_id, 0, utc_now())


async def test_rewriting_is_a_call_of_whoever_asks(
    quick: QuickModel, ledger: Ledger, payer: Payer, resources: Resources, server: ProviderServer
) -> None:
    server.script(Reply(text="What was it in 2017?"))
    await quick.ask(f"openai/{CHAT_MODEL}", ASKED, max_tokens=50, meter=ledger.meter(payer))
    [event] = await events(resources, payer)
    assert (event.kind, event.provider, event.model) == ("rewrite", "openai", CHAT_MODEL)
    assert (event.user_id, event.error_code) == (payer.user_id, None)
    assert (event.input_tokens, event.output_tokens, event.is_estimated) == (4, 5, False)
    assert event.cost_nano == 4 * 400 + 5 * 1600


async def test_a_model_that_is_too_slow_is_paid_for_its_input(
    quick: QuickModel, ledger: Ledger, payer: Payer, resources: Resources, server: ProviderServer
) -> None:
    server.script(Reply(failure=Failure.HANG))
    with pytest.raises(ProviderError):
        await quick.ask(f"openai/{CHAT_MODEL}", ASKED, max_tokens=50, meter=ledger.meter(payer))
    [event] = await events(resources, payer)
    assert event.error_code == "provider_timeout"
    assert event.input_tokens > 0
    assert event.output_tokens == 0
    assert event.cost_nano == 400 * event.input_tokens


async def test_without_money_one_does_without_the_helping_model(
    quick: QuickModel, ledger: Ledger, payer: Payer, resources: Resources, server: ProviderServer
) -> None:
    await spend_all(resources, payer)
    with pytest.raises(ProviderError) as refusal:
        await quick.ask(f"openai/{CHAT_MODEL}", ASKED, max_tokens=50, meter=ledger.meter(payer))
    assert refusal.value.kind is ProviderErrorKind.QUOTA
    assert await events(resources, payer) == []
    assert [call for call in server.calls if call.path.endswith("completions")] == []


async def test_a_cached_query_is_no_call(
    embedding: OpenAIEmbedding, ledger: Ledger, payer: Payer, resources: Resources, redis: Redis
) -> None:
    embedder = Embedder(embedding, redis, cache_ttl_s=60)
    for question in ("How many zebras?", "How many zebras?", "And lions?"):
        await embedder.embed_query(payer.org_id, question, ledger.meter(payer))
    made = await events(resources, payer)
    assert [event.kind for event in made] == ["embedding", "embedding"]
    assert all(event.cost_nano == 20 * event.input_tokens > 0 for event in made)


async def test_each_attempt_is_an_event(
    embedding: OpenAIEmbedding,
    ledger: Ledger,
    payer: Payer,
    resources: Resources,
    server: ProviderServer,
) -> None:
    server.script(Reply(failure=Failure.STATUS, status=500), Reply(failure=Failure.NAN))
    await Embedder(embedding).embed_query(payer.org_id, "Zebras?", ledger.meter(payer))
    made = await events(resources, payer)
    assert [(event.attempt, event.error_code) for event in made] == [
        (1, "provider_overloaded"),
        (2, "provider_protocol"),
        (3, None),
    ]
    assert [event.cost_nano > 0 for event in made] == [False, True, True]


async def test_documents_are_embedded_at_the_cost_of_who_uploaded_them(
    ingester: Ingester,
    embedding: OpenAIEmbedding,
    ledger: Ledger,
    person: Person,
    payer: Payer,
    resources: Resources,
) -> None:
    await ingest_all(ingester)
    remote = replace(
        ingester, kept=None, embedding=embedding, embedder=Embedder(embedding), ledger=ledger
    )
    await person.upload("a.txt", b"The zoo keeps seven zebras.")
    await ingest_all(remote)
    [event] = await events(resources, payer)
    assert (event.kind, event.user_id, event.key_id) == ("embedding", person.user_id, None)
    assert event.input_tokens > 0
    await spend_all(resources, payer)
    ledger.forget_limits()
    refused = await person.upload("b.txt", b"The zoo keeps three lions.")
    await ingest_all(remote)
    document = await find(person, refused)
    assert (document["status"], document["error_code"]) == ("failed", "budget_exceeded")
    assert len(await events(resources, payer)) == 1


async def test_the_local_model_is_no_call(
    ingester: Ingester, person: Person, payer: Payer, resources: Resources
) -> None:
    uploaded = await person.upload("a.txt", b"The zoo keeps seven zebras.")
    await ingest_all(ingester)
    assert (await find(person, uploaded))["status"] == "ready"
    found = await person.post("/api/v1/search", json={"query": "zebras"})
    assert len(found.json()["results"]) == 1
    assert await events(resources, payer) == []


async def find(person: Person, uploaded: httpx2.Response) -> dict[str, Any]:
    response = await person.get(f"/api/v1/documents/{uploaded.json()['document_id']}")
    document: dict[str, Any] = response.json()
    return document

"""What retrieval does beyond the plain way, and what `explain` says of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import pytest
from sqlalchemy import text

from app.config import Settings
from app.core.errors import ProviderErrorKind
from app.ingestion.pipeline import Ingester
from app.llm.metering import UNMETERED, CallMeter
from app.llm.wire import provider_error
from app.resources import Resources
from app.retrieval.base import RetrievalQuery
from app.retrieval.condense import QueryRewriter
from app.retrieval.pipeline import Retriever
from app.retrieval.spaces import QueryVector, SpaceDirectory
from app.retrieval.trace import Cut, StepOutcome, Trace
from tests.api.test_search import SECTIONS, add_document, add_sections, search
from tests.conftest import ingest_all
from tests.people import Person
from tests.rollouts import execute

TURBINES = "How many wind turbines made by Acme are in the turbine hall in Bremen?"


@dataclass(frozen=True)
class Tenant:
    org_id: UUID


class FurtherQueries(QueryRewriter):
    """Stands in for a chat model that always has one more query."""

    async def expand(
        self, text: str, model: str | None, trace: Trace, meter: CallMeter = UNMETERED
    ) -> list[str]:
        trace.note("expand", StepOutcome.DONE)
        return ["further words"]


class LimitedSpaces(SpaceDirectory):
    """Spaces whose provider refuses what a model wrote."""

    async def embed_queries(
        self, scope: object, queries: Sequence[str], meter: CallMeter = UNMETERED
    ) -> list[QueryVector]:
        if any(query.startswith("further") for query in queries):
            raise provider_error(ProviderErrorKind.RATE_LIMITED, "openai")
        return await super().embed_queries(scope, queries, meter)  # type: ignore[arg-type]


class AcmeReranker:
    name = "acme"

    async def rerank(
        self,
        query: str,
        texts: Sequence[str],
        *,
        model: str | None = None,
        meter: CallMeter = UNMETERED,
    ) -> list[float]:
        return [1.0 if "Acme" in passage else 0.1 for passage in texts]


async def tenant_of(resources: Resources, document_id: str) -> Tenant:
    async with resources.db.system_transaction() as session:
        org_id = await session.scalar(
            text("SELECT org_id FROM documents WHERE id = :id"), {"id": UUID(document_id)}
        )
    return Tenant(org_id)


async def test_the_trace_tells_how_each_candidate_fared(person: Person, ingester: Ingester) -> None:
    await add_sections(person, ingester)
    answer = (await search(person, TURBINES, top_k=1, explain=True)).json()
    trace = answer["trace"]
    assert trace["asked"] == TURBINES
    assert trace["queries"] == [TURBINES]
    assert trace["plan"] == "exact"
    assert trace["is_answerable"]
    assert trace["timings_ms"].keys() >= {"embed", "dense", "fulltext", "rerank"}
    first, *others = trace["candidates"]
    assert first["chunk_id"] == answer["results"][0]["chunk_id"]
    assert first["cut"] is None
    assert list(first["places"]) == ["dense", "fulltext", "fused"]
    assert all(place["rank"] == 1 for place in first["places"].values())
    assert len(others) == len(SECTIONS) - 1
    assert {candidate["cut"] for candidate in others} == {"below_top_k"}
    assert "trace" not in (await search(person, TURBINES)).json()


async def test_a_search_for_something_else_is_not_answerable(
    person: Person, ingester: Ingester
) -> None:
    await add_sections(person, ingester)
    answer = await search(person, "Who won the chess world championship in 1972?", explain=True)
    assert not answer.json()["trace"]["is_answerable"]


async def test_a_further_query_that_fails_costs_nothing(
    person: Person,
    ingester: Ingester,
    resources: Resources,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("app.retrieval.pipeline.HARD", 1.1)
    ids = await add_sections(person, ingester)
    spaces = LimitedSpaces(resources.db, resources.embedders)
    retriever = Retriever(resources.db, spaces, FurtherQueries(None), None)
    query = RetrievalQuery(TURBINES, 3, may_expand=True)
    found = await retriever.retrieve(await tenant_of(resources, ids[0]), query)
    assert len(found.chunks) == 3
    assert [(step.name, step.outcome) for step in found.trace.steps] == [
        ("expand", StepOutcome.DONE),
        ("expand", StepOutcome.FELL_BACK),
    ]
    assert found.trace.steps[1].reason == "unavailable"


async def test_copies_take_one_place_with_a_reranker_too(
    person: Person, ingester: Ingester, resources: Resources
) -> None:
    ids = await add_sections(person, ingester)
    passage = (
        "The turbine hall holds nine wind turbines made by Acme in Bremen, and the hall was built"
        " long ago by a mason of the town with his many sons and daughters"
    )
    for number in range(8):
        await add_document(person, f"copy{number}.txt", f"{passage} x{number}.")
    await ingest_all(ingester)
    tenant = await tenant_of(resources, ids[0])
    for reranker in (None, AcmeReranker()):
        retriever = Retriever(resources.db, resources.spaces, QueryRewriter(None), reranker)
        found = await retriever.retrieve(tenant, RetrievalQuery("wind turbines by Acme", 5))
        assert len(found.chunks) == 5
        assert sum("copy" in chunk.filename for chunk in found.chunks) == 1
        cuts = [candidate.cut for candidate in found.trace.candidates.values()]
        assert cuts.count(Cut.NEAR_DUPLICATE) == 7


async def test_a_chunk_without_a_vector_is_found_and_answerable_by_its_words(
    person: Person, ingester: Ingester, settings: Settings
) -> None:
    ids = await add_sections(person, ingester)
    await execute(
        settings.database_url, f"DELETE FROM chunk_embeddings WHERE document_id = '{UUID(ids[0])}'"
    )
    answer = (await search(person, TURBINES, explain=True)).json()
    assert answer["results"][0]["document_id"] == ids[0]
    assert answer["trace"]["is_answerable"]


async def test_pleasantries_are_not_what_is_asked(person: Person, ingester: Ingester) -> None:
    await add_sections(person, ingester)
    await add_document(person, "note.txt", "Thanks for everything, thanks to all of you.")
    await ingest_all(ingester)
    question = "Please explain how many wind turbines Acme made in Bremen. Thanks!"
    answer = (await search(person, question)).json()
    assert answer["results"][0]["filename"] == "Turbines.txt"


async def test_a_follow_up_is_searched_as_a_full_question(
    person: Person, ingester: Ingester
) -> None:
    await add_sections(person, ingester)
    history = [
        {"role": "user", "content": "How many wind turbines were in the hall in 2013?"},
        {"role": "assistant", "content": "Nine."},
    ]
    answer = await search(person, "And in 2014?", history=history, explain=True)
    trace = answer.json()["trace"]
    assert trace["asked"] == "And in 2014?"
    assert "turbines" in trace["queries"][0]
    assert [step["name"] for step in trace["steps"]] == ["condense"]
    assert trace["steps"][0]["outcome"] == "fell_back"
    assert (
        await search(person, "And?", history=[{"role": "x", "content": "y"}])
    ).status_code == 422


async def test_other_names_of_what_is_asked_are_in_the_trace(
    person: Person, ingester: Ingester
) -> None:
    await add_document(
        person,
        "report.txt",
        "Purchases of property, plant and equipment were 1,577 million in 2018.",
    )
    await ingest_all(ingester)
    question = "How much was capex in 2018?"
    trace = (await search(person, question, explain=True)).json()["trace"]
    assert "purchases of property, plant and equipment" in trace["phrases"]
    answer = await person.post(
        "/api/v1/chat/", json={"messages": [{"role": "user", "content": question}]}
    )
    assert "1,577 million" in answer.json()["response"]
    assert answer.json()["citations"][0]["verified"]

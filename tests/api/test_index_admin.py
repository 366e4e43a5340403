"""`/api/v1/admin/index`: for operators alone, and what it says of plans, sizes and recall."""

from typing import Any

import httpx2
import pytest

from app.accounts.operators import set_operator
from app.ingestion.pipeline import Ingester
from app.models.documents import EXACT_SCAN_MAX_CHUNKS
from app.retrieval.index_status import IndexState, Sizes
from app.routers.index_admin import _plans
from tests.conftest import ingest_all
from tests.people import Person

REPORT = "/api/v1/admin/index"
MEASURE = "/api/v1/admin/index/measure"


@pytest.fixture
async def operator(client: httpx2.AsyncClient, person: Person, database_url: str) -> Person:
    """The resolver of the app has not met them, so it can't believe otherwise for 5 s."""
    assert await set_operator(database_url, person.email, is_operator=True)
    return person


async def live_space(person: Person) -> dict[str, Any]:
    response = await person.get(REPORT)
    assert response.status_code == 200, response.text
    (space,) = [space for space in response.json()["spaces"] if space["is_live"]]
    found: dict[str, Any] = space
    return found


@pytest.mark.parametrize(("method", "path"), [("GET", REPORT), ("POST", MEASURE)])
async def test_who_is_no_operator_is_refused(
    person: Person, stranger: Person, method: str, path: str
) -> None:
    """The first to register would be one."""
    response = await stranger.client.request(method, path, headers=stranger.headers)
    assert response.status_code == 403
    assert response.json()["error"]["code"] == "forbidden"
    assert stranger.tokens["organization"]["role"] == "owner"  # of their organization, all the same


async def test_the_report_tells_model_sizes_and_plans(operator: Person, ingester: Ingester) -> None:
    uploaded = await operator.upload("zebra.txt", b"The zebra crossing is closed on Sundays.")
    assert uploaded.status_code in {200, 201, 202}
    await ingest_all(ingester)
    body = (await operator.get(REPORT)).json()
    space = await live_space(operator)
    assert (space["provider"], space["model"]) == ("local", "all-MiniLM-L6-v2")
    assert space["dimensions"] == 384
    assert space["vectors"] >= 1
    assert space["table_bytes"] >= 8192
    assert space["other_index_bytes"] >= 8192
    assert space["index"] == {
        "state": "none",
        "size_bytes": 0,
        "built_above_chunks": EXACT_SCAN_MAX_CHUNKS,
    }
    small, large, indexed = space["plans"]
    assert small["plan"] == large["plan"] == "exact"
    assert small["organizations"] + large["organizations"] == body["organizations"] >= 1
    assert (indexed["plan"], indexed["organizations"]) == ("hnsw", 0)
    assert body["largest_organization"]["chunks"] >= 1


async def test_measuring_gives_a_recall(operator: Person, ingester: Ingester) -> None:
    await operator.upload("zebra.txt", b"The zebra crossing is closed on Sundays.")
    await ingest_all(ingester)
    response = await operator.post(MEASURE)
    # The periodic task of this app may just be at it.
    while response.status_code == 409:
        assert response.json()["error"]["code"] == "measurement_running"
        response = await operator.post(MEASURE)
    assert response.status_code == 200, response.text
    recall = (await live_space(operator))["recall"]
    assert recall["k"] == 10
    assert recall["queries"] >= 1
    # Without an index every answer is exact.
    assert recall["hnsw_queries"] == 0
    assert recall["overall"] == recall["worst_organization"] == 1


def test_beyond_the_bound_the_plan_depends_on_the_index_and_the_share_of_it() -> None:
    bound = EXACT_SCAN_MAX_CHUNKS
    sizes = Sizes(10, (bound + 1, 10 * bound), None, 10 * bound)
    for state, vectors, indexed in (
        (IndexState.NONE, 12 * bound, 0),
        (IndexState.BUILDING, 12 * bound, 0),
        (IndexState.READY, 12 * bound, 1),
        (IndexState.READY, 2 * bound, 2),
    ):
        plans = [(plan.plan, plan.organizations) for plan in _plans(state, vectors, sizes)]
        assert plans == [("exact", 8), ("exact", 2 - indexed), ("hnsw", indexed)]

"""The state of the vector indexes, for operators of the deployment."""

from datetime import datetime
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, Field

from app.core.errors import Conflict
from app.dependencies import Operator, ResourcesDep
from app.models.documents import EXACT_SCAN_MAX_CHUNKS
from app.resources import Resources
from app.retrieval.dense import Plan, takes_index
from app.retrieval.index_status import IndexState, Sizes, SpaceIndex, list_indexes, measure_sizes
from app.retrieval.recall import K, measure_recall

router = APIRouter(prefix="/api/v1/admin/index", tags=["admin"])


class IndexOut(BaseModel):
    state: IndexState
    size_bytes: int
    built_above_chunks: int = Field(
        description="It is built when one organization has more chunks than this."
    )


class PlanOut(BaseModel):
    """How questions about all documents are answered, of organizations of one range of sizes.

    Above the bound it is exact where there is no index, and where an organization has so small a
    share of it that looking through it would take longer.
    """

    plan: Plan
    above_chunks: int
    up_to_chunks: int | None
    organizations: int


class RecallOut(BaseModel):
    measured_at: datetime
    k: int
    queries: int
    hnsw_queries: int = Field(description="The others were answered exactly.")
    overall: float = Field(ge=0, le=1)
    worst_organization: float = Field(ge=0, le=1)
    worst_org_id: UUID


class SpaceIndexOut(BaseModel):
    space_id: int
    provider: str
    model: str
    dimensions: int
    is_live: bool = Field(description="Whether questions are answered from it.")
    vectors: int = Field(description="The database's estimate.")
    table_bytes: int
    other_index_bytes: int = Field(description="Of the indexes by which rows are looked up.")
    index: IndexOut
    plans: list[PlanOut]
    recall: RecallOut | None = Field(description="As last measured; null before the first time.")


class LargestOut(BaseModel):
    org_id: UUID
    chunks: int


class IndexReport(BaseModel):
    organizations: int = Field(description="Those with documents that readers may find.")
    largest_organization: LargestOut | None
    spaces: list[SpaceIndexOut]


@router.get("")
async def show_indexes(_operator: Operator, resources: ResourcesDep) -> IndexReport:
    """Sizes, plans and the last measured recall of each embedding space."""
    return await _report(resources)


@router.post("/measure")
async def measure(_operator: Operator, resources: ResourcesDep) -> IndexReport:
    """Measure the recall of each space now: at most about 30 s for each. 409 while it goes on."""
    if not await measure_recall(resources.db, every_space=True):
        raise Conflict("The recall is being measured already.", code="measurement_running")
    return await _report(resources)


async def _report(resources: Resources) -> IndexReport:
    async with resources.db.system_transaction() as session:
        spaces = await list_indexes(session)
        sizes = await measure_sizes(session)
    largest = None
    if sizes.largest_org_id is not None:
        largest = LargestOut(org_id=sizes.largest_org_id, chunks=sizes.largest_chunks)
    return IndexReport(
        organizations=sizes.organizations,
        largest_organization=largest,
        spaces=[_space(space, sizes) for space in spaces],
    )


def _space(space: SpaceIndex, sizes: Sizes) -> SpaceIndexOut:
    recall = space.recall
    return SpaceIndexOut(
        space_id=space.space_id,
        provider=space.provider,
        model=space.model,
        dimensions=space.dimensions,
        is_live=space.is_live,
        vectors=space.vectors,
        table_bytes=space.table_bytes,
        other_index_bytes=space.other_index_bytes,
        index=IndexOut(
            state=space.state,
            size_bytes=space.index_bytes,
            built_above_chunks=EXACT_SCAN_MAX_CHUNKS,
        ),
        plans=_plans(space.state, space.vectors, sizes),
        recall=recall
        and RecallOut(
            measured_at=recall.measured_at,
            k=K,
            queries=recall.queries,
            hnsw_queries=recall.hnsw_queries,
            overall=recall.recall,
            worst_organization=recall.worst_recall,
            worst_org_id=recall.worst_org_id,
        ),
    )


def _plans(state: IndexState, vectors: int, sizes: Sizes) -> list[PlanOut]:
    """Of each plan how many organizations, for questions about all of their documents."""
    bound = EXACT_SCAN_MAX_CHUNKS
    indexed = sum(state is IndexState.READY and takes_index(n, vectors) for n in sizes.large)
    counts = (
        (Plan.EXACT, 0, bound, sizes.organizations - len(sizes.large)),
        (Plan.EXACT, bound, None, len(sizes.large) - indexed),
        (Plan.HNSW, bound, None, indexed),
    )
    return [
        PlanOut(plan=plan, above_chunks=above, up_to_chunks=up_to, organizations=organizations)
        for plan, above, up_to, organizations in counts
    ]

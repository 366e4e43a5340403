"""Changing the embedding model of the deployment while it answers. For operators."""

from typing import Annotated

from fastapi import APIRouter, Path, status
from pydantic import BaseModel, ConfigDict, Field

from app.audit_trail import Noted
from app.core.text import AnyText
from app.dependencies import Operator, ResourcesDep
from app.ingestion.embedding_admin import (
    SpaceAction,
    SpaceRole,
    SpaceState,
    SpaceStatus,
    act_on_space,
    get_space,
    list_spaces,
    start_reembedding,
)

router = APIRouter(prefix="/api/v1/admin/embedding-spaces", tags=["admin"])

SpaceId = Annotated[int, Path(ge=1, le=2**31 - 1)]


class StartRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    model: AnyText = Field(min_length=3, max_length=200, examples=["openai/text-embedding-3-small"])
    hold: bool = Field(
        default=False, description="A complete space waits for `switch`; else it goes live itself."
    )


class SpaceOut(BaseModel):
    """An embedding space. Its progress is exact."""

    id: int
    model: str = Field(examples=["openai/text-embedding-3-small"])
    dimensions: int
    role: SpaceRole
    state: SpaceState | None = Field(description="Of the space beside the live one only.")
    hold: bool
    chunks: int = Field(description="Chunks that readers see.")
    embedded: int = Field(description="Those of them with a vector in this space.")
    percent: int = Field(ge=0, le=100)
    error_code: str | None = Field(description="Why it is not being filled.")


class SpacesOut(BaseModel):
    configured_model: str = Field(description="EMBEDDING_MODEL; not necessarily the live one.")
    spaces: list[SpaceOut]


@router.get("")
async def list_all(_operator: Operator, resources: ResourcesDep) -> SpacesOut:
    """Every embedding space: which one is live, and how far the one beside it is."""
    return SpacesOut(
        configured_model=resources.settings.embedding_model,
        spaces=[_out(space) for space in await list_spaces(resources.db)],
    )


@router.post("", status_code=status.HTTP_202_ACCEPTED)
async def start(
    body: StartRequest, _operator: Operator, resources: ResourcesDep, note: Noted
) -> SpaceOut:
    """Begin to change over to another embedding model: workers fill its space beside the live one.

    Asks the model for one vector first, so that one that can't be used is refused at once.
    """
    note.details = body.model_dump()
    space_id = await start_reembedding(
        resources.db, resources.embedders, body.model.strip(), is_held=body.hold
    )
    note.object_id = str(space_id)
    return _out(await get_space(resources.db, space_id))


@router.get("/{space_id}")
async def get_one(space_id: SpaceId, _operator: Operator, resources: ResourcesDep) -> SpaceOut:
    return _out(await get_space(resources.db, space_id))


@router.post("/{space_id}/{action}")
async def act(
    space_id: SpaceId,
    action: SpaceAction,
    _operator: Operator,
    resources: ResourcesDep,
    note: Noted,
) -> SpacesOut:
    """Pause, resume or cancel the filling; switch, roll back, or finish and free the old vectors.

    Answers with what is there afterwards; 409 when the step does not fit.
    """
    note.object_id, note.details = str(space_id), {"step": action}
    await act_on_space(resources.db, space_id, action)
    return await list_all(_operator, resources)


def _out(space: SpaceStatus) -> SpaceOut:
    visible, embedded = space.progress.visible, space.progress.embedded
    return SpaceOut(
        id=space.id,
        model=space.model,
        dimensions=space.dimensions,
        role=space.role,
        state=space.state,
        hold=space.is_held,
        chunks=visible,
        embedded=embedded,
        percent=100 * embedded // visible if visible else 100,
        error_code=space.error_code,
    )

"""Names that stand for chains of models. For operators."""

from typing import Annotated

from fastapi import APIRouter, Path, Response, status
from pydantic import BaseModel, ConfigDict, Field

from app.audit_trail import Noted
from app.core.text import AnyText, CleanLine
from app.dependencies import Operator, ResourcesDep
from app.llm.model_aliases import MAX_TARGETS, MAX_WEIGHT, Alias, AliasTarget

router = APIRouter(prefix="/api/v1/admin/model-aliases", tags=["admin"])

AliasName = Annotated[str, Path(min_length=1, max_length=63, examples=["fast"])]


class AliasTargetBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    model: AnyText = Field(
        min_length=1, max_length=200, description="`provider/model`, or another alias."
    )
    weight: int = Field(
        default=0,
        ge=0,
        le=MAX_WEIGHT,
        description="Targets with one come first, in an order that is drawn by it for each "
        "question; the others follow as they are listed.",
    )


class AliasBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    description: CleanLine = Field(default="", max_length=500)
    targets: list[AliasTargetBody] = Field(min_length=1, max_length=MAX_TARGETS)
    allow_extractive: bool = Field(
        default=False,
        description="Questions about documents are answered with quotes where all targets fail.",
    )


class AliasTargetOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    model: str
    weight: int


class AliasOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    name: str
    description: str
    targets: list[AliasTargetOut]
    allow_extractive: bool


class AliasesOut(BaseModel):
    default_model: str = Field(description="DEFAULT_MODEL, which may name one; empty chooses.")
    aliases: list[AliasOut]


@router.get("")
async def list_aliases(_operator: Operator, resources: ResourcesDep) -> AliasesOut:
    """Every alias, by name."""
    aliases = await resources.model_router.aliases.list_all()
    return AliasesOut(
        default_model=resources.models.default_model,
        aliases=[AliasOut.model_validate(alias) for alias in aliases],
    )


@router.get("/{name}")
async def get_alias(name: AliasName, _operator: Operator, resources: ResourcesDep) -> AliasOut:
    return AliasOut.model_validate(await resources.model_router.aliases.get(name))


@router.put("/{name}", responses={status.HTTP_201_CREATED: {"description": "It is new."}})
async def put_alias(
    name: AliasName,
    body: AliasBody,
    response: Response,
    _operator: Operator,
    resources: ResourcesDep,
    note: Noted,
) -> AliasOut:
    """Make an alias, or another thing of it. Every process knows within 5 s.

    It goes before a model of the same bare name. 400 for targets that are no models or lead back
    to the alias itself.
    """
    note.details = body.model_dump(mode="json")
    alias = Alias(
        name=name,
        description=body.description,
        targets=tuple(AliasTarget(each.model, each.weight) for each in body.targets),
        allow_extractive=body.allow_extractive,
    )
    if await resources.model_router.aliases.put(alias):
        response.status_code = status.HTTP_201_CREATED
    return AliasOut.model_validate(alias)


@router.delete("/{name}", status_code=status.HTTP_204_NO_CONTENT)
async def delete_alias(name: AliasName, _operator: Operator, resources: ResourcesDep) -> None:
    """409 while it is a target of another one."""
    await resources.model_router.aliases.delete(name)

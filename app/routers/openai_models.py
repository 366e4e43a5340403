"""The models that a caller may use, in the shape of OpenAI's API."""

from decimal import Decimal
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from app.accounts.principal import Principal
from app.core.errors import NotFound
from app.dependencies import Reader, ResourcesDep
from app.llm.catalog import ModelChoice
from app.llm.model_names import may_use
from app.resources import Resources
from app.routers.models import read_callers_catalog

router = APIRouter(prefix="/v1", tags=["openai"])

_PER_MILLION = Decimal(1_000_000)


class PricingOut(BaseModel):
    """US dollars for one token, as decimal strings."""

    prompt: str
    completion: str


class ListedModelOut(BaseModel):
    id: str = Field(description="`provider/model`, or the name of an alias.")
    object: Literal["model"] = "model"
    created: int = Field(default=0, description="Not known.")
    owned_by: str = Field(description="The provider; `alias` for an alias.")
    provider: str
    kind: Literal["chat", "embedding"] = Field(description="Which of the two it is for.")
    state: str = Field(description="ok, unconfigured or unreachable.")
    context_length: int | None = Field(description="In tokens; null while it is not known.")
    pricing: PricingOut | None = Field(description="Null where it is not known.")
    is_default: bool = Field(description="Whether it answers when no model is named.")
    targets: list[str] = Field(description="Of an alias: the models that answer for it.")


class ModelListOut(BaseModel):
    object: Literal["list"] = "list"
    data: list[ListedModelOut]


@router.get("/models")
async def list_models(caller: Reader, resources: ResourcesDep) -> ModelListOut:
    """The models that answer, first the one that does when none is named; then those that embed."""
    return ModelListOut(data=await _list(caller, resources))


# `provider/model` has a slash, and SDKs send it as one or as `%2F`.
@router.get("/models/{model_id:path}")
async def get_model(model_id: str, caller: Reader, resources: ResourcesDep) -> ListedModelOut:
    """One of the list, by its id."""
    for model in await _list(caller, resources):
        if model.id == model_id:
            return model
    raise NotFound("There is no such model here.", code="model_not_found", param="model")


async def _list(caller: Principal, resources: Resources) -> list[ListedModelOut]:
    catalog = await read_callers_catalog(caller, resources)
    states = {provider.name: provider.state for provider in catalog.providers}
    embedding = [
        ListedModelOut(
            id=id_,
            owned_by=(name := id_.partition("/")[0]),
            provider=name,
            kind="embedding",
            state=states.get(name, "ok"),  # ours is no provider of answers
            context_length=None,
            pricing=None,
            is_default=False,
            targets=[],
        )
        for id_ in await resources.models.list_embedding_models()
        if may_use(id_, caller.allowed_models)
    ]
    return [*map(_out, catalog.models), *embedding]


def _out(model: ModelChoice) -> ListedModelOut:
    price = model.price
    return ListedModelOut(
        id=model.id,
        owned_by=model.provider,
        provider=model.provider,
        kind="chat",
        state=model.state,
        context_length=model.context_window,
        pricing=PricingOut(
            prompt=_per_token(price.input_usd), completion=_per_token(price.output_usd)
        )
        if price
        else None,
        is_default=model.is_default,
        targets=list(model.targets),
    )


def _per_token(usd_per_million: Decimal) -> str:
    """Return a decimal without an exponent: programs read it as a number."""
    return format((usd_per_million / _PER_MILLION).normalize(), "f")

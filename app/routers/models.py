"""The models at hand: what answers, what can be chosen, and how to connect more."""

from decimal import Decimal
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.exc import SQLAlchemyError

from app.accounts.principal import Principal
from app.dependencies import Reader, ResourcesDep
from app.llm.catalog import Catalog, ModelPrice, read_catalog
from app.resources import Resources
from app.routers.health import check_embedding_model

router = APIRouter(prefix="/api/v1/models", tags=["models"])

_STATE = "ok, unconfigured or unreachable, as in `/health/ready`."


class ModelPriceOut(BaseModel):
    """US dollars for a million tokens, as decimal strings."""

    model_config = ConfigDict(from_attributes=True)

    input_usd: Decimal
    output_usd: Decimal


class ModelChoiceOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: str = Field(description="What `model` of a chat takes.")
    provider: str
    is_default: bool
    state: str = Field(description=f"Of its provider: {_STATE}")
    context_window: int | None = Field(
        description="Tokens of prompt and answer together; null while its provider does not answer."
    )
    targets: list[str] = Field(description="Of an alias (its provider is `alias`): the models.")
    description: str = Field(description="Of an alias.")
    price: ModelPriceOut | None = Field(description="Null where it is not known.")


class ProviderOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    name: str
    state: str = Field(description=_STATE)
    hint: str | None = Field(description="One sentence of what to do; null where nothing is.")


class EmbeddingModelOut(BaseModel):
    """The one that documents are embedded with."""

    id: str
    state: Literal["ok", "unusable", "unknown"]


class ModelCatalogOut(BaseModel):
    models: list[ModelChoiceOut] = Field(description="The default one first.")
    answers: Literal["model", "extractive"] = Field(
        description="What answers when no model is named: a language model, or quotes."
    )
    embedding_model: EmbeddingModelOut
    providers: list[ProviderOut]


@router.get("")
async def list_models(caller: Reader, resources: ResourcesDep) -> ModelCatalogOut:
    """What the caller can choose. A provider that is down is shown as that."""
    catalog = await read_callers_catalog(caller, resources)
    return ModelCatalogOut(
        models=[ModelChoiceOut.model_validate(model) for model in catalog.models],
        answers="extractive" if catalog.is_extractive else "model",
        embedding_model=await _embedding_model(resources),
        providers=[ProviderOut.model_validate(provider) for provider in catalog.providers],
    )


async def read_callers_catalog(caller: Principal, resources: Resources) -> Catalog:
    """Return what the caller may use, with what it costs their organization."""

    async def price_of(provider: str, model: str) -> ModelPrice | None:
        price = await resources.prices.price_of(provider, model, caller.org_id)
        return ModelPrice(price.rates.input_usd, price.rates.output_usd) if price else None

    return await read_catalog(
        resources.model_router, allowed=caller.allowed_models, price_of=price_of
    )


async def _embedding_model(resources: Resources) -> EmbeddingModelOut:
    configured = resources.embedders.configured
    model_id = f"{configured.name}/{configured.model}"
    try:
        space = await resources.spaces.find_live()
    except (SQLAlchemyError, OSError):
        return EmbeddingModelOut(id=model_id, state="unknown")
    state = await check_embedding_model(resources)
    return EmbeddingModelOut(id=space.model_id if space else model_id, state=state)

"""What models cost here, where that is not what the list of prices says; for operators."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Path, Query, status
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from app.audit_trail import Noted
from app.core.numbers import PlainDecimal
from app.dependencies import Operator, ResourcesDep
from app.usage.prices import (
    PRICED_PROVIDERS,
    Rates,
    delete_override,
    list_overrides,
    set_override,
)

router = APIRouter(prefix="/api/v1/admin/prices", tags=["admin"])

_UNREADABLE = "\ufffd"  # what the server makes of bytes that are no text


def _to_model_id(model_id: str) -> str:
    provider, _, model = model_id.partition("/")
    if provider not in PRICED_PROVIDERS or not model:
        raise ValueError(
            f"name it as provider/model, with one of the providers {', '.join(PRICED_PROVIDERS)}"
        )
    if not model.isprintable() or " " in model or _UNREADABLE in model:
        raise ValueError("it may have no spaces, and nothing that can't be shown")
    return model_id


_MAX_MODEL_CHARS = 200
PricedModel = Annotated[
    str,
    Path(
        max_length=_MAX_MODEL_CHARS,
        description="As `provider/model`; `provider/*` is each of its models that was given none.",
    ),
    AfterValidator(_to_model_id),
]
# One that was set is deleted, whatever it is called.
ModelId = Annotated[str, Path(max_length=_MAX_MODEL_CHARS, description="As it is listed.")]
OrganizationId = Annotated[
    UUID | None, Query(description="Whose price it is; of all organizations, if none.")
]
_Usd = Annotated[PlainDecimal, Field(ge=0, le=1_000_000, max_digits=13, decimal_places=6)]


class PriceIn(BaseModel):
    """US dollars for a million tokens."""

    model_config = ConfigDict(extra="forbid")

    input_usd: _Usd
    output_usd: _Usd
    cached_input_usd: _Usd | None = Field(
        default=None, description="Of input that the vendor had read before; null: as other input."
    )


class PriceOut(BaseModel):
    model: str
    organization_id: UUID | None
    input_usd: str
    output_usd: str
    cached_input_usd: str | None
    updated_at: datetime


class PricesOut(BaseModel):
    prices: list[PriceOut]


@router.get("")
async def list_prices(_operator: Operator, resources: ResourcesDep) -> PricesOut:
    """All that are set here; what a model without one costs, `GET /api/v1/models` says."""
    async with resources.db.system_transaction() as session:
        overrides = await list_overrides(session)
    return PricesOut(
        prices=[
            PriceOut(
                model=each.model,
                organization_id=each.org_id,
                input_usd=_show(each.rates.input_usd),
                output_usd=_show(each.rates.output_usd),
                cached_input_usd=(
                    None
                    if each.rates.cached_input_usd is None
                    else _show(each.rates.cached_input_usd)
                ),
                updated_at=each.updated_at,
            )
            for each in overrides
        ]
    )


@router.put("/{model:path}", status_code=status.HTTP_204_NO_CONTENT)
async def put_price(
    model: PricedModel,
    body: PriceIn,
    _operator: Operator,
    resources: ResourcesDep,
    note: Noted,
    organization_id: OrganizationId = None,
) -> None:
    """Set what a model costs from now on. Holds everywhere within 2 s."""
    note.details = _whose(organization_id) | body.model_dump(mode="json")
    rates = Rates(body.input_usd, body.output_usd, body.cached_input_usd)
    async with resources.db.system_transaction() as session:
        await set_override(session, model, rates, organization_id)
    resources.prices.forget()


@router.delete("/{model:path}", status_code=status.HTTP_204_NO_CONTENT)
async def delete_price(
    model: ModelId,
    _operator: Operator,
    resources: ResourcesDep,
    note: Noted,
    organization_id: OrganizationId = None,
) -> None:
    """Go back to the deployment's price, or to the list's."""
    note.details = _whose(organization_id)
    async with resources.db.system_transaction() as session:
        await delete_override(session, model, organization_id)
    resources.prices.forget()


def _whose(organization_id: UUID | None) -> dict[str, Any]:
    """For the audit log; null is of all organizations."""
    return {"organization_id": organization_id and str(organization_id)}


def _show(usd: Decimal) -> str:
    return f"{usd.normalize():f}"

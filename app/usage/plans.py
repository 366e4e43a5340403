"""What a plan allows: the one table of limits."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Annotated, Any, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError


class Feature(StrEnum):
    """What is counted apart, because it costs apart."""

    CHAT = "chat"
    SEARCH = "search"
    UPLOAD = "upload"
    EMBEDDING = "embedding"


class OrganizationPlan(StrEnum):
    FREE = "free"
    PRO = "pro"
    ENTERPRISE = "enterprise"


@dataclass(frozen=True, slots=True)
class Limits:
    """What an organization may do and keep; None is without limit.

    A rate lets so many units pass at once, see `units_of`, and after that so many a minute, evenly;
    `address_per_minute` is for all features together, from one network address. A user and an API
    key may take their share (percent) of what the organization has: of each rate, and of the
    tokens of a day (UTC).
    """

    chat_per_minute: int | None
    search_per_minute: int | None
    upload_per_minute: int | None
    embedding_per_minute: int | None
    address_per_minute: int | None
    tokens_per_day: int | None
    streams: int
    storage_bytes: int | None
    documents: int | None
    members: int | None
    api_keys: int | None
    user_share_percent: int = 100
    key_share_percent: int = 100

    def per_minute(self, feature: Feature) -> int | None:
        limit: int | None = getattr(self, f"{feature.value}_per_minute")
        return limit


_GIB = 1024**3

PLANS: Mapping[OrganizationPlan, Limits] = {
    OrganizationPlan.FREE: Limits(
        chat_per_minute=60,
        search_per_minute=300,
        upload_per_minute=120,
        embedding_per_minute=60,
        address_per_minute=1_200,
        tokens_per_day=500_000,
        streams=20,
        storage_bytes=50 * _GIB,
        documents=10_000,
        members=5,
        api_keys=10,
    ),
    OrganizationPlan.PRO: Limits(
        chat_per_minute=600,
        search_per_minute=3_000,
        upload_per_minute=1_200,
        embedding_per_minute=600,
        address_per_minute=12_000,
        tokens_per_day=5_000_000,
        streams=200,
        storage_bytes=500 * _GIB,
        documents=100_000,
        members=50,
        api_keys=100,
    ),
    OrganizationPlan.ENTERPRISE: Limits(
        chat_per_minute=None,
        search_per_minute=None,
        upload_per_minute=None,
        embedding_per_minute=None,
        address_per_minute=None,
        tokens_per_day=None,
        streams=2_000,
        storage_bytes=None,
        documents=None,
        members=None,
        api_keys=None,
    ),
}

# How many inputs of one request make a unit; a request of any other feature is one unit.
_INPUTS_PER_UNIT = {Feature.EMBEDDING: 100}


def units_of(feature: Feature, inputs: int = 1) -> int:
    """Return what a request costs of its feature's rate: at least 1."""
    return max(1, -(-inputs // _INPUTS_PER_UNIT[feature])) if feature in _INPUTS_PER_UNIT else 1


_Amount = Annotated[int, Field(ge=0, le=2**53)] | None
_PerMinute = Annotated[int, Field(ge=1, le=1_000_000)] | None
_Percent = Annotated[int, Field(ge=1, le=100)]


class LimitOverrides(BaseModel):
    """What an organization has instead of its plan's; null is without limit.

    What is not named is the plan's.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    chat_per_minute: _PerMinute = None
    search_per_minute: _PerMinute = None
    upload_per_minute: _PerMinute = None
    embedding_per_minute: _PerMinute = None
    address_per_minute: _PerMinute = None
    tokens_per_day: _Amount = None
    streams: Annotated[int, Field(ge=1, le=100_000)] = 1
    storage_bytes: _Amount = None
    documents: _Amount = None
    members: _Amount = None
    api_keys: _Amount = None
    user_share_percent: _Percent = 100
    key_share_percent: _Percent = 100

    def named(self) -> dict[str, int | None]:
        return self.model_dump(exclude_unset=True)


def effective_limits(plan: OrganizationPlan, overrides: Mapping[str, Any]) -> Limits:
    """Return the plan's limits with what stands in the organization's row instead.

    An entry that can't be one, as of another version of this program, leaves all to the plan.
    """
    try:
        named = LimitOverrides.model_validate(dict(overrides)).named()
    except ValidationError:
        return PLANS[plan]
    return replace(PLANS[plan], **cast(dict[str, Any], named))

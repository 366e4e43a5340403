"""The caller's organization: its settings, and what its documents take up."""

from typing import Self
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.accounts.organizations import change_organization, get_organization
from app.core.errors import PermissionDenied
from app.core.text import AnyText
from app.dependencies import Caller, ResourcesDep
from app.documents.storage_use import measure_storage
from app.models.accounts import MemberRole

router = APIRouter(prefix="/api/v1/organization", tags=["organization"])

MAX_SYSTEM_PROMPT_CHARS = 4_000
_LARGEST_NAMED = 5
_MAY_CHANGE = frozenset({MemberRole.OWNER, MemberRole.ADMIN})


class OrganizationSettingsOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: UUID
    name: str
    system_prompt: str = Field(description="What models are told besides our own instructions.")
    reject_prompt_injection: bool = Field(
        validation_alias="rejects_injections",
        description="Refuse questions that look like prompt injection.",
    )


class OrganizationPatch(BaseModel):
    """What is not named stays as it is."""

    model_config = ConfigDict(extra="forbid")

    system_prompt: AnyText = Field(default="", max_length=MAX_SYSTEM_PROMPT_CHARS)
    reject_prompt_injection: bool = False

    @model_validator(mode="after")
    def _names_something(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("name at least one of system_prompt and reject_prompt_injection")
        return self


class DocumentsByStatus(BaseModel):
    queued: int = 0
    processing: int = 0
    ready: int = 0
    failed: int = 0


class LargestDocument(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: UUID
    filename: str
    size_bytes: int


class StorageUseOut(BaseModel):
    """What documents take up that are not deleted."""

    model_config = ConfigDict(from_attributes=True)

    documents: int
    bytes: int = Field(
        validation_alias="size_bytes",
        description="Of the newest content of each. Until a replacement is ready, the one before is"
        " kept too, and not counted.",
    )
    pages: int
    chunks: int
    by_status: DocumentsByStatus
    largest: list[LargestDocument] = Field(description="At most five, the largest first.")


@router.get("")
async def read_organization(caller: Caller, resources: ResourcesDep) -> OrganizationSettingsOut:
    async with resources.db.transaction(caller) as session:
        found = await get_organization(session, caller.org_id)
    return OrganizationSettingsOut.model_validate(found)


@router.patch("")
async def patch_organization(
    body: OrganizationPatch, caller: Caller, resources: ResourcesDep
) -> OrganizationSettingsOut:
    """For its owners and admins. It holds from the next question on."""
    if caller.role not in _MAY_CHANGE:
        raise PermissionDenied("Only owners and admins of the organization may change it.")
    named = body.model_fields_set
    async with resources.db.transaction(caller) as session:
        changed = await change_organization(
            session,
            caller.org_id,
            system_prompt=body.system_prompt if "system_prompt" in named else None,
            rejects_injections=(
                body.reject_prompt_injection if "reject_prompt_injection" in named else None
            ),
        )
    return OrganizationSettingsOut.model_validate(changed)


@router.get("/storage")
async def read_storage_use(caller: Caller, resources: ResourcesDep) -> StorageUseOut:
    """How many documents there are, how large, and the largest of them."""
    async with resources.db.transaction(caller) as session:
        used = await measure_storage(session, caller.org_id, largest=_LARGEST_NAMED)
    return StorageUseOut.model_validate(used)

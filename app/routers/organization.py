"""The caller's organization: its settings, and what its documents take up."""

from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from fastapi import APIRouter, status
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from app.accounts import organizations
from app.accounts.organizations import change_organization, get_organization
from app.accounts.users import clean_name
from app.audit_trail import Noted
from app.core.text import AnyText
from app.dependencies import (
    OrganizationManager,
    OrganizationOwner,
    OrganizationReader,
    ResourcesDep,
)
from app.documents.storage_use import measure_storage
from app.models.members import OrganizationDeletion

router = APIRouter(prefix="/api/v1/organization", tags=["organization"])

MAX_SYSTEM_PROMPT_CHARS = 4_000
_LARGEST_NAMED = 5


def _clean_organization_name(name: str) -> str:
    """Raises ValueError for one that is too long, or of which nothing can be seen."""
    cleaned = clean_name(name)
    if not cleaned:
        raise ValueError("it is empty")
    return cleaned


OrganizationName = Annotated[
    AnyText,
    Field(max_length=organizations.MAX_NAME_CHARS, examples=["Lovelace & Babbage"]),
    AfterValidator(_clean_organization_name),
]


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

    name: OrganizationName = ""
    system_prompt: AnyText = Field(default="", max_length=MAX_SYSTEM_PROMPT_CHARS)
    reject_prompt_injection: bool = False

    @model_validator(mode="after")
    def _names_something(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("name at least one of name, system_prompt, reject_prompt_injection")
        return self


class OrganizationDelete(BaseModel):
    model_config = ConfigDict(extra="forbid")

    confirm: str = Field(max_length=1024, description="The name of the organization.")


class OrganizationDeletionOut(BaseModel):
    """The receipt of a deletion. Outlives the organization."""

    id: UUID
    organization_id: UUID
    status: Literal["pending", "completed"]
    requested_at: datetime
    completed_at: datetime | None = Field(description="When the last of it was removed.")
    verified_at: datetime | None = Field(description="When a count after that found nothing left.")
    rows: dict[str, int] = Field(description="How many there were, by table; empty until counted.")
    files: int
    file_bytes: int


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
    largest: list[LargestDocument] = Field(
        description="At most five of those that you see, the largest first."
    )


@router.get("")
async def read_organization(
    caller: OrganizationReader, resources: ResourcesDep
) -> OrganizationSettingsOut:
    async with resources.db.transaction(caller) as session:
        found = await get_organization(session, caller.org_id)
    return OrganizationSettingsOut.model_validate(found)


@router.patch("")
async def patch_organization(
    body: OrganizationPatch, caller: OrganizationManager, resources: ResourcesDep, note: Noted
) -> OrganizationSettingsOut:
    """For its owners and admins. It holds from the next question on; everywhere within 3 s."""
    named = body.model_fields_set
    note.details = body.model_dump(exclude_unset=True, exclude={"system_prompt"})
    if "system_prompt" in named:
        note.details["system_prompt_chars"] = len(body.system_prompt)
    async with resources.db.transaction(caller) as session:
        changed = await change_organization(
            session,
            caller.org_id,
            name=body.name if "name" in named else None,
            system_prompt=body.system_prompt if "system_prompt" in named else None,
            rejects_injections=(
                body.reject_prompt_injection if "reject_prompt_injection" in named else None
            ),
        )
    resources.policies.forget(caller.org_id)
    return OrganizationSettingsOut.model_validate(changed)


@router.delete("", status_code=status.HTTP_202_ACCEPTED)
async def delete_organization(
    body: OrganizationDelete, caller: OrganizationOwner, resources: ResourcesDep, note: Noted
) -> OrganizationDeletionOut:
    """Delete the organization with everything in it, for good. For its owners.

    All its sign-ins, keys and streams end within 5 s, the caller's too. What is in it is removed
    after that; who asked for it finds the receipt from their next sign-in. Of the audit log who did
    what and when stays, for operators: without addresses, names and what changed.
    """
    note.object_id = str(caller.org_id)
    async with resources.db.system_transaction() as session:
        deletion = await organizations.delete_organization(session, caller, confirm=body.confirm)
    resources.principals.forget(caller.org_id)
    return show_organization_deletion(deletion)


def show_organization_deletion(deletion: OrganizationDeletion) -> OrganizationDeletionOut:
    return OrganizationDeletionOut(
        id=deletion.id,
        organization_id=deletion.org_id,
        status="pending" if deletion.completed_at is None else "completed",
        requested_at=deletion.requested_at,
        completed_at=deletion.completed_at,
        verified_at=deletion.verified_at,
        rows=deletion.row_counts,
        files=deletion.file_count,
        file_bytes=deletion.file_bytes,
    )


@router.get("/storage")
async def read_storage_use(caller: OrganizationReader, resources: ResourcesDep) -> StorageUseOut:
    """How many documents there are, how large, and the largest of them."""
    async with resources.db.transaction(caller) as session:
        used = await measure_storage(session, caller.org_id, largest=_LARGEST_NAMED)
    return StorageUseOut.model_validate(used)

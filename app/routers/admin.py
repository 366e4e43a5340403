"""Users and organizations of the deployment, for its operators. No documents of anybody."""

from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.accounts import operators
from app.accounts.operators import OrganizationView, UserView
from app.audit_trail import Noted
from app.core.text import AnyText
from app.dependencies import Operator, ResourcesDep
from app.models.accounts import MemberRole
from app.usage.plans import OrganizationPlan

router = APIRouter(prefix="/api/v1/admin", tags=["admin"])

_Words = Annotated[AnyText, Query(max_length=255, description="Any part of it, in any case.")]
_Limit = Annotated[int, Query(ge=1, le=200)]


class OrganizationRoleOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    org_id: UUID
    name: str
    role: MemberRole


class AdminUserOut(BaseModel):
    id: UUID
    email: str
    name: str
    is_active: bool
    is_operator: bool
    created_at: datetime
    organizations: list[OrganizationRoleOut]


class AdminUserPage(BaseModel):
    items: list[AdminUserOut]
    next_cursor: UUID | None


class AdminUserPatch(BaseModel):
    """What is not named stays as it is."""

    model_config = ConfigDict(extra="forbid")

    is_active: bool | None = Field(default=None, description="False signs the user out.")
    is_operator: bool | None = None

    @model_validator(mode="after")
    def _names_something(self) -> Self:
        if self.is_active is None and self.is_operator is None:
            raise ValueError("name at least one of is_active and is_operator")
        return self


class AdminOrganizationOut(BaseModel):
    id: UUID
    name: str
    plan: OrganizationPlan = Field(description="The one in force.")
    created_at: datetime
    deleted_at: datetime | None = Field(description="While it is being removed.")
    members: int
    documents: int
    document_bytes: int


class AdminOrganizationPage(BaseModel):
    items: list[AdminOrganizationOut]
    next_cursor: UUID | None


@router.get("/users")
async def list_users(
    _operator: Operator,
    resources: ResourcesDep,
    query: _Words = "",
    cursor: UUID | None = None,
    limit: _Limit = 50,
) -> AdminUserPage:
    """Users by their address or name, newest first."""
    async with resources.db.system_transaction() as session:
        page = await operators.list_users(session, words=query, cursor=cursor, limit=limit)
    return AdminUserPage(
        items=[_show_user(view) for view in page.items],
        next_cursor=page.next_id,
    )


@router.patch("/users/{user_id}")
async def change_user(
    user_id: UUID,
    body: AdminUserPatch,
    _operator: Operator,
    resources: ResourcesDep,
    note: Noted,
) -> AdminUserOut:
    """Switch a user off or on, or make them an operator or no longer one; within 5 s."""
    note.details = body.model_dump(exclude_none=True)
    async with resources.db.system_transaction() as session:
        view = await operators.change_user(
            session, user_id, is_active=body.is_active, is_operator=body.is_operator
        )
    return _show_user(view)


@router.get("/organizations")
async def list_organizations(
    _operator: Operator,
    resources: ResourcesDep,
    query: _Words = "",
    cursor: UUID | None = None,
    limit: _Limit = 50,
) -> AdminOrganizationPage:
    """Organizations by their name, newest first, with how large they are."""
    async with resources.db.system_transaction() as session:
        page = await operators.list_organizations(session, words=query, cursor=cursor, limit=limit)
    default = OrganizationPlan(resources.settings.default_plan)
    return AdminOrganizationPage(
        items=[_show_organization(view, default) for view in page.items],
        next_cursor=page.next_id,
    )


def _show_user(view: UserView) -> AdminUserOut:
    user = view.user
    return AdminUserOut(
        id=user.id,
        email=user.email,
        name=user.name,
        is_active=user.is_active,
        is_operator=user.is_operator,
        created_at=user.created_at,
        organizations=[OrganizationRoleOut.model_validate(each) for each in view.organizations],
    )


def _show_organization(view: OrganizationView, default: OrganizationPlan) -> AdminOrganizationOut:
    organization = view.organization
    return AdminOrganizationOut(
        id=organization.id,
        name=organization.name,
        plan=OrganizationPlan(organization.plan) if organization.plan else default,
        created_at=organization.created_at,
        deleted_at=organization.deleted_at,
        members=view.members,
        documents=view.documents,
        document_bytes=view.document_bytes,
    )

"""Register, sign in, refresh, sign out, change the password; the caller's name and sign-ins."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Request, status
from fastapi.security import OAuth2PasswordRequestForm
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from app.accounts import sign_ins, users
from app.accounts.authentication import Authenticator, SignedIn
from app.accounts.permissions import ROLE_PERMISSIONS, Permission
from app.accounts.sign_ins import ActiveSignIn
from app.accounts.user_agents import name_client
from app.accounts.users import Account
from app.audit_trail import Noted
from app.core.text import AnyText
from app.dependencies import Address, AttemptsDep, ResourcesDep, SignedInCaller
from app.models.accounts import MemberRole

router = APIRouter(prefix="/api/v1/auth", tags=["auth"])

_UNKNOWN_CLIENT = "Unknown client"

PersonName = Annotated[
    AnyText, Field(max_length=users.MAX_NAME_CHARS), AfterValidator(users.clean_name)
]


class Credentials(BaseModel):
    model_config = ConfigDict(extra="forbid")

    email: str = Field(max_length=320, examples=["ada@example.com"])
    password: str = Field(max_length=1024, examples=["correct horse battery"])


class RefreshRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    refresh_token: str = Field(max_length=256)


class PasswordChange(BaseModel):
    model_config = ConfigDict(extra="forbid")

    current_password: str = Field(max_length=1024)
    new_password: str = Field(max_length=1024)


class ProfilePatch(BaseModel):
    """What is not named stays as it is."""

    model_config = ConfigDict(extra="forbid")

    name: PersonName = ""


class UserOut(BaseModel):
    id: UUID
    email: str
    name: str = Field(description="Empty until the user gives one.")
    is_operator: bool = Field(description="Whether they run this deployment, see `/api/v1/admin`.")


class OrganizationOut(BaseModel):
    id: UUID
    name: str
    role: MemberRole
    permissions: list[Permission] = Field(description="What the role may do.")


class Me(BaseModel):
    user: UserOut
    organization: OrganizationOut


class AccessOut(Me):
    access_token: str
    token_type: str = "bearer"  # noqa: S105  # OAuth's name of the scheme, not a secret
    expires_in: int = Field(description="Seconds until the access token expires.")


class Tokens(AccessOut):
    refresh_token: str = Field(description="Opaque; good for one use.")


class SignInOut(BaseModel):
    id: UUID
    client: str = Field(description='Untrusted text such as "Chrome on Linux".')
    created_at: datetime
    last_used_at: datetime = Field(description="When it last gave an access token.")
    expires_at: datetime
    is_current: bool = Field(description="Whether this request's access token comes from it.")


class SignIns(BaseModel):
    items: list[SignInOut]


class EndedSignIns(BaseModel):
    ended: int


async def get_authenticator(resources: ResourcesDep) -> Authenticator:
    return Authenticator(resources.settings, resources.db, resources.passwords)


async def get_client(request: Request) -> str:
    """Return what the request comes from, in a few words of untrusted text; perhaps empty."""
    return name_client(request.headers.get("user-agent", ""))


AuthenticatorDep = Annotated[Authenticator, Depends(get_authenticator)]
Client = Annotated[str, Depends(get_client)]


@router.post("/register", status_code=status.HTTP_201_CREATED)
async def register(
    body: Credentials,
    authenticator: AuthenticatorDep,
    client: Client,
    attempts: AttemptsDep,
    address: Address,
    note: Noted,
) -> Tokens:
    """Create an account with an organization of its own, and sign in."""
    await attempts.register(account=body.email, address=address)
    signed_in = await authenticator.register(
        email=body.email, password=body.password, name="", client=client
    )
    note.name(signed_in.account)
    note.tell_operator(signed_in.account)
    return show_tokens(signed_in)


@router.post("/login")
async def login(
    form: Annotated[OAuth2PasswordRequestForm, Depends()],
    authenticator: AuthenticatorDep,
    client: Client,
    attempts: AttemptsDep,
    address: Address,
    note: Noted,
) -> Tokens:
    """Sign in; `username` is the e-mail address. Unknown user and wrong password look the same."""
    async with attempts.guessing(account=form.username, address=address):
        signed_in = await authenticator.sign_in(
            email=form.username, password=form.password, client=client
        )
    note.name(signed_in.account)
    return show_tokens(signed_in)


@router.post("/refresh")
async def refresh(
    body: RefreshRequest, authenticator: AuthenticatorDep, attempts: AttemptsDep, address: Address
) -> Tokens:
    """Exchange a refresh token for new tokens. Using one twice ends the sign-in."""
    await attempts.refresh(address=address)
    return show_tokens(await authenticator.refresh(body.refresh_token))


@router.post("/logout", status_code=status.HTTP_204_NO_CONTENT)
async def logout(body: RefreshRequest, authenticator: AuthenticatorDep, note: Noted) -> None:
    """End the sign-in that a refresh token belongs to; its access tokens end within 5 s."""
    note.name(await authenticator.end(body.refresh_token))


@router.post("/password")
async def change_password(
    body: PasswordChange,
    caller: SignedInCaller,
    authenticator: AuthenticatorDep,
    client: Client,
    attempts: AttemptsDep,
    address: Address,
) -> Tokens:
    """Set a new password. Ends every other sign-in and gives new tokens for this one."""
    async with attempts.guessing(account=str(caller.user_id), address=address):
        signed_in = await authenticator.change_password(
            caller, current=body.current_password, new=body.new_password, client=client
        )
    return show_tokens(signed_in)


@router.get("/me")
async def me(caller: SignedInCaller, resources: ResourcesDep) -> Me:
    """Who the access token stands for."""
    async with resources.db.system_transaction() as session:
        account = await users.get_account(session, caller.user_id, org_id=caller.org_id)
    return Me(user=show_user(account), organization=show_organization(account))


@router.patch("/me")
async def patch_me(
    body: ProfilePatch, caller: SignedInCaller, resources: ResourcesDep, note: Noted
) -> Me:
    """Change the caller's profile."""
    note.details = {"changed": sorted(body.model_fields_set)}
    async with resources.db.system_transaction() as session:
        if "name" in body.model_fields_set:
            await users.set_name(session, caller.user_id, body.name)
        account = await users.get_account(session, caller.user_id, org_id=caller.org_id)
    return Me(user=show_user(account), organization=show_organization(account))


@router.get("/sign-ins")
async def list_sign_ins(caller: SignedInCaller, resources: ResourcesDep) -> SignIns:
    """List where the caller is signed in, the newest use first; at most 100."""
    async with resources.db.system_transaction() as session:
        active = await sign_ins.list_active(session, caller.user_id)
    return SignIns(items=[_show_sign_in(found, caller.session_id) for found in active])


@router.delete("/sign-ins")
async def end_other_sign_ins(caller: SignedInCaller, resources: ResourcesDep) -> EndedSignIns:
    """End all but the one of this request; their access tokens end within 5 s."""
    async with resources.db.system_transaction() as session:
        ended = await sign_ins.end_others(session, caller.user_id, caller.session_id)
    return EndedSignIns(ended=ended)


@router.delete("/sign-ins/{sign_in_id}", status_code=status.HTTP_204_NO_CONTENT)
async def end_sign_in(sign_in_id: UUID, caller: SignedInCaller, resources: ResourcesDep) -> None:
    """End one, perhaps that of this request; its access tokens end within 5 s."""
    async with resources.db.system_transaction() as session:
        await sign_ins.end_one(session, caller.user_id, sign_in_id)


def show_tokens(signed_in: SignedIn) -> Tokens:
    return Tokens(
        access_token=signed_in.access_token,
        expires_in=signed_in.access_lifetime_s,
        refresh_token=signed_in.refresh_token,
        user=show_user(signed_in.account),
        organization=show_organization(signed_in.account),
    )


def show_user(account: Account) -> UserOut:
    return UserOut(
        id=account.user_id,
        email=account.email,
        name=account.name,
        is_operator=account.is_operator,
    )


def show_organization(account: Account) -> OrganizationOut:
    permitted = ROLE_PERMISSIONS[account.role]
    return OrganizationOut(
        id=account.org_id,
        name=account.org_name,
        role=account.role,
        permissions=[permission for permission in Permission if permission in permitted],
    )


def _show_sign_in(found: ActiveSignIn, current_id: UUID) -> SignInOut:
    return SignInOut(
        id=found.id,
        client=found.client or _UNKNOWN_CLIENT,
        created_at=found.created_at,
        last_used_at=found.last_used_at,
        expires_at=found.expires_at,
        is_current=found.id == current_id,
    )

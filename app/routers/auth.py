"""Register, sign in, refresh, sign out, change the password."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, status
from fastapi.security import OAuth2PasswordRequestForm
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts import sign_ins, users
from app.accounts.users import Account
from app.core.errors import NotAuthenticated, UnprocessableRequest
from app.core.security import issue_access_token, normalize_password
from app.dependencies import Caller, ResourcesDep
from app.models.accounts import MemberRole
from app.resources import Resources

router = APIRouter(prefix="/api/v1/auth", tags=["auth"])


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


class UserOut(BaseModel):
    id: UUID
    email: str


class OrganizationOut(BaseModel):
    id: UUID
    name: str
    role: MemberRole


class Me(BaseModel):
    user: UserOut
    organization: OrganizationOut


class Tokens(Me):
    access_token: str
    token_type: str = "bearer"  # noqa: S105  # OAuth's name of the scheme, not a secret
    expires_in: int = Field(description="Seconds until the access token expires.")
    refresh_token: str = Field(description="Opaque; good for one use.")


@router.post("/register", status_code=status.HTTP_201_CREATED)
async def register(body: Credentials, resources: ResourcesDep) -> Tokens:
    """Create an account with an organization of its own, and sign in."""
    email = users.normalize_email(body.email)
    password_hash = await resources.passwords.hash(normalize_password(body.password))
    async with resources.db.system_transaction() as session:
        account = await users.register(
            session,
            email=email,
            password_hash=password_hash,
            # A laptop has one user, and nobody there reads about a command first.
            first_is_operator=not resources.settings.is_production,
        )
        return await _sign_in(resources, session, account)


@router.post("/login")
async def login(
    form: Annotated[OAuth2PasswordRequestForm, Depends()], resources: ResourcesDep
) -> Tokens:
    """Sign in; `username` is the e-mail address. Unknown user and wrong password look the same."""
    try:
        email = users.normalize_email(form.username)
    except UnprocessableRequest:
        email = ""  # no user has it, and it must take as long as any other
    async with resources.db.system_transaction() as session:
        found = await users.find_credentials(session, email)
    matches = await resources.passwords.verify(form.password, found[1] if found else None)
    if not matches or found is None:
        raise NotAuthenticated("Wrong e-mail address or password.", code="invalid_credentials")
    async with resources.db.system_transaction() as session:
        await users.confirm_credentials(session, *found)
        account = await users.get_account(session, found[0])
        return await _sign_in(resources, session, account)


@router.post("/refresh")
async def refresh(body: RefreshRequest, resources: ResourcesDep) -> Tokens:
    """Exchange a refresh token for new tokens. Using one twice ends the sign-in."""
    async with resources.db.system_transaction() as session:
        rotation = await sign_ins.rotate(
            session,
            body.refresh_token,
            lifetime_days=resources.settings.refresh_token_expire_days,
        )
        if rotation is not None:
            account = await users.get_account(session, rotation.user_id, org_id=rotation.org_id)
    # Outside the transaction: a family that was revoked must stay revoked.
    if rotation is None:
        raise NotAuthenticated("The refresh token is not valid.", code="invalid_refresh_token")
    return _tokens(resources, account, rotation.family_id, rotation.token)


@router.post("/logout", status_code=status.HTTP_204_NO_CONTENT)
async def logout(body: RefreshRequest, resources: ResourcesDep) -> None:
    """End the sign-in that a refresh token belongs to; its access tokens end within 5 s."""
    async with resources.db.system_transaction() as session:
        await sign_ins.end(session, body.refresh_token)


@router.post("/password")
async def change_password(body: PasswordChange, caller: Caller, resources: ResourcesDep) -> Tokens:
    """Set a new password. Ends every other sign-in and gives new tokens for this one."""
    new_password = normalize_password(body.new_password)
    async with resources.db.system_transaction() as session:
        current_hash = await users.get_password_hash(session, caller.user_id)
    if not await resources.passwords.verify(body.current_password, current_hash):
        raise NotAuthenticated("The current password is wrong.", code="invalid_credentials")
    new_hash = await resources.passwords.hash(new_password)
    async with resources.db.system_transaction() as session:
        await users.set_password(session, caller.user_id, new_hash)
        await sign_ins.end_all(session, caller.user_id)
        account = await users.get_account(session, caller.user_id, org_id=caller.org_id)
        return await _sign_in(resources, session, account)


@router.get("/me")
async def me(caller: Caller, resources: ResourcesDep) -> Me:
    """Who the access token stands for."""
    async with resources.db.system_transaction() as session:
        account = await users.get_account(session, caller.user_id, org_id=caller.org_id)
    return Me(user=_user(account), organization=_organization(account))


async def _sign_in(resources: Resources, session: AsyncSession, account: Account) -> Tokens:
    session_id, refresh_token = await sign_ins.start(
        session,
        org_id=account.org_id,
        user_id=account.user_id,
        lifetime_days=resources.settings.refresh_token_expire_days,
    )
    return _tokens(resources, account, session_id, refresh_token)


def _tokens(resources: Resources, account: Account, session_id: UUID, refresh_token: str) -> Tokens:
    lifetime_s = resources.settings.access_token_expire_minutes * 60
    return Tokens(
        access_token=issue_access_token(
            resources.settings.signing_key,
            user_id=account.user_id,
            org_id=account.org_id,
            session_id=session_id,
            epoch=account.token_epoch,
            lifetime_s=lifetime_s,
        ),
        expires_in=lifetime_s,
        refresh_token=refresh_token,
        user=_user(account),
        organization=_organization(account),
    )


def _user(account: Account) -> UserOut:
    return UserOut(id=account.user_id, email=account.email)


def _organization(account: Account) -> OrganizationOut:
    return OrganizationOut(id=account.org_id, name=account.org_name, role=account.role)

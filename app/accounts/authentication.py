"""From a password or a refresh token to a sign-in, for the token API and for the web app alike."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts import sign_ins, users
from app.accounts.principal import Principal
from app.accounts.sign_ins import EndedSignIn
from app.accounts.users import Account
from app.config import Settings
from app.core.db import Database
from app.core.errors import NotAuthenticated, NotFound, UnprocessableRequest
from app.core.security import PasswordHasher, issue_access_token, normalize_password


@dataclass(frozen=True, slots=True)
class SignedIn:
    """Who has just proved who they are, and what they may carry away."""

    account: Account
    access_token: str
    access_lifetime_s: int
    refresh_token: str


@dataclass(frozen=True, slots=True)
class Authenticator:
    """Checks what people know and begins, renews and ends their sign-ins.

    `client` says what somebody signs in from, see `user_agents`.
    """

    settings: Settings
    db: Database
    passwords: PasswordHasher

    async def register(self, *, email: str, password: str, name: str, client: str) -> SignedIn:
        """Create an account with an organization of its own, and sign in.

        Raises UnprocessableRequest for what can't be an address or a password, and Conflict for an
        address that is taken.
        """
        address = users.normalize_email(email)
        password_hash = await self.passwords.hash(normalize_password(password))
        async with self.db.system_transaction() as session:
            account = await users.register(
                session,
                email=address,
                password_hash=password_hash,
                name=name,
                # A laptop has one user, and nobody there reads about a command first.
                first_is_operator=not self.settings.is_production,
            )
            return await self._begin(session, account, client)

    async def sign_in(self, *, email: str, password: str, client: str) -> SignedIn:
        """Raises NotAuthenticated; unknown user and wrong password look the same, and take equally
        long."""
        try:
            address = users.normalize_email(email)
        except UnprocessableRequest:
            address = ""  # no user has it, and it must take as long as any other
        async with self.db.system_transaction() as session:
            found = await users.find_credentials(session, address)
        matches = await self.passwords.verify(password, found[1] if found else None)
        if not matches or found is None:
            raise NotAuthenticated("Wrong e-mail address or password.", code="invalid_credentials")
        async with self.db.system_transaction() as session:
            await users.confirm_credentials(session, *found)
            account = await users.get_or_give_account(session, found[0])
            return await self._begin(session, account, client)

    async def refresh(self, token: str, *, grace_s: float = 0) -> SignedIn:
        """Exchange a refresh token for the next, and for an access token.

        Raises NotAuthenticated. Using one twice ends the sign-in, `grace_s` as in `rotate`.
        """
        async with self.db.system_transaction() as session:
            rotation = await sign_ins.rotate(
                session,
                token,
                key=self.settings.signing_key,
                lifetime_days=self.settings.refresh_token_expire_days,
                grace_s=grace_s,
            )
            account = None
            if rotation is not None:
                account = await users.find_account(
                    session, rotation.user_id, org_id=rotation.org_id
                )
        # Outside the transaction: a family that was revoked must stay revoked.
        if rotation is None or account is None:
            raise NotAuthenticated("The refresh token is not valid.", code="invalid_refresh_token")
        return self._grant(account, rotation.family_id, rotation.token)

    async def switch(
        self, principal: Principal, org_id: UUID, *, token: str | None = None, grace_s: float = 0
    ) -> SignedIn:
        """Go on with a sign-in in another organization, with new tokens.

        The sign-in is that of `token`, a refresh token that is used up (`grace_s` as in `rotate`),
        without one that of the principal. Access tokens for the organization that is left stay good
        until they expire. Raises NotFound for an organization that the user is not in, and
        NotAuthenticated.
        """
        lifetime_days = self.settings.refresh_token_expire_days
        rotation: sign_ins.Rotation | None = None
        async with self.db.system_transaction() as session:
            await sign_ins.lock_user(session, principal.user_id)
            account = await users.find_account(session, principal.user_id, org_id=org_id)
            if account is None:
                raise NotFound("There is no such organization.")
            if token is None:
                rotation = await sign_ins.switch(
                    session,
                    principal.user_id,
                    principal.session_id,
                    org_id=org_id,
                    lifetime_days=lifetime_days,
                )
            elif await sign_ins.is_of(session, token, principal.user_id):
                rotation = await self._rotate_into(session, token, org_id, grace_s)
        # Outside the transaction: a family that was revoked must stay revoked.
        if rotation is None:
            raise NotAuthenticated("The sign-in has ended.", code="invalid_refresh_token")
        return self._grant(account, rotation.family_id, rotation.token)

    async def _rotate_into(
        self, session: AsyncSession, token: str, org_id: UUID, grace_s: float
    ) -> sign_ins.Rotation | None:
        key, lifetime_days = self.settings.signing_key, self.settings.refresh_token_expire_days
        rotation = await sign_ins.rotate(
            session, token, key=key, lifetime_days=lifetime_days, grace_s=grace_s, org_id=org_id
        )
        if rotation is None or rotation.org_id == org_id:
            return rotation
        # Another tab was faster, and what it got is for the organization that is left.
        return await sign_ins.rotate(
            session, rotation.token, key=key, lifetime_days=lifetime_days, org_id=org_id
        )

    async def change_password(
        self, principal: Principal, *, current: str, new: str, client: str
    ) -> SignedIn:
        """End every sign-in of a user and begin one with the new password.

        Raises NotAuthenticated when `current` is wrong, and UnprocessableRequest when `new` won't
        do.
        """
        new_password = normalize_password(new)
        async with self.db.system_transaction() as session:
            current_hash = await users.get_password_hash(session, principal.user_id)
        if not await self.passwords.verify(current, current_hash):
            raise NotAuthenticated("The current password is wrong.", code="invalid_credentials")
        new_hash = await self.passwords.hash(new_password)
        async with self.db.system_transaction() as session:
            await users.confirm_credentials(session, principal.user_id, current_hash)
            await users.set_password(session, principal.user_id, new_hash)
            await sign_ins.end_all(session, principal.user_id)
            account = await users.get_account(session, principal.user_id, org_id=principal.org_id)
            return await self._begin(session, account, client)

    async def end(self, token: str) -> EndedSignIn | None:
        """End the sign-in that a refresh token belongs to; an unknown token is fine."""
        async with self.db.system_transaction() as session:
            return await sign_ins.end(session, token)

    async def _begin(self, session: AsyncSession, account: Account, client: str) -> SignedIn:
        family_id, token = await sign_ins.start(
            session,
            org_id=account.org_id,
            user_id=account.user_id,
            lifetime_days=self.settings.refresh_token_expire_days,
            client=client,
        )
        return self._grant(account, family_id, token)

    def _grant(self, account: Account, family_id: UUID, refresh_token: str) -> SignedIn:
        lifetime_s = self.settings.access_token_expire_minutes * 60
        access_token = issue_access_token(
            self.settings.signing_key,
            user_id=account.user_id,
            org_id=account.org_id,
            session_id=family_id,
            epoch=account.token_epoch,
            lifetime_s=lifetime_s,
        )
        return SignedIn(account, access_token, lifetime_s, refresh_token)

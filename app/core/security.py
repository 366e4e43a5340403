"""Passwords and tokens: argon2id off the event loop, HS256 JWTs behind one wrapper, opaque tokens.

The checks of JWTs are RFC 8725's; python-jose by itself accepts tokens without `exp` or `aud`.
This is the only module that imports `jose`.
"""

import asyncio
import hashlib
import secrets
import time
import unicodedata
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Literal, ParamSpec, TypeVar
from uuid import UUID, uuid4

from jose import JWTError, jwt
from passlib.hash import argon2
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.core.errors import NotAuthenticated, Unavailable, UnprocessableRequest

P = ParamSpec("P")
R = TypeVar("R")

_ALGORITHM = "HS256"
_TOKEN_TYPE = "at+jwt"  # noqa: S105  # RFC 9068's type of an access token, not a secret
_MAX_TOKEN_CHARS = 4096
_LEEWAY_S = 30
_MAX_TOKENS_KNOWN = 1024

MIN_PASSWORD_CHARS, MAX_PASSWORD_CHARS = 8, 256
# Passlib else loads it with the first password, and fails where two threads do that at once.
argon2.set_backend()
# OWASP's argon2id parameters: 19 MiB, two passes. About 40 ms.
_hasher = argon2.using(type="ID", memory_cost=19456, time_cost=2, parallelism=1)
_MAX_WAITING_HASHES = 40


class AccessClaims(BaseModel):
    """The payload of an access token. Times are Unix seconds."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    iss: Literal["footnote"]
    aud: Literal["footnote-api"]
    sub: str
    org: str
    sid: str
    jti: str
    iat: int = Field(ge=0, lt=2**53)
    exp: int = Field(ge=0, lt=2**53)
    epoch: int = Field(ge=0, lt=2**31)


def issue_access_token(
    key: str,
    *,
    user_id: UUID,
    org_id: UUID,
    session_id: UUID,
    epoch: int,
    lifetime_s: int,
    now: int | None = None,
) -> str:
    issued_at = int(time.time()) if now is None else now
    claims = AccessClaims(
        iss="footnote",
        aud="footnote-api",
        sub=str(user_id),
        org=str(org_id),
        sid=str(session_id),
        jti=uuid4().hex,
        iat=issued_at,
        exp=issued_at + lifetime_s,
        epoch=epoch,
    )
    token: str = jwt.encode(
        claims.model_dump(), key, algorithm=_ALGORITHM, headers={"typ": _TOKEN_TYPE}
    )
    return token


def verify_access_token(key: str, token: str, *, now: int | None = None) -> AccessClaims:
    """Return the claims of a token that we signed and that is valid now.

    Raises NotAuthenticated (`token_expired` or `invalid_token`) for anything else, whatever it is.
    """
    if len(token) > _MAX_TOKEN_CHARS or token.count(".") != 2:
        raise NotAuthenticated("The access token is not valid.")
    header, claims = _read_signed(key, token)
    _check_header_and_times(header, claims, int(time.time()) if now is None else now)
    return claims


# The same token comes with each request of a client, and jose takes 0.2 ms for it. What time does
# to a token is checked each time, and who was refused is not remembered.
@lru_cache(maxsize=_MAX_TOKENS_KNOWN)
def _read_signed(key: str, token: str) -> tuple[dict[str, object], AccessClaims]:
    """Return header and claims of a token that we signed. Raises NotAuthenticated."""
    try:
        # A list, not a string: jose tests `alg in algorithms`, which on a string finds substrings.
        payload = jwt.decode(
            token,
            key,
            algorithms=[_ALGORITHM],
            options={
                "verify_aud": False,
                "verify_exp": False,
                "verify_iat": False,
                "verify_nbf": False,
            },
        )
        header = jwt.get_unverified_header(token)
        claims = AccessClaims.model_validate(payload)
        UUID(claims.sub), UUID(claims.org), UUID(claims.sid)
    except (JWTError, ValidationError, ValueError, TypeError, OverflowError, KeyError) as error:
        raise NotAuthenticated("The access token is not valid.") from error
    except Exception as error:  # jose leaks whatever its backends raise on garbage
        raise NotAuthenticated("The access token is not valid.") from error
    return header, claims


def _check_header_and_times(header: dict[str, object], claims: AccessClaims, now: int) -> None:
    if header != {"alg": _ALGORITHM, "typ": _TOKEN_TYPE} or claims.iat > now + _LEEWAY_S:
        raise NotAuthenticated("The access token is not valid.")
    if claims.exp + _LEEWAY_S < now:
        raise NotAuthenticated("The access token has expired.", code="token_expired")


def normalize_password(password: str) -> str:
    """Return the NFKC form. Raises UnprocessableRequest when its length or characters won't do."""
    # NFKC makes one character of four at most; a megabyte of them would stop the process.
    is_normalizable = len(password) <= 4 * MAX_PASSWORD_CHARS
    normalized = unicodedata.normalize("NFKC", password) if is_normalizable else password
    if not MIN_PASSWORD_CHARS <= len(normalized) <= MAX_PASSWORD_CHARS:
        raise UnprocessableRequest(
            f"The password must have {MIN_PASSWORD_CHARS} to {MAX_PASSWORD_CHARS} characters.",
            code="invalid_password",
            param="password",
        )
    if "\0" in normalized or any("\ud800" <= c <= "\udfff" for c in normalized):
        raise UnprocessableRequest(
            "The password has a character that cannot be used.",
            code="invalid_password",
            param="password",
        )
    return normalized


class PasswordHasher:
    """argon2id with two slots: a storm of logins must not take every core and 19 MiB each."""

    def __init__(self) -> None:
        self._slots = asyncio.Semaphore(2)
        self._waiting = 0

    async def hash(self, password: str) -> str:
        return await self._run(_hasher.hash, password)

    async def verify(self, password: str, password_hash: str | None) -> bool:
        """Compare, and take equally long when there is no such user (`None`)."""
        matches = await self._run(_verify, password, password_hash or _dummy_hash())
        return matches and password_hash is not None

    async def _run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        if self._waiting >= _MAX_WAITING_HASHES:
            raise Unavailable("Too many sign-ins at once.", code="busy", retry_after_s=2)
        self._waiting += 1
        try:
            async with self._slots:
                return await asyncio.to_thread(function, *args, **kwargs)
        finally:
            self._waiting -= 1


@cache
def _dummy_hash() -> str:
    """What the password of an unknown user is verified against."""
    hashed: str = _hasher.hash("no user has this password")
    return hashed


def _verify(password: str, password_hash: str) -> bool:
    try:
        normalized = normalize_password(password)
    except UnprocessableRequest:
        # An impossible password still costs a hash: its answer must not come faster.
        normalized = "x" * MIN_PASSWORD_CHARS
        return bool(_hasher.verify(normalized, _dummy_hash()))
    return bool(_hasher.verify(normalized, password_hash))


def new_opaque_token() -> str:
    """Return 256 random bits for a refresh token; only `hash_opaque_token` of it is stored."""
    return secrets.token_urlsafe(32)


def hash_opaque_token(token: str) -> bytes:
    """SHA-256 is enough: the token is random, so there is nothing to guess offline."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()

"""Tokens for the URL of an `EventSource`, which can't send headers: they read one stream, no more.

`st_<claims>.<mac>`: base64url of one JSON object, and of an HMAC-SHA256 over everything before
the dot. URLs end up in histories and logs, so such a token lives for minutes, changes nothing and
is never an access token. It may be used again until it expires: an `EventSource` reconnects with
the URL that it has.
"""

import base64
import hmac
import re
import time
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.core.errors import NotAuthenticated

LIFETIME_S = 15 * 60

_LABEL = b"footnote stream tokens 1"
_TOKEN = re.compile(r"(?P<signed>st_(?P<claims>[A-Za-z0-9_-]{1,1000}))\.(?P<mac>[A-Za-z0-9_-]{43})")


class StreamAudience(StrEnum):
    """Which kind of stream a token opens."""

    DOCUMENTS = "documents"
    RUN = "run"


class StreamClaims(BaseModel):
    """What a stream token says. `res` is the one thing it shows, None for all; `exp` Unix s.

    `sid` is the sign-in that it ends with, or with `key` the API key.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    aud: StreamAudience
    sub: UUID
    org: UUID
    sid: UUID
    epoch: int = Field(ge=0, lt=2**31)
    res: UUID | None
    exp: int = Field(ge=0, lt=2**53)
    key: bool = False


class StreamScope(NamedTuple):
    """One stream: its kind, and the id of what it shows (None: everything of that kind)."""

    audience: StreamAudience
    resource_id: UUID | None


def sign_stream_token(key: str, claims: StreamClaims) -> str:
    signed = "st_" + _encode(claims.model_dump_json(exclude_defaults=True).encode())
    return f"{signed}.{_mac(key, signed)}"


def verify_stream_token(
    key: str, token: str, scope: StreamScope, *, now: float | None = None
) -> StreamClaims:
    """Return the claims of a token that we signed for this very stream and that is valid now.

    Raises NotAuthenticated (`token_expired` or `invalid_token`) for anything else, whatever it is.
    """
    match = _TOKEN.fullmatch(token)
    if match is None or not hmac.compare_digest(_mac(key, match["signed"]), match["mac"]):
        raise NotAuthenticated("The stream token is not valid.")
    try:
        claims = StreamClaims.model_validate_json(_decode(match["claims"]))
    except (ValidationError, ValueError) as error:  # signed by another version of this program
        raise NotAuthenticated("The stream token is not valid.") from error
    if (claims.aud, claims.res) != scope:
        raise NotAuthenticated("The stream token is for another stream.")
    if claims.exp <= (time.time() if now is None else now):
        raise NotAuthenticated("The stream token has expired.", code="token_expired")
    return claims


def _mac(key: str, signed: str) -> str:
    derived = hmac.digest(key.encode(), _LABEL, "sha256")
    return _encode(hmac.digest(derived, signed.encode(), "sha256"))


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))

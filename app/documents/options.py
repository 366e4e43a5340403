"""What a client may say about a file that it uploads, besides its name."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from app.core.errors import UnprocessableRequest
from app.core.text import storable

OPTION_NAMES = frozenset({"password", "expires_at"})
MAX_PASSWORD_CHARS = 1024


@dataclass(frozen=True, slots=True)
class UploadOptions:
    """`password` opens an encrypted file; at `expires_at` the document is deleted."""

    password: str | None = field(default=None, repr=False)
    expires_at: datetime | None = None


def parse_options(texts: Mapping[str, str]) -> UploadOptions:
    """Read the options by name; an empty text is none. Raises UnprocessableRequest."""
    password = texts.get("password") or None
    if password is not None:
        check_password(password)
    expires_at = texts.get("expires_at") or None
    return UploadOptions(password, None if expires_at is None else _parse_expiry(expires_at))


def check_password(password: str) -> None:
    """Raise UnprocessableRequest for one that no file can have."""
    if len(password) > MAX_PASSWORD_CHARS:
        raise UnprocessableRequest(
            f"The password has more than {MAX_PASSWORD_CHARS:,} characters.", param="password"
        )
    if storable(password) != password:
        raise UnprocessableRequest(
            "The password has a character that no file's password has.", param="password"
        )


def _parse_expiry(text: str) -> datetime:
    """Return the time in UTC. Raises UnprocessableRequest unless it is clear and still to come."""
    try:
        time = datetime.fromisoformat(text)
        expires_at = time.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise UnprocessableRequest(
            "Give expires_at as ISO 8601: 2027-01-31T12:00:00Z.", param="expires_at"
        ) from error
    if time.tzinfo is None:
        raise UnprocessableRequest("expires_at needs its time zone.", param="expires_at")
    if expires_at <= datetime.now(UTC):
        raise UnprocessableRequest("expires_at must be in the future.", param="expires_at")
    return expires_at

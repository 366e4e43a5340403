"""What a client may say about a file that it uploads, besides its name."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NoReturn

from app.core.errors import UnprocessableRequest
from app.core.text import storable
from app.models.document_metadata import Value, check_metadata, check_tags
from app.models.documents import Visibility

REPEATABLE_OPTIONS = frozenset({"tags"})
OPTION_NAMES = frozenset({"password", "expires_at", "metadata", "visibility"}) | REPEATABLE_OPTIONS
MAX_PASSWORD_CHARS = 1024


@dataclass(frozen=True, slots=True)
class UploadOptions:
    """`password` opens an encrypted file; at `expires_at` the document is deleted.

    `tags` and `metadata` are None when nothing was said of them: a known document keeps its own.
    Without `visibility` a new document is shared.
    """

    password: str | None = field(default=None, repr=False)
    expires_at: datetime | None = None
    tags: list[str] | None = None
    metadata: dict[str, Value] | None = None
    visibility: Visibility | None = None


def parse_options(texts: Mapping[str, list[str]]) -> UploadOptions:
    """Read the texts of each option; an empty text is none. Raises UnprocessableRequest."""
    given = {name: present for name, all_ in texts.items() if (present := [t for t in all_ if t])}
    password = given["password"][0] if "password" in given else None
    if password is not None:
        check_password(password)
    return UploadOptions(
        password,
        expires_at=_parse_expiry(given["expires_at"][0]) if "expires_at" in given else None,
        tags=_parse_tags(given["tags"]) if "tags" in given else None,
        metadata=_parse_metadata(given["metadata"][0]) if "metadata" in given else None,
        visibility=_parse_visibility(given["visibility"][0]) if "visibility" in given else None,
    )


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


def _parse_tags(texts: Sequence[str]) -> list[str]:
    """Each text is a JSON array or a list with commas, so a tag with a comma takes the first."""
    tags: list[object] = []
    for text in texts:
        if text.lstrip().startswith("["):
            tags += _load_json(text, "tags", "a JSON array or a list with commas")
        else:
            tags += [tag for tag in text.split(",") if tag.strip()]
    try:
        return check_tags(tags)
    except ValueError as error:
        raise _refused("tags", error) from error


def _parse_metadata(text: str) -> dict[str, Value]:
    try:
        return check_metadata(_load_json(text, "metadata", "a JSON object"))
    except ValueError as error:
        raise _refused("metadata", error) from error


def _parse_visibility(text: str) -> Visibility:
    try:
        return Visibility(text)
    except ValueError as error:
        raise UnprocessableRequest(
            f"visibility is one of {', '.join(Visibility)}.", param="visibility"
        ) from error


def _load_json(text: str, name: str, kind: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_distinct, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise UnprocessableRequest(f"Give {name} as {kind}.", param=name) from error


def _distinct(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """A key that comes twice would lose one of its values in silence."""
    if len(keys := dict(pairs)) < len(pairs):
        raise ValueError("a key twice")
    return keys


def _refuse_constant(_name: str) -> NoReturn:
    raise ValueError("NaN and Infinity are no JSON")


def _refused(name: str, error: ValueError) -> UnprocessableRequest:
    message = str(error)
    return UnprocessableRequest(f"{message[0].upper()}{message[1:]}.", param=name)

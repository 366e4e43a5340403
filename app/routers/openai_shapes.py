"""What the routes of OpenAI's API share: ids, lists, and how a parameter is refused by its name."""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Depends, Query
from pydantic import BaseModel

from app.core.errors import InvalidRequest, NotFound
from app.core.text import show_name
from app.documents.listing import Listing

FILE, STORE, BATCH, RESPONSE = "file-", "vs_", "vsfb_", "resp_"

# They are about the request, and change nothing in its answer.
LABELS = frozenset(
    {
        *("metadata", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention"),
        "safety_identifier",
    }
)
_HEX = re.compile(r"[0-9a-f]{32}")


def to_id(prefix: str, id_: UUID) -> str:
    return prefix + id_.hex


def parse_id(prefix: str, text: str, *, param: str) -> UUID:
    """Raises NotFound for what is no id of this kind: nothing can have it."""
    digits = text.removeprefix(prefix)
    if not text.startswith(prefix) or not _HEX.fullmatch(digits):
        raise NotFound("There is nothing with this id.", param=param)
    return UUID(digits)


def to_seconds(moment: datetime) -> int:
    """Return whole seconds since 1970."""
    return int(moment.timestamp())


class ListOut(BaseModel):
    """A part of a list. Read on with `after`: the `last_id`."""

    object: Literal["list"] = "list"
    first_id: str | None = None
    last_id: str | None = None
    has_more: bool


def list_ends(ids: Sequence[str]) -> dict[str, str | None]:
    return {"first_id": ids[0] if ids else None, "last_id": ids[-1] if ids else None}


OrderQuery = Annotated[Literal["asc", "desc"], Query(description="By age.")]
AfterQuery = Annotated[str | None, Query(max_length=100, description="An id: what comes behind.")]
BeforeQuery = Annotated[str | None, Query(max_length=100, description="An id: what comes before.")]


async def _listing_of(
    after: AfterQuery = None,
    before: BeforeQuery = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: OrderQuery = "desc",
) -> tuple[str | None, str | None, int, bool]:
    return after, before, limit, order == "asc"


ListQuery = Annotated[tuple[str | None, str | None, int, bool], Depends(_listing_of)]


def to_listing(prefix: str, query: tuple[str | None, str | None, int, bool]) -> Listing:
    """Raises NotFound for a cursor that is no id of this kind."""
    after, before, limit, is_ascending = query
    return Listing(
        limit,
        after=parse_id(prefix, after, param="after") if after else None,
        before=parse_id(prefix, before, param="before") if before else None,
        is_ascending=is_ascending,
    )


def leave_known(
    body: object,
    known: Mapping[str, Any],
    *,
    only_values: Mapping[str, tuple[object, ...]],
    labels: frozenset[str] = LABELS,
) -> object:
    """Return a body without its nulls, and without what changes nothing.

    Raises InvalidRequest, whose param is the name of a parameter without which the answer could be
    another one: null is as good as absent.
    """
    if not isinstance(body, dict):
        return body
    fields = {name: value for name, value in body.items() if value is not None}
    for name in fields.keys() - known.keys():
        _check_changes_nothing(name, fields.pop(name), only_values, labels)
    return fields


def _check_changes_nothing(
    name: str, value: object, only_values: Mapping[str, tuple[object, ...]], labels: frozenset[str]
) -> None:
    if name in labels or value in only_values.get(name, ()):
        return
    if name in only_values:
        raise unsupported_value(
            name, " or ".join(json.dumps(allowed) for allowed in only_values[name])
        )
    raise InvalidRequest(
        f"{quote(name)} is not supported here: leave it out.",
        code="unsupported_parameter",
        param=show_name(name) or None,
    )


def unsupported_value(name: str, allowed: str) -> InvalidRequest:
    return InvalidRequest(
        f"{name}: it can only be {allowed} here.", code="unsupported_value", param=name
    )


def quote(name: str) -> str:
    """Return how a message names a parameter; what can't be one's name is not repeated."""
    shown = show_name(name)
    return f"`{shown}`" if shown else "A parameter with an odd name"

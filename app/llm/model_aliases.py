"""Names that stand for chains of models: kept in the database, known to each process within 5 s."""

import json
import re
import time
from asyncio import Lock
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import asyncpg
import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.db import DATABASE_ERRORS, Database
from app.core.errors import Conflict, InvalidRequest, NotFound
from app.llm.model_names import CHAT_PROVIDERS

log = structlog.get_logger(__name__)

MAX_TARGETS = 16
MAX_WEIGHT = 1000
MAX_ALIASES = 200
FRESH_S = 5.0

_NAME = re.compile(r"[a-z0-9][a-z0-9._:-]{0,62}")
_SELECT = "SELECT name, description, targets, allow_extractive FROM model_aliases ORDER BY name"
# Two that are written at once could each fit what is there, and together be a cycle.
_LOCK = text("LOCK TABLE model_aliases IN SHARE ROW EXCLUSIVE MODE")
_SELECT_ALL = text(_SELECT)
_UPSERT = text("""
    INSERT INTO model_aliases (name, description, targets, allow_extractive)
    VALUES (:name, :description, CAST(:targets AS jsonb), :allow_extractive)
    ON CONFLICT (name) DO UPDATE SET description = excluded.description,
        targets = excluded.targets, allow_extractive = excluded.allow_extractive,
        updated_at = now()
""")
_DELETE = text("DELETE FROM model_aliases WHERE name = :name")


@dataclass(frozen=True, slots=True)
class AliasTarget:
    """`model` is `provider/model`, or another alias.

    Targets with a weight come first, in an order that is drawn anew for each question; those
    without one follow in the order in which they are listed.
    """

    model: str
    weight: int = 0


@dataclass(frozen=True, slots=True)
class Alias:
    """`allow_extractive`: where all targets fail, quotes are better than nothing."""

    name: str
    description: str
    targets: tuple[AliasTarget, ...]
    allow_extractive: bool = False


Aliases = Mapping[str, Alias]
_NONE: Aliases = MappingProxyType({})


class AliasDirectory:
    """The aliases of the deployment as they were at most FRESH_S ago."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._known: Aliases | None = None
        self._read_at = 0.0
        self._reading = Lock()

    async def find_all(self) -> Aliases:
        """Return them by name. While the database is away, as they were last known."""
        if self._known is not None and time.monotonic() - self._read_at < FRESH_S:
            return self._known
        async with self._reading:
            if self._known is None or time.monotonic() - self._read_at >= FRESH_S:
                await self._read()
            return self._known or _NONE

    async def put(self, alias: Alias) -> bool:
        """Keep an alias under its name. Returns whether it is a new one.

        Raises InvalidRequest for a name or targets that can't be.
        """
        check_name(alias.name)
        async with self._db.system_transaction() as session:
            await session.execute(_LOCK)
            others = await _load(session)
            is_new = alias.name not in others
            if is_new and len(others) >= MAX_ALIASES:
                raise Conflict(f"There may be {MAX_ALIASES} aliases.", code="too_many_aliases")
            check_targets(alias, others)
            targets = [{"model": each.model, "weight": each.weight} for each in alias.targets]
            await session.execute(
                _UPSERT,
                {
                    "name": alias.name,
                    "description": alias.description,
                    "targets": json.dumps(targets),
                    "allow_extractive": alias.allow_extractive,
                },
            )
        self._known = None
        return is_new

    async def get(self, name: str) -> Alias:
        """Return an alias as it is now. Raises NotFound."""
        async with self._db.system_transaction() as session:
            return _find(await _load(session), name)

    async def list_all(self) -> list[Alias]:
        """Return them as they are now, by name."""
        async with self._db.system_transaction() as session:
            return list((await _load(session)).values())

    async def delete(self, name: str) -> None:
        """Raises NotFound, and Conflict (`alias_in_use`) while it is another one's target."""
        async with self._db.system_transaction() as session:
            await session.execute(_LOCK)
            aliases = await _load(session)
            _find(aliases, name)
            users = sorted(a.name for a in aliases.values() if name in _models_of(a))
            if users:
                raise Conflict(f"It is a target of {', '.join(users)}.", code="alias_in_use")
            await session.execute(_DELETE, {"name": name})
        self._known = None

    async def _read(self) -> None:
        try:
            async with self._db.lone_statements() as driver:
                rows = await driver.fetch(_SELECT)
        except DATABASE_ERRORS as error:
            if self._known is None:
                raise
            log.warning("model_aliases_not_read", error=type(error).__name__)
        else:
            self._known = {row["name"]: _alias_of(row) for row in rows}
        self._read_at = time.monotonic()


def check_name(name: str) -> None:
    """Raise InvalidRequest for a name that could be taken for something else."""
    if not _NAME.fullmatch(name) or name in CHAT_PROVIDERS:
        raise InvalidRequest(
            "The name of an alias is 1 to 63 of a-z, 0-9 and . _ : - , begins with a letter or a "
            "digit, and is no provider's name.",
            code="invalid_alias_name",
            param="name",
        )


def check_targets(alias: Alias, others: Aliases) -> None:
    """Raise InvalidRequest for a target that is no model's name or leads back to the alias."""
    for target in alias.targets:
        provider, slash, model = target.model.partition("/")
        if slash and (provider not in CHAT_PROVIDERS or not model):
            raise InvalidRequest(
                f"{target.model} is no model: it must be provider/model, with one of the providers "
                f"{', '.join(CHAT_PROVIDERS)}.",
                code="invalid_target",
                param="targets",
            )
        if not slash and target.model not in {alias.name, *others}:
            raise InvalidRequest(
                f"There is no alias {target.model}. A model is named with its provider: "
                "provider/model.",
                code="invalid_target",
                param="targets",
            )
    if len(set(_models_of(alias))) < len(alias.targets):
        raise InvalidRequest("A target is named twice.", code="invalid_target", param="targets")
    if _leads_to(alias.name, alias, {**others, alias.name: alias}):
        raise InvalidRequest(
            f"The targets lead back to {alias.name} itself.", code="alias_cycle", param="targets"
        )


def _leads_to(name: str, alias: Alias, aliases: Aliases) -> bool:
    seen: set[str] = set()
    ahead = list(_models_of(alias))
    while ahead:
        model = ahead.pop()
        if model == name:
            return True
        if model not in seen and model in aliases:
            seen.add(model)
            ahead += _models_of(aliases[model])
    return False


def _models_of(alias: Alias) -> Iterator[str]:
    return (target.model for target in alias.targets)


async def _load(session: AsyncSession) -> dict[str, Alias]:
    rows: Sequence[Any] = (await session.execute(_SELECT_ALL)).mappings().all()
    return {row["name"]: _alias_of(row) for row in rows}


def _find(aliases: Aliases, name: str) -> Alias:
    if name not in aliases:
        raise NotFound("There is no such alias.")
    return aliases[name]


def _alias_of(row: "asyncpg.Record | Mapping[str, Any]") -> Alias:
    targets = row["targets"]
    if isinstance(targets, str):  # as the bare driver gives JSON
        targets = json.loads(targets)
    return Alias(
        name=row["name"],
        description=row["description"],
        targets=tuple(AliasTarget(each["model"], each["weight"]) for each in targets),
        allow_extractive=row["allow_extractive"],
    )

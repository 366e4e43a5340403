"""What may be searched: a typed condition on documents, and pages, compiled to SQL.

A condition is a tree: And, Or and Not over tests of one field. A test is true or false, never
unknown: what a document lacks, or has of another kind, is false, so that Not is its complement.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias, assert_never
from uuid import UUID

from app.models.document_metadata import Scalar

# Of one condition. A test alone is a node and a level.
MAX_NODES = 64
MAX_DEPTH = 8


class Quantifier(StrEnum):
    """How many of the named tags a document has."""

    ANY = "any"
    ALL = "all"
    NONE = "none"


class Order(StrEnum):
    """The value of the document, compared to the one in the condition."""

    GT = "gt"
    GTE = "gte"
    LT = "lt"
    LTE = "lte"


class Name(StrEnum):
    """A text that every document has: as readers see it, and of the content that they see."""

    FILENAME = "filename"
    MEDIA_TYPE = "media_type"


@dataclass(frozen=True, slots=True)
class Tagged:
    quantifier: Quantifier
    tags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MetadataIn:
    """The value is one of `values`; a list is, if one of its strings is.

    Negated, it is another value of the same kind as one of them: a string or list, a number, a
    boolean; beside null, any value. Without the key it is neither.
    """

    key: str
    values: tuple[Scalar, ...]
    is_negated: bool = False


@dataclass(frozen=True, slots=True)
class MetadataOrder:
    """Numbers compare with numbers, and strings with strings by code points, as ISO dates do."""

    key: str
    order: Order
    value: str | int | float


@dataclass(frozen=True, slots=True)
class MetadataHas:
    """The key is there, even with null."""

    key: str


@dataclass(frozen=True, slots=True)
class NameIn:
    name: Name
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CreatedOrder:
    """`moment` has a time zone."""

    order: Order
    moment: datetime


@dataclass(frozen=True, slots=True)
class And:
    """True without conditions."""

    conditions: tuple["Where", ...]


@dataclass(frozen=True, slots=True)
class Or:
    """False without conditions."""

    conditions: tuple["Where", ...]


@dataclass(frozen=True, slots=True)
class Not:
    condition: "Where"


@dataclass(frozen=True, slots=True)
class InVectorStores:
    """The document is in one of the stores, which `where` holds for.

    `where` is about the attributes that it has there, which are metadata to it: it has no other
    tests than And, Or, Not, MetadataIn and MetadataOrder.
    """

    store_ids: tuple[UUID, ...]
    where: "Where | None" = None


Where: TypeAlias = (
    And
    | Or
    | Not
    | Tagged
    | MetadataIn
    | MetadataOrder
    | MetadataHas
    | NameIn
    | CreatedOrder
    | InVectorStores
)


@dataclass(frozen=True, slots=True)
class Filter:
    """Documents by id, by a condition, and a range of pages; each None or empty lets all through.

    `pages` are the first and the last page, from 1, inclusive: chunks that reach into them.
    """

    document_ids: tuple[UUID, ...] = ()
    pages: tuple[int, int] | None = None
    where: Where | None = None


EVERYTHING = Filter()


@dataclass(frozen=True, slots=True)
class Condition:
    """SQL over the row `d` of documents, without a leading AND, and its positional parameters."""

    sql: str
    values: tuple[object, ...]


def compile_documents(wanted: Filter, *, first_parameter: int) -> Condition | None:
    """Return the condition on documents, its first parameter $`first_parameter`; None if all pass.

    Says nothing of pages, organizations, generations, deletion and expiry: the stages add those.
    Each parameter stands in it with its type. A tree deeper than MAX_DEPTH may exhaust the stack.
    """
    parameters = _Parameters(first_parameter)
    parts = []
    if wanted.document_ids:
        parts.append(f"d.id = ANY ({parameters.add(list(wanted.document_ids), 'uuid[]')})")
    if wanted.where is not None:
        parts.append(_compile(wanted.where, parameters))
    return Condition(" AND ".join(parts), tuple(parameters.values)) if parts else None


class _Parameters:
    """Gathers values. Nothing of what a caller wrote gets into the SQL itself."""

    def __init__(self, first: int) -> None:
        self._first = first
        self.values: list[object] = []
        # What the tests of metadata are about.
        self.metadata = "d.metadata"

    def add(self, value: object, type_: str) -> str:
        self.values.append(value)
        return f"${self._first + len(self.values) - 1}::{type_}"


_OPERATORS = {Order.GT: ">", Order.GTE: ">=", Order.LT: "<", Order.LTE: "<="}
_COLUMNS = {Name.FILENAME: "d.ready_filename", Name.MEDIA_TYPE: "d.ready_media_type"}


def _compile(where: Where, parameters: _Parameters) -> str:  # noqa: PLR0911  # one for each kind
    match where:
        case And(conditions):
            return _join("AND", [_compile(each, parameters) for each in conditions], "true")
        case Or(conditions):
            return _join("OR", [_compile(each, parameters) for each in conditions], "false")
        case Not(condition):
            return f"NOT {_compile(condition, parameters)}"
        case Tagged(quantifier, tags):
            return _compile_tagged(quantifier, parameters.add(list(tags), "text[]"))
        case MetadataIn():
            return _compile_metadata_in(where, parameters)
        case MetadataOrder():
            return _compile_metadata_order(where, parameters)
        case MetadataHas(key):
            return f"(({parameters.metadata} -> {parameters.add(key, 'text')}) IS NOT NULL)"
        case NameIn(name, values):
            names = parameters.add(list(values), "text[]")
            return f"({_COLUMNS[name]} = ANY ({names})) IS TRUE"
        case CreatedOrder(order, moment):
            return f"(d.created_at {_OPERATORS[order]} {parameters.add(moment, 'timestamptz')})"
        case InVectorStores():
            return _compile_in_stores(where, parameters)
        case _:
            assert_never(where)


def _join(operator: str, parts: list[str], empty: str) -> str:
    return f"({f' {operator} '.join(parts)})" if parts else empty


def _compile_tagged(quantifier: Quantifier, tags: str) -> str:
    match quantifier:
        case Quantifier.ANY:
            return f"(d.tags && {tags})"
        case Quantifier.ALL:
            return f"(d.tags @> {tags})"
        case Quantifier.NONE:
            return f"(NOT d.tags && {tags})"


def _compile_metadata_in(test: MetadataIn, parameters: _Parameters) -> str:
    """In `jsonb`, where 1 is 1.0, no kind equals another, and a list contains its strings."""
    value = f"({parameters.metadata} -> {parameters.add(test.key, 'text')})"
    values = parameters.add([json.dumps(each) for each in test.values], "jsonb[]")
    is_one = f"{value} @> ANY ({values})"
    if not test.is_negated:
        return f"({is_one}) IS TRUE"
    kinds = parameters.add(_kinds_beside(test.values), "text[]")
    return f"(jsonb_typeof({value}) = ANY ({kinds}) AND NOT {is_one}) IS TRUE"


def _kinds_beside(values: Iterable[Scalar]) -> list[str]:
    """Return the kinds of JSON that another value than these may have."""
    kinds: set[str] = set()
    for value in values:
        match value:
            case None:
                kinds |= {"string", "array", "number", "boolean"}
            case bool():
                kinds.add("boolean")
            case str():
                kinds |= {"string", "array"}
            case _:
                kinds.add("number")
    return sorted(kinds)


def _compile_metadata_order(test: MetadataOrder, parameters: _Parameters) -> str:
    key = parameters.add(test.key, "text")
    operator = _OPERATORS[test.order]
    metadata = parameters.metadata
    kind = f"jsonb_typeof(({metadata} -> {key}))"
    if isinstance(test.value, str):
        limit = parameters.add(test.value, "text")
        compared = f'({metadata} ->> {key}) COLLATE "C" {operator} {limit}'
        return f"({kind} = 'string' AND {compared}) IS TRUE"
    limit = parameters.add(json.dumps(test.value), "jsonb")
    # Among numbers `jsonb` orders as they do; nothing is cast that might be none.
    return f"({kind} = 'number' AND ({metadata} -> {key}) {operator} {limit}) IS TRUE"


def _compile_in_stores(test: InVectorStores, parameters: _Parameters) -> str:
    stores = parameters.add(list(test.store_ids), "uuid[]")
    attributes = "true"
    if test.where is not None:
        parameters.metadata = "v.attributes"
        attributes = _compile(test.where, parameters)
        parameters.metadata = "d.metadata"
    # Not by `v.org_id = d.org_id`: that would look once for each document.
    return f"""((d.org_id, d.id) IN (
        SELECT v.org_id, v.document_id FROM vector_store_files v
        WHERE v.vector_store_id = ANY ({stores}) AND v.cancelled_at IS NULL
          AND {attributes}))"""  # noqa: S608  # constants and parameters

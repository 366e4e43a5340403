"""OpenAI's filters on the attributes of files, as conditions of ours."""

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    PlainValidator,
    Tag,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)

from app.core.text import storable
from app.models.document_metadata import Scalar, check_scalar
from app.retrieval.filters import (
    MAX_DEPTH,
    MAX_NODES,
    And,
    MetadataIn,
    MetadataOrder,
    Or,
    Order,
    Where,
)

MAX_ATTRIBUTES = 16
MAX_KEY_CHARS = 64
_MAX_VALUES = 100
_ORDERS = frozenset(map(str, Order))


def check_attribute(value: object) -> str | float | bool:
    """Return the value of an attribute. Raises ValueError."""
    checked = check_scalar(value)
    if checked is None:
        raise ValueError("the value of an attribute is a string, a number, true or false")
    return checked


def _check_key(key: object) -> str:
    if not isinstance(key, str) or not 1 <= len(key) <= MAX_KEY_CHARS or storable(key) != key:
        raise ValueError(f"a key has 1 to {MAX_KEY_CHARS} characters")
    return key


Key = Annotated[
    str, PlainValidator(_check_key, Annotated[str, Field(min_length=1, max_length=MAX_KEY_CHARS)])
]
AttributeValue = Annotated[str | float | bool, PlainValidator(check_attribute, str | float | bool)]
FileAttributes = Annotated[dict[Key, AttributeValue], Field(max_length=MAX_ATTRIBUTES)]


class ComparisonFilter(BaseModel):
    """A file without the attribute is on neither side.

    Numbers compare with numbers, and strings with strings by code points.
    """

    model_config = ConfigDict(extra="forbid")

    type: Literal["eq", "ne", "gt", "gte", "lt", "lte", "in", "nin"]
    key: Key
    value: AttributeValue | Annotated[list[AttributeValue], Field(max_length=_MAX_VALUES)]

    @model_validator(mode="after")
    def _agree(self) -> "ComparisonFilter":
        if isinstance(self.value, list) != (self.type in ("in", "nin")):
            raise ValueError("value: a list goes with `in` and `nin`, and only with these")
        if self.value == []:
            raise ValueError("value: the list is empty")
        if self.type in _ORDERS and isinstance(self.value, bool):
            raise ValueError("value: only numbers and strings have an order")
        return self

    def to_where(self) -> Where:
        if self.type in _ORDERS and isinstance(self.value, str | float | int):
            return MetadataOrder(self.key, Order(self.type), self.value)
        values: list[Any] = self.value if isinstance(self.value, list) else [self.value]
        scalars: tuple[Scalar, ...] = tuple(values)
        return MetadataIn(self.key, scalars, is_negated=self.type in ("ne", "nin"))


class CompoundFilter(BaseModel):
    model_config = ConfigDict(extra="forbid")

    type: Literal["and", "or"]
    filters: list["AttributeFilter"] = Field(min_length=1)

    def to_where(self) -> Where:
        conditions = tuple(each.to_where() for each in self.filters)
        return And(conditions) if self.type == "and" else Or(conditions)


def _kind_of(node: object) -> str | None:
    if not isinstance(node, dict):
        return None
    return "compound" if node.get("type") in ("and", "or") else "comparison"


AttributeFilter = Annotated[
    Annotated[ComparisonFilter, Tag("comparison")] | Annotated[CompoundFilter, Tag("compound")],
    Discriminator(_kind_of),
]


def _check_size(tree: object) -> None:
    """Before anything walks the tree by recursion. Raises ValueError."""
    level, nodes, depth = [tree], 0, 0
    while level:
        nodes, depth = nodes + len(level), depth + 1
        if nodes > MAX_NODES or depth > MAX_DEPTH:
            raise ValueError(f"it has more than {MAX_NODES} filters, or is over {MAX_DEPTH} deep")
        level = [
            child
            for node in level
            if isinstance(node, dict) and isinstance(node.get("filters"), list)
            for child in node["filters"]
        ]


def _validate(value: object, handler: ValidatorFunctionWrapHandler) -> Any:
    _check_size(value)
    return handler(value)


# As a whole: of a limited size.
Filters = Annotated[AttributeFilter, WrapValidator(_validate)]

"""Which documents and pages a search or a question is about: fields of its body."""

import re
from datetime import UTC, datetime
from typing import Annotated, Literal, Self, TypeAlias
from uuid import UUID

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PlainValidator,
    Tag,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)

from app.core.errors import UnprocessableRequest
from app.models.document_metadata import (
    KEY,
    MAX_TAGS,
    Scalar,
    check_key,
    check_name,
    check_scalar,
    check_tags,
)
from app.retrieval.filters import (
    MAX_DEPTH,
    MAX_NODES,
    And,
    CreatedOrder,
    Filter,
    MetadataHas,
    MetadataIn,
    MetadataOrder,
    Name,
    NameIn,
    Not,
    Or,
    Order,
    Quantifier,
    Tagged,
    Where,
)

_MAX_VALUES = 100
_MAX_PAGE = 1_000_000
_METADATA = "metadata."
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_NO_NODE = (
    'a condition is {"and": […]}, {"or": […]}, {"not": …} or {"field": …, "op": …, "value": …},'
    " where the field has the operator"
)


def _date_as_midnight(value: object) -> object:
    is_date = isinstance(value, str) and _DATE.fullmatch(value)
    return f"{value}T00:00:00Z" if is_date else value


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("it is no time of this calendar") from error


def _check_ordered(value: object) -> str | int | float:
    checked = check_scalar(value)
    if checked is None or isinstance(checked, bool):
        raise ValueError("only numbers and strings have an order")
    return checked


def _check_field(field: object) -> str:
    return _METADATA + check_key(str(field).removeprefix(_METADATA))


def _not_empty(tags: list[str]) -> list[str]:
    if not tags:
        raise ValueError("name at least one tag")
    return tags


Moment: TypeAlias = Annotated[
    AwareDatetime, BeforeValidator(_date_as_midnight), AfterValidator(_in_utc)
]
Tags: TypeAlias = Annotated[list[str], PlainValidator(check_tags, list[str])]
ScalarValue: TypeAlias = Annotated[Scalar, PlainValidator(check_scalar, Scalar)]
OrderedValue: TypeAlias = Annotated[
    str | int | float, PlainValidator(_check_ordered, str | int | float)
]
NameValue: TypeAlias = Annotated[str, AfterValidator(check_name)]
MetadataField: TypeAlias = Annotated[
    str,
    PlainValidator(_check_field, Annotated[str, Field(pattern=rf"^metadata\.{KEY.pattern}$")]),
    Field(examples=["metadata.year"]),
]
NameField: TypeAlias = Literal["filename", "media_type"]


class _Node(BaseModel):
    model_config = ConfigDict(extra="forbid")


class AllOf(_Node):
    and_: list["Node"] = Field(alias="and", min_length=1)

    def to_where(self) -> Where:
        return And(tuple(node.to_where() for node in self.and_))


class AnyOf(_Node):
    or_: list["Node"] = Field(alias="or", min_length=1)

    def to_where(self) -> Where:
        return Or(tuple(node.to_where() for node in self.or_))


class NotThat(_Node):
    not_: "Node" = Field(alias="not")

    def to_where(self) -> Where:
        return Not(self.not_.to_where())


class TagsTest(_Node):
    """The document has `any`, `all` or `none` of the tags."""

    field: Literal["tags"]
    op: Quantifier
    value: Annotated[Tags, AfterValidator(_not_empty)]

    def to_where(self) -> Where:
        return Tagged(self.op, tuple(self.value))


class MetadataEquals(_Node):
    """`eq`: the value, or a list with it. `ne`: another value of the same kind, or of any if null.

    A document without the key is neither.
    """

    field: MetadataField
    op: Literal["eq", "ne"]
    value: ScalarValue

    def to_where(self) -> Where:
        return MetadataIn(_key_of(self.field), (self.value,), is_negated=self.op == "ne")


class MetadataAmong(_Node):
    """`in`: `eq` with one of the values. `nin`: the kind of one of them, and `eq` with none."""

    field: MetadataField
    op: Literal["in", "nin"]
    value: list[ScalarValue] = Field(min_length=1, max_length=_MAX_VALUES)

    def to_where(self) -> Where:
        return MetadataIn(_key_of(self.field), tuple(self.value), is_negated=self.op == "nin")


class MetadataCompares(_Node):
    """Numbers compare with numbers, and strings with strings by code points, as ISO dates do."""

    field: MetadataField
    op: Order
    value: OrderedValue

    def to_where(self) -> Where:
        return MetadataOrder(_key_of(self.field), self.op, self.value)


class MetadataExists(_Node):
    """Whether the key is there, even with null."""

    field: MetadataField
    op: Literal["exists"]
    value: bool

    def to_where(self) -> Where:
        has = MetadataHas(_key_of(self.field))
        return has if self.value else Not(has)


class CreatedTest(_Node):
    """When the document was uploaded first; a date is its midnight in UTC."""

    field: Literal["created_at"]
    op: Order
    value: Moment

    def to_where(self) -> Where:
        return CreatedOrder(self.op, self.value)


class NameEquals(_Node):
    field: NameField
    op: Literal["eq"]
    value: NameValue

    def to_where(self) -> Where:
        return NameIn(Name(self.field), (self.value,))


class NameAmong(_Node):
    field: NameField
    op: Literal["in"]
    value: list[NameValue] = Field(min_length=1, max_length=_MAX_VALUES)

    def to_where(self) -> Where:
        return NameIn(Name(self.field), tuple(self.value))


_KINDS: dict[tuple[str, str], str] = {
    **{("tags", op): "<tags>" for op in Quantifier},
    **dict.fromkeys([("metadata", "eq"), ("metadata", "ne")], "<metadata equals>"),
    **dict.fromkeys([("metadata", "in"), ("metadata", "nin")], "<metadata among>"),
    **{("metadata", op): "<metadata compares>" for op in Order},
    ("metadata", "exists"): "<metadata exists>",
    **{("created_at", op): "<created>" for op in Order},
    **{(name, "eq"): "<name equals>" for name in Name},
    **{(name, "in"): "<name among>" for name in Name},
}


def _kind_of(node: object) -> str | None:
    if not isinstance(node, dict):
        return None
    for junction in ("and", "or", "not"):
        if junction in node:
            return f"<{junction}>"
    field, op = node.get("field"), node.get("op")
    if not isinstance(field, str) or not isinstance(op, str):
        return None
    return _KINDS.get(("metadata" if field.startswith(_METADATA) else field, op))


# In the path of an error the kinds are of no use to the caller: brackets tell them from its fields.
Node: TypeAlias = Annotated[
    Annotated[AllOf, Tag("<and>")]
    | Annotated[AnyOf, Tag("<or>")]
    | Annotated[NotThat, Tag("<not>")]
    | Annotated[TagsTest, Tag("<tags>")]
    | Annotated[MetadataEquals, Tag("<metadata equals>")]
    | Annotated[MetadataAmong, Tag("<metadata among>")]
    | Annotated[MetadataCompares, Tag("<metadata compares>")]
    | Annotated[MetadataExists, Tag("<metadata exists>")]
    | Annotated[CreatedTest, Tag("<created>")]
    | Annotated[NameEquals, Tag("<name equals>")]
    | Annotated[NameAmong, Tag("<name among>")],
    Discriminator(_kind_of, custom_error_type="condition", custom_error_message=_NO_NODE),
]


def _validate_condition(value: object, handler: ValidatorFunctionWrapHandler) -> "Node":
    """Raises UnprocessableRequest, whose param is the place in the tree, or ValueError."""
    _check_size(value)
    try:
        node: Node = handler(value)
    except ValidationError as error:
        raise _at_its_place(error) from error
    return node


def _check_size(tree: object) -> None:
    """Before anything walks the tree by recursion. Raises ValueError."""
    level, nodes, depth = [tree], 0, 0
    while level:
        nodes, depth = nodes + len(level), depth + 1
        if nodes > MAX_NODES:
            raise ValueError(f"there are more than {MAX_NODES} conditions in it")
        if depth > MAX_DEPTH:
            raise ValueError(f"it is more than {MAX_DEPTH} conditions deep")
        level = [child for node in level for child in _children_of(node)]


def _children_of(node: object) -> list[object]:
    if not isinstance(node, dict):
        return []
    children = [node["not"]] if "not" in node else []
    for junction in ("and", "or"):
        below = node.get(junction)
        children += below if isinstance(below, list) else []
    return children


def _at_its_place(error: ValidationError) -> UnprocessableRequest:
    """Name the place and what is wrong with it; never echo what was sent."""
    first = error.errors(include_url=False)[0]
    path = [str(part) for part in first["loc"] if not str(part).startswith("<")]
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        # The name of such a field is the client's own text.
        path, message = path[:-1], "There is a field that is not known"
    param = ".".join(["filter", *path])
    return UnprocessableRequest(f"{param}: {message}.", code="validation_error", param=param)


def _key_of(field: str) -> str:
    return field.removeprefix(_METADATA)


class PageRange(BaseModel):
    """Pages from 1, both ends included; without an end it is open there."""

    model_config = ConfigDict(extra="forbid")

    from_: int = Field(default=1, alias="from", ge=1, le=_MAX_PAGE)
    to: int = Field(default=_MAX_PAGE, ge=1, le=_MAX_PAGE)

    @model_validator(mode="after")
    def _is_forward(self) -> Self:
        if self.from_ > self.to:
            raise ValueError("from is behind to")
        return self


class FilterFields(BaseModel):
    """All that is given must hold."""

    model_config = ConfigDict(extra="forbid")

    document_ids: list[UUID] = Field(
        default_factory=list, max_length=1_000, description="Empty means all documents."
    )
    tags: Tags = Field(
        default_factory=list,
        description=f"Documents that have all of them; at most {MAX_TAGS}.",
    )
    filter: Annotated[Node | None, WrapValidator(_validate_condition)] = Field(
        default=None,
        description=f"A condition on documents: at most {MAX_NODES} nodes, {MAX_DEPTH} deep.",
        examples=[
            {
                "and": [
                    {"field": "metadata.year", "op": "gte", "value": 2022},
                    {"field": "tags", "op": "any", "value": ["10-K"]},
                ]
            }
        ],
    )
    created_after: Moment | None = Field(
        default=None, description="Documents uploaded then or later; a date is midnight in UTC."
    )
    created_before: Moment | None = Field(
        default=None, description="Documents uploaded before; a date is midnight in UTC."
    )
    pages: PageRange | None = Field(
        default=None, description="Passages that reach into these pages."
    )

    def to_filter(self) -> Filter:
        conditions: list[Where] = []
        if self.tags:
            conditions.append(Tagged(Quantifier.ALL, tuple(self.tags)))
        if self.created_after is not None:
            conditions.append(CreatedOrder(Order.GTE, self.created_after))
        if self.created_before is not None:
            conditions.append(CreatedOrder(Order.LT, self.created_before))
        if self.filter is not None:
            conditions.append(self.filter.to_where())
        return Filter(
            document_ids=tuple(self.document_ids),
            pages=(self.pages.from_, self.pages.to) if self.pages else None,
            where=And(tuple(conditions)) if conditions else None,
        )

"""Conditions become SQL with parameters, and nothing else."""

import re
from datetime import UTC, datetime
from uuid import uuid4

from app.retrieval.filters import (
    EVERYTHING,
    And,
    CreatedOrder,
    Filter,
    InVectorStores,
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
    compile_documents,
)

CANARY = "canary'); DROP TABLE documents; --"
_ONE_OF_EACH: tuple[Where, ...] = (
    *(Tagged(quantifier, (CANARY,)) for quantifier in Quantifier),
    *(MetadataIn(CANARY, (CANARY, 4711, None), is_negated=n) for n in (False, True)),
    *(MetadataOrder(CANARY, order, value) for order in Order for value in (CANARY, 4711)),
    MetadataHas(CANARY),
    *(NameIn(name, (CANARY,)) for name in Name),
    CreatedOrder(Order.LT, datetime(4711, 1, 1, tzinfo=UTC)),
    InVectorStores((uuid4(), uuid4()), MetadataIn(CANARY, (CANARY, 4711))),
)


def test_nothing_wanted_is_no_condition() -> None:
    assert compile_documents(EVERYTHING, first_parameter=1) is None
    assert compile_documents(Filter(pages=(1, 2)), first_parameter=1) is None


def test_parameters_are_numbered_from_the_first_one_and_all_used() -> None:
    wanted = Filter((uuid4(),), where=And((*_ONE_OF_EACH, Not(Or(_ONE_OF_EACH)))))
    condition = compile_documents(wanted, first_parameter=7)
    assert condition is not None
    used = {int(number) for number in re.findall(r"\$(\d+)", condition.sql)}
    assert used == set(range(7, 7 + len(condition.values)))
    # Each with its type: the driver encodes by it.
    assert re.findall(r"\$\d+(?!\d|::)", condition.sql) == []


def test_no_value_and_no_key_gets_into_the_sql() -> None:
    for where in _ONE_OF_EACH:
        condition = compile_documents(Filter(where=where), first_parameter=1)
        assert condition is not None
        assert "canary" not in condition.sql
        assert "4711" not in condition.sql
        assert re.fullmatch(r"[\w\s$:.,()<>=@&'\"\[\]-]+", condition.sql), condition.sql


def test_junctions_of_nothing_are_what_logic_says() -> None:
    for where, expected in ((And(()), "true"), (Or(()), "false"), (Not(Or(())), "NOT false")):
        condition = compile_documents(Filter(where=where), first_parameter=1)
        assert condition is not None
        assert condition.sql == expected


def test_strings_are_ordered_alike_in_every_database() -> None:
    where = MetadataOrder("date", Order.GTE, "2022-01-31")
    condition = compile_documents(Filter(where=where), first_parameter=1)
    assert condition is not None
    # Databases are made with different locales, and some order "a" before "B".
    assert '(d.metadata ->> $1::text) COLLATE "C" >= $2::text' in condition.sql

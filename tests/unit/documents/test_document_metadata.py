"""Tags and metadata: what is taken, as what, and what is refused without repeating it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.errors import UnprocessableRequest
from app.documents.options import parse_options
from app.models.document_metadata import MAX_NUMBER, check_metadata, check_tags


def test_tags_are_trimmed_composed_and_distinct_in_their_order() -> None:
    assert check_tags([" b ", "a", "b", "Cafe\u0301", "Café", "B"]) == ["b", "a", "Café", "B"]
    assert check_tags([str(n) for n in range(32)]) == [str(n) for n in range(32)]
    # Counted when they are distinct.
    assert check_tags(["a"] * 100) == ["a"]
    assert check_tags(["👩‍👩‍👧‍👦" * 9]) == ["👩‍👩‍👧‍👦" * 9]


@pytest.mark.parametrize(
    "tags",
    [
        "a",
        None,
        {"a": 1},
        [1],
        [None],
        [["a"]],
        [""],
        [" \n "],
        ["x" * 65],
        ["a\x00b"],
        ["a\nb"],
        ["a\x7f"],
        ["a\x85b"],
        ["\ud800"],
        [str(n) for n in range(33)],
    ],
)
def test_other_tags_are_refused(tags: object) -> None:
    with pytest.raises(ValueError, match="tag"):
        check_tags(tags)


def test_metadata_is_a_flat_object_of_simple_values() -> None:
    metadata = {
        "year": 2022,
        "ratio": -0.25,
        "company": "3M\n",
        "draft": False,
        "none": None,
        "authors": ["Ann", "Ben", ""],
        "empty": [],
        "A-z_0.9": MAX_NUMBER,
        "k" * 64: "x" * 512,
    }
    checked = check_metadata(metadata)
    assert checked == metadata
    assert [type(value) for value in checked.values()] == [type(v) for v in metadata.values()]


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        [],
        "x",
        {"": 1},
        {"k" * 65: 1},
        {"a b": 1},
        {"a\n": 1},
        {"ключ": 1},
        {"a'; --": 1},
        {"a": "x" * 513},
        {"a": "\x00"},
        {"a": "\udfff"},
        {"a": float("nan")},
        {"a": float("-inf")},
        {"a": MAX_NUMBER + 1},
        {"a": 10**400},
        {"a": {}},
        {"a": [1]},
        {"a": ["x", None]},
        {"a": [["x"]]},
        {"a": ["x"] * 33},
        {str(n): n for n in range(33)},
        {str(n): "x" * 512 for n in range(16)},
    ],
)
def test_other_metadata_is_refused(metadata: object) -> None:
    with pytest.raises(ValueError, match="metadata"):
        check_metadata(metadata)


@pytest.mark.parametrize(
    ("texts", "tags"),
    [
        (["a"], ["a"]),
        (["a", "b"], ["a", "b"]),
        (["a, b,,c,"], ["a", "b", "c"]),
        (['["a, b", "c"]'], ["a, b", "c"]),
        ([' ["a"]', "b"], ["a", "b"]),
        (["[]"], []),
        ([","], []),
        ([""], None),
        (["", "a"], ["a"]),
    ],
)
def test_tags_come_as_fields_as_an_array_or_with_commas(
    texts: list[str], tags: list[str] | None
) -> None:
    assert parse_options({"tags": texts}).tags == tags


def test_nothing_said_is_not_the_same_as_said_to_be_none() -> None:
    assert parse_options({"tags": [""], "metadata": [""]}).metadata is None
    assert parse_options({"metadata": ["{}"]}).metadata == {}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("tags", '["canary"'),
        ("tags", "[canary], b"),
        ("tags", '["canary", 1]'),
        ("tags", "[" * 100_000),
        ("tags", "canary" * 20),
        ("metadata", "canary"),
        ("metadata", '["canary"]'),
        ("metadata", '{"canary": {"x": 1}}'),
        ("metadata", '{"canary": 1, "canary": 2}'),
        ("metadata", '{"canary": NaN}'),
        ("metadata", '{"canary": 1e999}'),
        ("metadata", '{"canary": ' + "9" * 5000 + "}"),
        ("metadata", '{"a":' * 100_000),
    ],
)
def test_what_is_no_tags_or_no_metadata_is_refused_and_not_repeated(name: str, text: str) -> None:
    with pytest.raises(UnprocessableRequest) as caught:
        parse_options({name: [text]})
    assert caught.value.param == name
    assert "canary" not in caught.value.message


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists))
def test_any_json_is_metadata_or_refused(value: object) -> None:
    try:
        checked = check_metadata({"key": value})
    except ValueError:
        return
    # As it comes back from the database.
    assert json.loads(json.dumps(checked)) == {"key": value}

"""E-mail addresses, as people type them."""

import pytest

from app.accounts.users import normalize_email
from app.core.errors import UnprocessableRequest


@pytest.mark.parametrize(
    ("typed", "address"),
    [
        (" Ada@Example.COM\n", "ada@example.com"),
        ("a\u0308da@example.com", "\u00e4da@example.com"),
        ("\uff41@example.com", "a@example.com"),
    ],
)
def test_an_address_is_found_however_it_is_typed(typed: str, address: str) -> None:
    assert normalize_email(typed) == address


@pytest.mark.parametrize(
    "typed",
    [
        *("", "ada", "@example.com", "ada@example", "a b@example.com", "a@b@example.com"),
        *("a\x00@example.com", "a\ud800@example.com", "x" * 250 + "@example.com"),
        # Each becomes 18 characters: a megabyte of them takes most of a second.
        "ada@example.com" + " " * 100_000,
        "\ufdfa" * 100_000,
    ],
)
def test_what_is_no_address_is_refused(typed: str) -> None:
    with pytest.raises(UnprocessableRequest):
        normalize_email(typed)

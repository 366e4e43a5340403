"""Prices and what calls come to, in whole nano-USD."""

import subprocess
import sys
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.usage.prices import (
    FREE_PRICE,
    Price,
    Rates,
    find_listed_price,
    nano_to_usd,
    usd_to_nano,
)

TOKENS = st.integers(0, 10_000_000)


def test_a_listed_model_has_the_price_of_its_family_and_says_where_from() -> None:
    price = find_listed_price("openai", "gpt-4.1-mini")
    assert price is not None
    assert price.rates == Rates(Decimal("0.4"), Decimal("1.6"), Decimal("0.1"))
    assert price.source == "genai-prices 0.2.3"
    dated = find_listed_price("openai", "gpt-4.1-mini-2025-04-14")
    assert dated is not None
    assert dated.rates == price.rates


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("azure", "gpt-4.1-mini"),
        ("anthropic", "claude-sonnet-4-5"),
        ("gemini", "gemini-2.5-flash"),
        ("openrouter", "openai/gpt-4.1-mini"),
        ("openai", "text-embedding-3-small"),
    ],
)
def test_each_vendor_is_found_under_our_name(provider: str, model: str) -> None:
    price = find_listed_price(provider, model)
    assert price is not None
    assert price.rates.input_usd > 0


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("openai", "gpt-99-unheard-of"),
        ("openai", ""),
        ("openai", "x" * 10_000),
        ("unheard-of", "gpt-4.1-mini"),
        ("openrouter", "openrouter/auto"),
    ],
)
def test_what_is_not_listed_is_unknown_and_not_free(provider: str, model: str) -> None:
    assert find_listed_price(provider, model) is None


def test_a_long_prompt_pays_the_higher_price_for_all_of_its_call() -> None:
    price = find_listed_price("anthropic", "claude-sonnet-4-5")
    assert price is not None
    assert price.cost_nano(200_000, 1000) == 200_000 * 3000 + 1000 * 15_000
    assert price.cost_nano(200_001, 1000) == 200_001 * 6000 + 1000 * 22_500


def test_cached_input_has_its_own_price_or_that_of_other_input() -> None:
    with_one = Rates(Decimal("0.4"), Decimal("1.6"), Decimal("0.1"))
    without = Rates(Decimal("0.4"), Decimal("1.6"))
    assert with_one.cost_nano(1000, 10, 600) == 400 * 400 + 600 * 100 + 10 * 1600
    assert without.cost_nano(1000, 10, 600) == 1000 * 400 + 10 * 1600
    # More than all of it can't have been read before.
    assert with_one.cost_nano(10, 0, 50) == 10 * 100


def test_half_a_nano_dollar_is_rounded_up() -> None:
    assert Rates(Decimal("0.0375"), Decimal(0)).cost_nano(1, 0) == 38
    assert Rates(Decimal("0.0375"), Decimal(0)).cost_nano(2, 0) == 75


@given(TOKENS, TOKENS, TOKENS)
def test_no_call_costs_less_than_a_part_of_it(first: int, second: int, output: int) -> None:
    tiers = ((1000, Rates(Decimal("0.8"), Decimal("3.2"), Decimal("0.2"))),)
    price = Price(Rates(Decimal("0.4"), Decimal("1.6"), Decimal("0.1")), "override", tiers)
    less, more = sorted((first, second))
    assert 0 <= price.cost_nano(less, output) <= price.cost_nano(more, output)
    assert price.cost_nano(more, output, less) <= price.cost_nano(more, output)


def test_free_is_free() -> None:
    assert FREE_PRICE.is_free
    assert FREE_PRICE.cost_nano(10**9, 10**9) == 0
    assert not Price(Rates(Decimal(0), Decimal("0.1")), "override").is_free


@pytest.mark.parametrize(
    ("nano", "usd"), [(0, "0"), (1, "0.000000001"), (784_000, "0.000784"), (10**10, "10")]
)
def test_dollars_are_shown_without_needless_zeros(nano: int, usd: str) -> None:
    assert nano_to_usd(nano) == usd
    assert usd_to_nano(Decimal(usd)) == nano


def test_the_list_is_not_loaded_before_a_price_is_asked_for() -> None:
    """It takes 5 MB that a process without priced models does not need."""
    code = "import sys, app.main; sys.exit('genai_prices' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

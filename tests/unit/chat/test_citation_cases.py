"""What is verified and what is not: our own cases, and statements of documents made wrong."""

import json
import random
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from app.chat.quotes import SourceIndex, find_quote
from app.core.lexical import Term, find_terms, number_key

DATA = Path(__file__).parents[2] / "data"
EVALUATION = json.loads((DATA / "citations.json").read_text())
CASES = EVALUATION["cases"]
DOCUMENTS = sorted((DATA / "quality" / "documents").glob("*.md"))
# Of the right claims; to know that "$2.5 million" is "$2,500,000" takes more than words.
MIN_RECALL = 0.98


def is_verified(case: dict[str, Any]) -> bool:
    quote = find_quote(case["claim"], EVALUATION["chunks"][case["chunk"]])
    return quote is not None and quote.verified


@pytest.mark.parametrize("case", [c for c in CASES if not c["verified"]], ids=lambda c: c["claim"])
def test_a_wrong_claim_is_never_verified(case: dict[str, Any]) -> None:
    assert not is_verified(case)


def test_right_claims_are_verified_by_the_right_words() -> None:
    right = [case for case in CASES if case["verified"]]
    found = 0
    for case in right:
        quote = find_quote(case["claim"], EVALUATION["chunks"][case["chunk"]])
        found += quote is not None and quote.verified and case["quote"] in quote.text
    assert len(right) >= 60
    assert found >= MIN_RECALL * len(right)


def statements() -> Iterator[tuple[SourceIndex, str]]:
    """Yield the sentences and rows of the documents with a source of some 1,000 characters."""
    for path in DOCUMENTS:
        text = path.read_text()
        edges = [0]
        for match in re.finditer(r"\n\n", text):
            if match.end() - edges[-1] > 1_000:
                edges.append(match.end())
        for start, end in zip(edges, [*edges[1:], len(text)], strict=True):
            source = SourceIndex(text[start:end])
            for sentence in source.sentences:
                statement = source.text[sentence.start : sentence.end]
                if len(statement) > 25 and not statement.startswith("#"):
                    yield source, statement


def numbers(text: str) -> list[Term]:
    return [term for term in find_terms(text) if term.is_number]


def with_other_numbers(source: SourceIndex, statement: str) -> Iterator[str]:
    """Yield the statement with one number replaced by another, or two of them swapped."""
    rng = random.Random(3)
    here = numbers(statement)
    years = {term.key for term in here if re.fullmatch(r"20\d\d", term.key)}
    elsewhere = {number_key(source.text[t.start : t.end]) for t in numbers(source.text)} - years
    for term in here:
        for number in rng.sample(sorted(elsewhere - {term.key}), k=min(2, len(elsewhere) - 1)):
            yield statement[: term.start] + number + statement[term.end :]
        yield f"{statement[: term.start]}{int(float(term.key)) + 1}{statement[term.end :]}"
    for one, other in pairwise(here):
        if one.key != other.key:
            between = statement[one.end : other.start]
            yield (
                f"{statement[: one.start]}{statement[other.start : other.end]}{between}"
                f"{statement[one.start : one.end]}{statement[other.end :]}"
            )


def test_statements_of_documents_are_verified_and_with_other_numbers_are_not() -> None:
    right = wrong = 0
    for source, statement in statements():
        quote = find_quote(statement, source)
        assert quote is not None and quote.verified, statement
        right += 1
        for changed in with_other_numbers(source, statement):
            quote = find_quote(changed, source)
            assert quote is None or not quote.verified, changed
            wrong += 1
    assert right > 200
    assert wrong > 500

"""A question -> weighted index terms."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from app.core.analysis import (
    DEFAULT_LANGUAGE,
    LATIN_LANGUAGES,
    Language,
    Token,
    detect_language,
    is_beginning,
    is_latin,
    is_stop_word,
    terms_of,
    tokenize,
)

# Chosen on the development sets of `bench.quality`. English has the best stemmer, and the most
# words that begin alike.
_BEGINNING_WEIGHT = 0.5
_ENGLISH_BEGINNING_WEIGHT = 0.3
_PHRASE_WEIGHT = 0.5
# What costs time is the number of terms.
_MAX_TERMS = 160
_PHRASES = 0


@dataclass(frozen=True, slots=True)
class AnalyzedQuery:
    """Terms with their weights, each term once.

    Terms of one group, from 1, stand for the same word of the question; those of group 0 for no
    word of it.
    """

    terms: tuple[str, ...]
    weights: tuple[float, ...]
    groups: tuple[int, ...]


# Questions come again, and soon.
@lru_cache(maxsize=1_000)
def analyze_query(text: str, phrases: tuple[str, ...] = ()) -> AnalyzedQuery:
    """Return the terms to look up for a question in any language, the weightiest first.

    `phrases` are other names of what it asks for, in English. Function words count only where there
    is nothing else; without a letter or digit there are no terms.
    """
    tokens = tokenize(text)
    language = detect_language(tokens)
    found: dict[str, tuple[float, int]] = {}
    group = 0
    for token in _content(tokens, language.name) or dict.fromkeys(tokens):
        group += 1
        for term in _variants(token, language):
            found.setdefault(term, (_weight(term, language), group))
            if token[0] in {"pairs", "threes"}:
                # Each is like a word of its own.
                group += 1
    for token in _content([t for phrase in phrases for t in tokenize(phrase)], DEFAULT_LANGUAGE):
        found.setdefault(terms_of(token, DEFAULT_LANGUAGE)[0], (_PHRASE_WEIGHT, _PHRASES))
    chosen = sorted(found.items(), key=lambda item: -item[1][0])[:_MAX_TERMS]
    return AnalyzedQuery(
        tuple(term for term, _ in chosen),
        tuple(weight for _, (weight, _) in chosen),
        tuple(group for _, (_, group) in chosen),
    )


def _content(tokens: Sequence[Token], language: str) -> dict[Token, None]:
    """Return the tokens that say something, each once, in order."""
    return dict.fromkeys(token for token in tokens if not is_stop_word(token[1], language))


def _variants(token: Token, language: Language) -> Sequence[str]:
    """Return the terms of a token, in all languages where the question's is not clear."""
    terms = terms_of(token, language.name)
    if language.is_certain or token[0] != "word" or not is_latin(token[1]):
        return terms
    stems = (terms_of(token, other)[0] for other in LATIN_LANGUAGES)
    return tuple(dict.fromkeys((*terms, *stems)))


def _weight(term: str, language: Language) -> float:
    if not is_beginning(term):
        return 1.0
    is_english = language.name == DEFAULT_LANGUAGE and language.is_certain
    return _ENGLISH_BEGINNING_WEIGHT if is_english else _BEGINNING_WEIGHT

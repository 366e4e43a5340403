"""How closely a passage follows the wording of a question.

Full text counts words wherever they stand. A passage that answers mostly has them together: in one
sentence, and side by side as the question has them.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import compress, pairwise
from math import log

from app.core.analysis import (
    DEFAULT_LANGUAGE,
    Token,
    detect_language,
    is_stop_word,
    terms_of,
    tokenize,
)

# Half as much or twice as much finds the same, within the noise.
_PAIR_WEIGHT = 1 / 6
_PHRASE_WEIGHT = 0.5
# A word that every passage has still counts; one that few have, up to five times as much.
_LEAST_WEIGHT = 1.0
# What costs time is the number of words.
_MAX_WORDS = 60
_SHORT = 3
_SPACED_KINDS = frozenset(["word", "number", "mixed", "initials"])
_YEAR = re.compile(r"(?:19|20)\d\d")

# Bytes are translated ten times as fast as a str that is not ASCII, and a str with one byte a
# character is searched the fastest. Letters beyond ASCII stay as they are, in bytes of UTF-8. NUL,
# which no stored text has, stands between passages, and then a line feed between sentences.
_TABLE = bytes(
    ord(".") if char in ".!?" else ord(char) if char.isalnum() or char in "&'\0" else ord(" ")
    for char in map(chr, range(128))
).lower() + bytes(range(128, 256))
_TYPOGRAPHY = (*((mark.encode(), b" ") for mark in "–—“”"), ("’".encode(), b"'"))


@dataclass(frozen=True, slots=True)
class Wording:
    """What to look for in a passage.

    `words` are the beginnings of those that say something, each once; `shares` what they weigh
    before their rarity: 1, and less for those of phrases. `pairs` are neighbors in the question,
    with the indexes of those of the two that are in `words`: one or both.
    """

    words: tuple[str, ...]
    shares: tuple[float, ...]
    pairs: tuple[tuple[str, tuple[int, ...]], ...]


# Questions come again, and soon.
@lru_cache(maxsize=1_000)
def analyze_wording(question: str, phrases: tuple[str, ...] = ()) -> Wording:
    """Return the wording of a question in a language with spaces between words; else it is empty.

    `phrases` are other names of what it asks for, in English.
    """
    tokens = [token for token in tokenize(question) if token[0] in _SPACED_KINDS]
    language = detect_language(tokens).name
    # None for what says nothing alone.
    words = [None if is_stop_word(t[1], language) else _beginning(t, language) for t in tokens]
    shares = {word: 1.0 for word in words if word}
    for phrase in phrases:
        for token in tokenize(phrase):
            if not is_stop_word(token[1], DEFAULT_LANGUAGE):
                shares.setdefault(_beginning(token, DEFAULT_LANGUAGE), _PHRASE_WEIGHT)
    chosen = tuple(shares)[:_MAX_WORDS]
    places = {word: place for place, word in enumerate(chosen)}
    pairs: dict[str, tuple[int, ...]] = {}
    for (first, of_first), (second, of_second) in pairwise(zip(tokens, words, strict=True)):
        telling = tuple(places[word] for word in (of_first, of_second) if word in places)
        if telling:
            end = of_second or _beginning(second, language)
            pairs.setdefault(_normalize([first[1]])[0].rstrip() + end, telling)
    return Wording(chosen, tuple(shares[word] for word in chosen), tuple(pairs.items()))


def measure_closeness(wording: Wording, texts: Sequence[str]) -> list[float]:
    """Return for each passage how closely it follows the wording: from 0 to about 1.4.

    That is the share of the question's words that its best sentence has, and a sixth of the share
    of its pairs, squared: most of the words together tell much, half of them stand in many
    passages. A word weighs the more, the fewer of these passages have it.
    """
    passages = _normalize(texts) if texts else []
    found = [[word in passage for word in wording.words] for passage in passages]
    counts = [sum(column) for column in zip(*found, strict=True)]
    weights = [
        share * (_LEAST_WEIGHT + log(1 + (len(texts) - count + 0.5) / (count + 0.5)))
        for share, count in zip(wording.shares, counts, strict=False)
    ]
    whole = sum(weights)
    together = [
        _best_sentence(passage, wording.words, weights, has)
        + _pairs(passage, wording, weights, has)
        if any(has)
        else 0.0
        for passage, has in zip(passages, found, strict=True)
    ]
    return [(weight / whole) ** 2 if weight else 0.0 for weight in together]


def _best_sentence(
    passage: str, words: Sequence[str], weights: Sequence[float], has: Sequence[bool]
) -> float:
    words, weights = list(compress(words, has)), list(compress(weights, has))
    return max(
        sum(compress(weights, [word in sentence for word in words]))
        for sentence in passage.split("\n")
    )


def _pairs(passage: str, wording: Wording, weights: Sequence[float], has: Sequence[bool]) -> float:
    """Return what the pairs in the passage weigh: as much as the commoner of their words."""
    return _PAIR_WEIGHT * sum(
        min([weights[place] for place in places])
        for pair, places in wording.pairs
        # Without its word there is no need to look for the pair.
        if has[places[0]] and pair in passage
    )


@lru_cache(maxsize=20_000)
def _beginning(token: Token, language: str) -> str:
    """Return how a word begins in all its forms, behind a space; a short one is whole."""
    kind, text = token
    if kind == "mixed" and (year := _YEAR.search(text)):  # FY2022
        return f" {year.group()}"
    if kind == "word" and len(text) > _SHORT:
        stem = terms_of(token, language)[0]
        while not text.startswith(stem):
            stem = stem[:-1]
        text = stem
        if len(text) > _SHORT:
            text = text.removesuffix("i")  # "countri" of country and countries
        return _normalize([text])[0].rstrip()
    return _normalize([text])[0].rstrip() + (" " if kind == "word" else "")


def _normalize(texts: Sequence[str]) -> list[str]:
    """Return texts in lower case, words between spaces and a line feed between sentences."""
    raw = (" " + " \0 ".join(texts) + " ").encode(errors="replace")
    if not raw.isascii():
        for mark, plain in _TYPOGRAPHY:
            raw = raw.replace(mark, plain)
    spaced = raw.replace(b"\n\n", b". ").translate(_TABLE).replace(b". ", b" \n ")
    return spaced.decode("latin-1").split("\0")

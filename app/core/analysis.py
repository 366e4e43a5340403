"""Text in any language -> index terms. Passages and questions pass through the same analysis.

A term is opaque text. A word gives its stem; a longer one also `~` and its beginning without
accents: a second, lighter signal for where a stemmer errs, has no rule or took the wrong language.
A number gives its digits without separators. Scripts without spaces give overlapping pairs of
characters, those of South-East Asia threes. A word is stemmed by the language of its script; one in
Latin letters by the language of the text, which the function words tell.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import Stemmer

from app.core.lexical import number_key
from app.core.stop_words import STOP_WORDS

# Marks inside words: `\w` leaves out the vowel signs of Indic scripts, Arabic and Hebrew.
_MARKS = (
    "\u0300-\u036f\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a\u0640"
    "\u064b-\u065f\u0670\u06d6-\u06dc\u06df-\u06e4\u06e7\u06e8\u06ea-\u06ed"
    "\u0900-\u0903\u093a-\u093c\u093e-\u094f\u0951-\u0957\u0962\u0963\u0981-\u0983\u09bc"
    "\u09be-\u09cd\u09d7\u0a01-\u0a03\u0a3c-\u0a51\u0a70\u0a71\u0a81-\u0a83\u0abc\u0abe-\u0acd"
    "\u0b01-\u0b03\u0b3c\u0b3e-\u0b57\u0b82\u0bbe-\u0bcd\u0bd7\u0c00-\u0c04\u0c3e-\u0c56"
    "\u0c81-\u0c83\u0cbc\u0cbe-\u0cd6\u0d00-\u0d03\u0d3b-\u0d4d\u0d57\u0d81-\u0d83\u0dca-\u0df3"
)
_PAIRS = (
    "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3\uf900-\ufaff"
)
_THREES = "\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0ece\u1000-\u103f\u1050-\u109f\u1780-\u17d3"
_LETTER = rf"[^\W\d_{_PAIRS}{_THREES}]"
_TOKEN = re.compile(
    # R&D, P&L, PP&E: taken apart they are single letters.
    r"(?P<initials>(?<![^\W_])[a-z]{1,3}(?:&[a-z]{1,3})+(?![^\W_]))"
    # FY2022, Q2, 3M, A320neo.
    r"|(?P<mixed>(?:[a-z]+[0-9]|[0-9]+[a-z])[a-z0-9]*)"
    r"|(?P<number>\d+(?:[.,'٫٬]\d+)*)"
    rf"|(?P<word>{_LETTER}(?:{_LETTER}|[{_MARKS}])*)"
    rf"|(?P<pairs>[{_PAIRS}]+)"
    rf"|(?P<threes>[{_THREES}]+)"
)
# The same for text in ASCII, twice as fast.
_ASCII_TOKEN = re.compile(
    r"(?P<initials>(?<![a-z0-9])[a-z]{1,3}(?:&[a-z]{1,3})+(?![a-z0-9]))"
    r"|(?P<mixed>(?:[a-z]+[0-9]|[0-9]+[a-z])[a-z0-9]*)"
    r"|(?P<number>[0-9]+(?:[.,'][0-9]+)*)"
    r"|(?P<word>[a-z]+)"
)
_PART = re.compile(r"[a-z]{2,}|[0-9]{2,}")
_SHORT_YEAR = re.compile(r"fy([0-9]{2})")
_UNWRITTEN = re.compile("[\u00ad\u0640\u064b-\u065f\u0670\u200b-\u200f\ufeff]")
_LATIN = re.compile(r"[a-z\u00df-\u024f\u1e00-\u1eff]")
_SCRIPTS = (
    (re.compile(r"[\u0370-\u03ff\u1f00-\u1fff]"), "greek"),
    (re.compile(r"[\u0400-\u052f]"), "russian"),
    (re.compile(r"[\u0600-\u06ff\u0750-\u077f]"), "arabic"),
    (re.compile(r"[\u0900-\u097f]"), "hindi"),
    (re.compile(r"[\u0b80-\u0bff]"), "tamil"),
    (re.compile(r"[\u0530-\u058f]"), "armenian"),
)

DEFAULT_LANGUAGE = "english"
LATIN_LANGUAGES = tuple(
    language for language, words in STOP_WORDS.items() if any(map(_LATIN.match, words))
)
_LANGUAGES_OF = {
    word: tuple(language for language in LATIN_LANGUAGES if word in STOP_WORDS[language])
    for language in LATIN_LANGUAGES
    for word in STOP_WORDS[language]
    if len(word) > 1
}
_STOP_WORDS_BY_SCRIPT = frozenset().union(
    *(words for language, words in STOP_WORDS.items() if language not in LATIN_LANGUAGES)
)
_STEMMED = frozenset(Stemmer.algorithms())

# A beginning of five letters and four ranks alike; five stands in fewer passages.
_BEGINNING_LENGTH = 5
_MAX_WORD_LENGTH = 64
# Words that are looked at to tell the language.
_ENOUGH_WORDS = 150
# Limits of a tsvector.
_MAX_POSITION = 16_383
_MAX_POSITIONS = 255

# Kind (a group of _TOKEN) and folded text.
Token = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Language:
    """`name` as in STOP_WORDS. `is_certain` where no other language comes near."""

    name: str
    is_certain: bool


def tokenize(text: str) -> list[Token]:
    """Return the words, numbers and runs of letters without spaces, in order, folded."""
    folded = _fold(text)
    pattern = _ASCII_TOKEN if folded.isascii() else _TOKEN
    return [(match.lastgroup or "", match.group()) for match in pattern.finditer(folded)]


def detect_language(tokens: Sequence[Token]) -> Language:
    """Return the language of what is in Latin letters. English, uncertain, if nothing tells."""
    scores: defaultdict[str, float] = defaultdict(float)
    for _, word in tokens[:_ENOUGH_WORDS]:
        languages = _LANGUAGES_OF.get(word, ())
        for language in languages:
            scores[language] += 1 / len(languages)
    if max(scores.values(), default=0.0) < 1:
        return Language(DEFAULT_LANGUAGE, is_certain=False)
    best = max(scores, key=lambda language: (scores[language], language == DEFAULT_LANGUAGE))
    next_best = max((score for name, score in scores.items() if name != best), default=0.0)
    return Language(best, is_certain=scores[best] >= 2 * next_best)


def is_english(text: str) -> bool:
    """Say whether a text is in English, as far as one can tell: a bare name may be."""
    tokens = tokenize(text)
    foreign = total = 0
    for kind, word in tokens:
        is_run = kind in ("pairs", "threes")
        # Without spaces a sentence is one token: of two letters, and more, to a word.
        count = (len(word) + 1) // 2 if is_run else 1
        total += count
        if is_run or (kind == "word" and not is_latin(word)):
            foreign += count
    return 2 * foreign <= total and detect_language(tokens).name == DEFAULT_LANGUAGE


def is_stop_word(word: str, language: str) -> bool:
    """Say whether a folded word says nothing, in this language or in its script's."""
    return word in STOP_WORDS[language] or word in _STOP_WORDS_BY_SCRIPT


def is_latin(word: str) -> bool:
    """Say whether a folded word is in Latin letters, so that its language is not its script's."""
    return _LATIN.match(word) is not None


def is_beginning(term: str) -> bool:
    """Say whether a term is the lighter signal of a word."""
    return term.startswith("~")


@lru_cache(maxsize=50_000)
def terms_of(token: Token, language: str) -> tuple[str, ...]:
    """Return the terms of a token. `language` is that of the text, and counts for Latin letters."""
    kind, text = token
    if kind == "word":
        return _word_terms(text[:_MAX_WORD_LENGTH], language)
    if kind == "number":
        return (number_key(text)[:_MAX_WORD_LENGTH],)
    if kind == "mixed":
        return _mixed_terms(text[:_MAX_WORD_LENGTH])
    if kind == "initials":
        return (text[:_MAX_WORD_LENGTH],)
    length = min(2 if kind == "pairs" else 3, len(text))
    return tuple(text[at : at + length] for at in range(len(text) - length + 1))


def to_tsvector(text: str, *, title: str | None, heading: str | None) -> str:
    """Return a passage as input of the type `tsvector`: its terms with their positions.

    Those of the heading carry the label A, those of the title B, the others none (that is D). They
    come last: so ts_rank() tells how often a term stands in the text.
    """
    tokens = tokenize(text)
    language = detect_language(tokens).name
    positions: dict[str, list[str]] = {}
    place = _put(positions, tokens, language, 1, "")
    for part, label in ((heading, "A"), (title, "B")):
        if part:
            place = _put(positions, _tokenize_again(part), language, place, label)
    return " ".join([f"'{term}':{','.join(at)}" for term, at in positions.items()])


# Of one document, passages with the same title and headings follow each other.
_tokenize_again = lru_cache(maxsize=64)(tokenize)


def _put(
    positions: dict[str, list[str]], tokens: Sequence[Token], language: str, place: int, label: str
) -> int:
    """Add tokens from a position on. Returns the position behind them."""
    for at, token in enumerate(tokens, place):
        written = f"{at}{label}" if at < _MAX_POSITION else f"{_MAX_POSITION}{label}"
        for term in terms_of(token, language):
            if term not in positions:
                positions[term] = [written]
            elif len(positions[term]) < _MAX_POSITIONS:
                positions[term].append(written)
    return place + len(tokens)


def _fold(text: str) -> str:
    if text.isascii():
        return text.lower()
    # Turkish: the dotted capital would leave its dot behind.
    folded = unicodedata.normalize("NFKC", text).replace("İ", "i").casefold()
    if folded.isascii():
        return folded
    return unicodedata.normalize("NFC", _UNWRITTEN.sub("", folded).replace("’", "'"))


def _word_terms(word: str, language: str) -> tuple[str, ...]:
    is_ascii = word.isascii()
    stem = _stem(word, language if is_ascii or _LATIN.match(word) else _script_language(word))
    plain = word if is_ascii else _without_accents(word)
    if len(plain) > _BEGINNING_LENGTH - 1:
        return (stem, "~" + plain[:_BEGINNING_LENGTH])
    # Too short for a second signal, but found without its accents too.
    return (stem,) if is_ascii or plain == stem else (stem, plain)


def _mixed_terms(text: str) -> tuple[str, ...]:
    year = _SHORT_YEAR.fullmatch(text)
    # Each once: "fy22" is its own letters, and so is "3m".
    return tuple(dict.fromkeys([text, *_PART.findall(text), *([f"20{year[1]}"] if year else [])]))


def _stem(word: str, language: str) -> str:
    if language not in _STEMMED or is_stop_word(word, language):
        return word
    # A stemmer keeps state and is not safe between threads, and ingestion has several.
    stem: str = Stemmer.Stemmer(language, 0).stemWord(word)
    return stem or word


def _script_language(word: str) -> str:
    return next((language for script, language in _SCRIPTS if script.match(word)), "")


def _without_accents(word: str) -> str:
    apart = unicodedata.normalize("NFD", word)
    plain = "".join(char for char in apart if not "\u0300" <= char <= "\u036f")
    return unicodedata.normalize("NFC", plain)

"""What could be asked of a document, by its own headings, without a language model.

Of the headings that are phrases, those with much text under them and from different parts are best.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from app.core.analysis import is_english, is_latin, is_stop_word, tokenize
from app.documents.headings import (
    EDGES,
    clean_heading,
    is_informative,
    lower_word,
    one_line,
    rate_fluency,
    words_of,
)
from app.ingestion.embedding import document_title
from app.ingestion.headings import HEADING_SEPARATOR

_MAX_NAME_CHARS = 60
# A heading with less text under it, in one chunk, is hardly a section.
_MIN_TOKENS = 80
# More text does not make a heading more interesting.
_MANY_TOKENS = 2_000
# Of the texts that tell the language.
_ENOUGH_TEXTS = 12

_SUBTITLE = re.compile(r" [—–|-] |: ")
_PLAIN_NAME = re.compile(r"[^\W_][\w &’'-]*")
_NAME_IN_SENTENCE = re.compile(r"(?<=[^\W\d_A-Z] )[A-Z][^\W\d_]+(?:[’'-][^\W\d_]+)*")
_PLURAL_HEADS = frozenset(
    """advantages assumptions benefits challenges conclusions criteria disadvantages exceptions
    exclusions factors findings goals guidelines limitations milestones objectives obligations
    prerequisites principles priorities recommendations requirements responsibilities risks rules
    steps strategies""".split()  # noqa: SIM905  # a list of forty words
)


@dataclass(frozen=True, slots=True)
class HeadedText:
    """What stands under one heading path, None for text without a heading.

    `place` is where it begins in the document, from 0 to 1; `excerpt` is some of its text.
    """

    path: str | None
    chunks: int
    tokens: int
    place: float
    excerpt: str


@dataclass(frozen=True, slots=True)
class Question:
    """`heading` is what it asks about, None for the document as a whole."""

    text: str
    heading: str | None


@dataclass(slots=True)
class _Section:
    heading: str
    above: frozenset[str]
    place: float
    chunks: int = 0
    tokens: int = 0


class DocumentQuestions:
    """Questions about one document, the same for the same texts."""

    def __init__(self, filename: str, title: str | None, texts: Sequence[HeadedText]) -> None:
        self._name = _told_apart(short_name(filename, title))
        self._texts = texts
        self._words_of_name = _folded_words(self._name)
        self._chunks = sum(text.chunks for text in texts)

    def about_the_whole(self) -> Question:
        return Question(f"What is {self._name} about?", None)

    def about_headings(self) -> Iterator[Question]:
        """Yield questions, the best first, each about another part of the document."""
        scores = [(section, self._score(section)) for section in self._list_sections()]
        left = [(section, score) for section, score in scores if score > 0]
        while left:
            best, _ = max(left, key=lambda rated: (rated[1], -rated[0].place, rated[0].heading))
            yield self._ask(best.heading)
            left = [
                (section, score / 2 if abs(section.place - best.place) < 0.1 else score)
                for section, score in left
                if not _is_same_part(section, best)
            ]

    def _list_sections(self) -> list[_Section]:
        """Return those that one can ask about; a section's text is that of its subsections too."""
        sections: dict[str, _Section] = {}
        for text in self._texts:
            headings = [clean_heading(t) for t in (text.path or "").split(HEADING_SEPARATOR)]
            keys = [heading.casefold() for heading in headings]
            for depth, (key, heading) in enumerate(zip(keys, headings, strict=True)):
                new = _Section(heading, frozenset(keys[:depth]), text.place)
                section = sections.setdefault(key, new)
                section.chunks += text.chunks
                section.tokens += text.tokens
        return [section for section in sections.values() if is_informative(section.heading)]

    def _score(self, section: _Section) -> float:
        """Rate a section: the more text the better; 0 is never asked about."""
        if section.chunks < 2 and section.tokens < _MIN_TOKENS:
            return 0.0
        # What stands above most of a document is its title.
        if section.chunks > 0.6 * self._chunks > 3:
            return 0.0
        if _folded_words(section.heading) <= self._words_of_name:
            return 0.0
        is_front_matter = section.place < 0.02 and len(self._texts) > 20
        much = math.log2(1 + min(section.tokens, _MANY_TOKENS))
        return much * rate_fluency(section.heading) * (0.4 if is_front_matter else 1.0)

    def _ask(self, heading: str) -> Question:
        if heading.endswith("?"):
            return Question(heading, heading)
        if not self._is_english or not _is_in_latin_letters(heading):
            return Question(f"{heading}?", heading)
        phrase = self._within_sentence(heading)
        words = phrase.split()
        if len(words) <= 3 and words[-1] in _PLURAL_HEADS and phrase.islower():
            return Question(f"What are the {phrase} in {self._name}?", heading)
        return Question(f"What does {self._name} say about {phrase}?", heading)

    def _within_sentence(self, heading: str) -> str:
        """Put a heading into small letters, unless a word of it may be a name."""
        words = words_of(heading)
        capitalized = [word for word in words if word[0].isupper()]
        if capitalized == words[:1]:
            # As any first word has one.
            has_name = capitalized[0] in self._names and not self._is_common(capitalized[0])
        else:
            has_name = not all(map(self._is_common, capitalized))
        return heading if has_name else " ".join(map(lower_word, heading.split()))

    def _is_common(self, word: str) -> bool:
        folded = word.lower()
        is_known = folded in self._small_words or folded in _PLURAL_HEADS
        return is_known or is_stop_word(folded, "english")

    @cached_property
    def _is_english(self) -> bool:
        sample = " ".join(text.excerpt for text in self._texts[:_ENOUGH_TEXTS])
        return not sample.strip() or is_english(sample)

    @cached_property
    def _small_words(self) -> frozenset[str]:
        """Words that the document writes in small letters: no names."""
        words = (word for text in self._texts for word in words_of(text.excerpt))
        return frozenset(word for word in words if word.islower())

    @cached_property
    def _names(self) -> frozenset[str]:
        """Words that the document writes with a capital within a sentence."""
        found = (_NAME_IN_SENTENCE.findall(text.excerpt) for text in self._texts)
        return frozenset(name for names in found for name in names)


def short_name(filename: str, title: str | None) -> str:
    """Return what to call a document in a sentence, by its file's name or else its title."""
    name = one_line(document_title(filename, title)) or one_line(filename)
    main_title = _SUBTITLE.split(name, maxsplit=1)[0]
    name = main_title if len(main_title.split()) > 1 else name
    if sum(map(str.isupper, name)) > 2 * sum(map(str.islower, name)):
        name = " ".join(
            word.capitalize() if word.isupper() and word.isalpha() and len(word) > 4 else word
            for word in name.split()
        )
    if len(name) > _MAX_NAME_CHARS:
        name = name[: _MAX_NAME_CHARS - 1].rsplit(" ", 1)[0].rstrip(EDGES) + "…"
    return name


def _told_apart(name: str) -> str:
    """Put a name between quotation marks that would run into the words around it."""
    is_plain = _PLAIN_NAME.fullmatch(name) and not name[0].islower() and len(name.split()) <= 6
    return name if is_plain else f"“{name.strip('“”')}”"


def _is_same_part(one: _Section, other: _Section) -> bool:
    """Whether they are one, or one is within the other."""
    key, other_key = one.heading.casefold(), other.heading.casefold()
    return key == other_key or key in other.above or other_key in one.above


def _is_in_latin_letters(heading: str) -> bool:
    return all(
        kind not in ("pairs", "threes") and (kind != "word" or is_latin(word))
        for kind, word in tokenize(heading)
    )


def _folded_words(text: str) -> set[str]:
    return {word for _, word in tokenize(text)}

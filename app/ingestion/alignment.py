"""Find a passage of the stored text in what the PDF itself says, which differs in all but letters.

Hyphens are joined, ligatures taken apart, spaces and accents written in another way: compared is
what is left of both when only letters and digits count.
"""

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

# Letters before and after that tell apart places with the same words.
_CONTEXT = 200
_MAX_PLACES = 5_000


@dataclass(frozen=True, slots=True)
class Folded:
    """The letters and digits of a text, and for each the index of the character it came from."""

    letters: str
    origins: Sequence[int]


def fold(characters: Iterable[str]) -> Folded:
    """Fold a text, or the characters of a page: without case, accents and compatibility forms."""
    letters: list[str] = []
    origins: list[int] = []
    for index, character in enumerate(characters):
        for letter in _fold_character(character):
            letters.append(letter)
            origins.append(index)
    return Folded("".join(letters), origins)


def find_passage(text: str, start: int, end: int, stream: Sequence[str]) -> range | None:
    """Return which characters of `stream` are `text[start:end]`; None if it isn't there.

    Of several places it is the one with the same words around it, then the one nearest to where it
    stands in the text. The signs at the passage's ends belong to it, where they are there, too.
    """
    folded_stream = fold(stream)
    quote, before, after = (fold(part).letters for part in _split(text, start, end))
    if not quote:
        return None
    place = _choose(folded_stream.letters, quote, before, after)
    if place is None:
        return None
    first = folded_stream.origins[place]
    last = folded_stream.origins[place + len(quote) - 1]
    head, tail = _signs_around(text[start:end])
    return range(
        first - _count_signs(stream, range(first - 1, -1, -1), head[::-1]),
        last + _count_signs(stream, range(last + 1, len(stream)), tail) + 1,
    )


def _split(text: str, start: int, end: int) -> tuple[str, str, str]:
    return text[start:end], text[:start], text[end:]


@lru_cache(maxsize=4096)
def _fold_character(character: str) -> str:
    decomposed = unicodedata.normalize("NFKD", character).casefold()
    return "".join(letter for letter in decomposed if letter.isalnum())


def _choose(letters: str, quote: str, before: str, after: str) -> int | None:
    """Return where the quote stands."""
    expected = len(before)
    best: tuple[int, int] | None = None
    chosen = None
    place = letters.find(quote)
    for _ in range(_MAX_PLACES):
        if place < 0:
            break
        stop = place + len(quote)
        behind = _common_length(after[:_CONTEXT], letters[stop : stop + _CONTEXT])
        ahead = _common_length(
            before[-_CONTEXT:][::-1], letters[max(0, place - _CONTEXT) : place][::-1]
        )
        fit = (ahead + behind, -abs(place - expected))
        if best is None or fit > best:
            best, chosen = fit, place
        place = letters.find(quote, place + 1)
    return chosen


def _common_length(one: str, other: str) -> int:
    for length, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return length
    return min(len(one), len(other))


def _signs_around(quote: str) -> tuple[str, str]:
    """Return the visible signs before the first letter of the quote, and behind the last one."""
    origins = fold(quote).origins
    head, tail = quote[: origins[0]], quote[origins[-1] + 1 :]
    return "".join(head.split()), "".join(tail.split())


def _count_signs(stream: Sequence[str], indices: range, signs: str) -> int:
    """Return over how many characters the signs reach, in the order of the indices."""
    reach = found = 0
    for count, index in enumerate(indices, 1):
        if found == len(signs):
            break
        character = stream[index]
        if character.isspace():
            continue
        if character != signs[found]:
            break
        found += 1
        reach = count
    return reach

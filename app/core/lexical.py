"""Lexical overlap in any language: terms and numbers of a text, their weights, the best stretch.

Terms are words (folded, cut to a stem), numbers (without separators, signs and units) and, for
scripts without spaces, pairs of characters (of letters, in Thai and the like: threes).
"""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
)
# `\w` leaves out the vowel signs of Indic scripts, Arabic and Hebrew, which would cut their words.
_MARKS = (
    "\u0300-\u036f\u0591-\u05bd\u0610-\u061a\u064b-\u0670\u0900-\u0963\u0966-\u0dff\u0e31-\u0e4e"
)
_TOKEN = re.compile(
    r"(?P<number>(?>\d+(?:[.,'’٫٬]\d+|[\u00a0\u202f\u2009]\d{3}(?!\d))*))(?P<unit>[^\W\d_]*)"
    rf"|(?P<unspaced>[{_UNSPACED}]+)"
    rf"|(?P<word>[\w{_MARKS}]+)"
)
_UNSPACED_RUN = re.compile(rf"[{_UNSPACED}]+")
_IDEOGRAPH = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
_HIRAGANA = re.compile(r"[\u3040-\u309f]+")
_ALPHABETIC_UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]")
_ARABIC = re.compile(r"[\u0600-\u06ff]")
_ARABIC_ARTICLE = re.compile(r"(?:[وفبك]?ال|لل)(?=..)")
_ARABIC_VOWELS = re.compile(r"[\u0640\u064b-\u065f\u0670]")
# "FY2018" is about 2018.
_YEAR_IN_WORD = re.compile(r"[^\W\d_]{1,3}((?:19|20)\d\d)")
# The 10 of "10-K" and the 19 of "COVID-19" are parts of names, not amounts.
_IN_NAME = re.compile(r"-[A-Z]\b")
_AFTER_NAME = re.compile(r"[^\W\d_]-\Z")
_SCALES = frozenset(["k", "m", "mm", "mn", "b", "bn", "x", "pp", "bps"])
_CURRENCY = frozenset("$€£¥₹")
# Cut words to these lengths: the best on English, German, Arabic and Hindi question sets.
_STEM_LENGTH = 6
_ARABIC_STEM_LENGTH = 4

# Words that say nothing about the subject. Only weights depend on them, so a language that is not
# listed works too, a little less sharply.
_STOP_WORDS_TEXT = """
a about all also an and any are as at be been but by can could did do does for from had has have
how i if in into is it its itself may me more most much many no not of on or our over please shall
should so such tell than that the their them then there these they this those to under up us was we
were what when where which who whom whose why will with would you your s t der die das den dem des
ein eine einer eines einem einen und oder ist sind war waren wird von vom zu zum zur mit im auf für
als auch bei wie wer wo wann warum welche welcher welches le la les un une du de et ou est sont été
dans sur pour par avec que qui quel quelle quels quelles comment où quand pourquoi ce cette ces se
sa son ses au aux en el los las una unos unas del y o es fue fueron por para con qué cuál cuáles
cómo dónde cuándo quién quiénes su sus al lo il gli di della dei delle che chi cosa quale quali
come dove quando perché è sono era nel nella per os um uma da dos na nos nas em com qual quais onde
foi é são ao и в во не на с со что кто где когда как какой какая какие каких сколько почему из за
по от до для это был была были في من ما ماذا على إلى هو هي كان كانت التي الذي الذين هل كم أين متى
كيف لماذا أي أية عن مع هذا هذه ذلك تلك أو أن قد تم بعد قبل بين عند لم لا का के की है हैं में को से
क्या कौन कौनसा कहाँ कहां कब किस किसने कितने कितना कितनी कैसे क्यों और या यह वह ने पर था थी थे एक
लिए इस उस द्वारा जो तो ही भी ne nedir hangi kim kaç nasıl nerede ve ile bir bu için là gì của và
các những được trong có cho với từ
"""
STOP_WORDS = frozenset(_STOP_WORDS_TEXT.split())
_STOP_WEIGHT = 0.1
_BASE_WEIGHT = 1.0


@dataclass(frozen=True, slots=True)
class Term:
    """One term of a text. `is_number` for a number that stands alone (not the 3 of "3M")."""

    key: str
    start: int
    end: int
    is_number: bool


def find_terms(text: str) -> list[Term]:
    """Return the terms of a text in order, offsets in code points. Pairs and threes overlap."""
    return list(_iter_terms(text))


def term_keys(text: str) -> frozenset[str]:
    keys: set[str] = set()
    for match in _TOKEN.finditer(text):
        word = match["word"]
        if word and word.isascii():  # most of most texts, three times as fast without a Term
            keys.add(_word_key(word))
        else:
            keys.update(term.key for term in _token_terms(text, match))
    keys.discard("")
    return frozenset(keys)


def number_keys(text: str) -> frozenset[str]:
    """Return the numbers of a text, so written that 1,577 and (1 577) and $1.577 are one."""
    return frozenset(term.key for term in _iter_terms(text) if term.is_number)


def is_ideographic(text: str) -> bool:
    """Whether most letters are Chinese or Japanese: few terms of one text recur in another."""
    return len(_IDEOGRAPH.findall(text)) * 2 > sum(char.isalpha() for char in text)


def term_weights(keys: Iterable[str], texts: Collection[Collection[str]]) -> dict[str, float]:
    """Return how much each key tells, from how few of `texts` (sets of keys) hold it.

    A key that no text holds counts as the rarest.
    """
    counts: Counter[str] = Counter()
    wanted = frozenset(keys)
    for text in texts:
        counts.update(wanted.intersection(text))
    total = len(texts)
    return {key: _weight(key, counts[key], total) for key in wanted}


def support(weights: Mapping[str, float], keys: Collection[str]) -> float:
    """Return which share (0 to 1) of the weights lies on keys that are present."""
    total = sum(weights.values())
    return sum(weight for key, weight in weights.items() if key in keys) / total if total else 0.0


def best_stretch(
    text: str, start: int, end: int, *, weights: Mapping[str, float], max_length: int
) -> tuple[int, int]:
    """Return the stretch of text[start:end], at most `max_length` long, that holds most weight.

    Begins and ends at a word's edge, at the sentence's beginning if that loses nothing.
    """
    if end - start <= max_length:
        return start, end
    terms = find_terms(text[start:end])
    if not terms:
        return start, start + max_length
    first, last = _heaviest_window(terms, weights, max_length)
    floor = start + terms[last].end
    if terms[last].end <= max_length:
        return start, _last_edge(text, floor, start + max_length)
    # What is left of the length goes to both sides: half of it before the first term that counts.
    slack = max(max_length - (terms[last].end - terms[first].start), 0)
    begin = start + next(t.start for t in terms if t.start >= terms[first].start - slack // 2)
    return begin, _last_edge(text, floor, min(begin + max_length, end))


def _heaviest_window(
    terms: list[Term], weights: Mapping[str, float], max_length: int
) -> tuple[int, int]:
    """Return indexes of the first and last term that count in the heaviest window."""
    best, best_weight = (0, 0), -1.0
    seen: Counter[str] = Counter()
    weight, low = 0.0, 0
    for high, term in enumerate(terms):
        if term.key in weights:
            seen[term.key] += 1
            weight += weights[term.key] if seen[term.key] == 1 else 0.0
        while term.end - terms[low].start > max_length and low < high:
            key = terms[low].key
            if key in weights:
                seen[key] -= 1
                weight -= weights[key] if seen[key] == 0 else 0.0
            low += 1
        if weight > best_weight + 1e-9:
            best, best_weight = (low, high), weight
    first, last = best
    return next((i for i in range(first, last) if terms[i].key in weights), first), last


def _last_edge(text: str, floor: int, stop: int) -> int:
    """Move the end of a cut back to that of a clause or else of a word, not before `floor`."""
    if stop >= len(text):
        return stop
    for marks in (";,:，、；：", " \t\n"):
        edge = max(text.rfind(mark, floor, stop + 1) for mark in marks)
        if edge >= floor:
            return floor + len(text[floor:edge].rstrip())
    return stop


def _weight(key: str, count: int, total: int) -> float:
    if key in STOP_WORDS or (len(key) < 3 and _HIRAGANA.fullmatch(key)):
        return _STOP_WEIGHT
    # The constant: in texts that are all about one subject its words are common and still matter.
    return _BASE_WEIGHT + math.log(1 + (total - count + 0.5) / (count + 0.5))


def _iter_terms(text: str) -> Iterator[Term]:
    for match in _TOKEN.finditer(text):
        yield from _token_terms(text, match)


def _token_terms(text: str, match: re.Match[str]) -> Iterator[Term]:
    start, end = match.span()
    if match.lastgroup in {"number", "unit"}:
        yield _number_term(text, match)
        # Scripts without spaces go on right behind a number: 于1943年在纽约去世.
        if not match["unit"].isascii() and _UNSPACED_RUN.match(match["unit"]):
            yield from _word_terms(match["unit"], *match.span("unit"))
    elif match.lastgroup == "unspaced":
        yield from _grams(match.group(), start)
    else:
        yield from _word_terms(match.group(), start, end)


def _number_term(text: str, match: re.Match[str]) -> Term:
    number, unit = match["number"], match["unit"].casefold()
    start, end = match.span()
    if _IN_NAME.match(text, end) or _AFTER_NAME.search(text, max(start - 2, 0), start):
        return Term(number_key(number) + unit, start, end, is_number=False)
    is_amount = not number.isdecimal() or text[max(start - 1, 0)] in _CURRENCY
    if unit and _UNSPACED_RUN.match(unit):
        return Term(number_key(number), start, match.end("number"), is_number=True)
    if not unit or (is_amount and unit in _SCALES):
        return Term(number_key(number), start, end, is_number=True)
    return Term(number + unit, start, end, is_number=False)


def _word_terms(word: str, start: int, end: int) -> Iterator[Term]:
    if not word.isascii() and _UNSPACED_RUN.search(word):
        for run in _UNSPACED_RUN.finditer(word):
            yield from _grams(run.group(), start + run.start())
        return
    key = _word_key(word)
    if key:
        yield Term(key, start, end, is_number=False)


def _grams(run: str, start: int) -> Iterator[Term]:
    length = min(3 if _ALPHABETIC_UNSPACED.match(run) else 2, len(run))
    for offset in range(len(run) - length + 1):
        at = start + offset
        yield Term(run[offset : offset + length], at, at + length, is_number=False)


@lru_cache(maxsize=20_000)
def _word_key(word: str) -> str:
    """Return the key of a word in a script with spaces; "" for one of underscores only."""
    year = _YEAR_IN_WORD.fullmatch(word)
    return year.group(1) if year else _stem(word)


def _stem(word: str) -> str:
    """Fold a word and cut off what inflects it. Cutting at a length works in most languages."""
    key = word.casefold() if word.isascii() else unicodedata.normalize("NFKC", word).casefold()
    key = key.strip("_")
    if key in STOP_WORDS:
        return key
    if _ARABIC.match(key):
        key = _ARABIC_VOWELS.sub("", key)
        article = _ARABIC_ARTICLE.match(key)
        return key[article.end() if article else 0 :][:_ARABIC_STEM_LENGTH]
    if len(key) > 3 and key.endswith("ies"):
        key = key[:-3] + "y"
    elif len(key) > 3 and key.endswith("s") and key[-2] not in "su":
        key = key[:-1]
    return key[:_STEM_LENGTH]


def number_key(number: str) -> str:
    """Return a number as digits: without separators, signs, leading and trailing zeros."""
    if not number.isascii():
        number = "".join(_plain_digit(char) for char in number)
    elif number.isdecimal():
        return number.lstrip("0") or "0"
    number = number.replace("'", ",")
    if "," in number and "." in number:
        decimal = max(number.rfind(","), number.rfind("."))
        whole = number[:decimal].replace(",", "").replace(".", "")
        return _trimmed(whole, number[decimal + 1 :])
    groups = number.replace(",", ".").split(".")
    if len(groups) == 1:
        return number.lstrip("0") or "0"
    return _key_of_groups(groups)


def _key_of_groups(groups: list[str]) -> str:
    # "1.577" is read as 1577, since it may be either: what matters is that both sides agree.
    is_grouped = len(groups[-1]) == 3 and all(len(group) in {2, 3} for group in groups[1:-1])
    if is_grouped and len(groups[0]) <= 3 and groups[0] != "0":
        return "".join(groups).lstrip("0") or "0"
    if len(groups) == 2:
        return _trimmed(*groups)
    return ".".join(groups)


def _trimmed(whole: str, decimals: str) -> str:
    decimals = decimals.rstrip("0")
    whole = whole.lstrip("0") or "0"
    return f"{whole}.{decimals}" if decimals else whole


def _plain_digit(char: str) -> str:
    if char == "٫":
        return "."
    if char in "٬’\u00a0\u202f\u2009":
        return ","
    return str(unicodedata.decimal(char)) if char.isdecimal() else char

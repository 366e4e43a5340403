"""Whether a quote says what a claim says: the same figures, of the same year and the same thing.

Shared words alone do not tell: "sales did not rise by 5 % in 2018" shares all of them with "sales
rose by 5 % in 2018". The rules are strict, since a wrong figure that passes as checked is worse
than a right one that does not. Lists of words cover the commonest languages; a word that is not in
them only leaves a contradiction unseen.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import islice, pairwise

from app.chat.figures import (
    PERCENT,
    SCALE_KEYS,
    YEAR,
    Figure,
    is_same,
    iter_figures,
    may_be_taken_for,
)
from app.core.lexical import STOP_WORDS, Term, find_terms

_MAX_FIGURES = 40
_MAX_NEGATIONS = 10
# Between the beginnings of two years that are named together: "2017 to 2018".
_SAME_YEARS_LENGTH = 12

_CLAUSE_EDGE = re.compile(
    r"[;:!?…。，；：、！？()]|(?<!\d)[,.]|[,.](?!\d)"
    r"|\b(?:and|while|whereas|but|und|während|aber|et|tandis|mais|y|mientras|pero|e|mentre|ma|и|а|но"
    r")\b",
    re.IGNORECASE,
)
_FROM = re.compile(
    r"(?:\b(?:from|с|against|versus|vs\.?|gegenüber|compared[ ](?:to|with))[ ]|从|由)[$€£¥₹(]*\Z",
    re.IGNORECASE,
)
# But for "von 42 auf 50" it is "of".
_VON = re.compile(r"von[ ]\S+[ ](?:\S+[ ])?auf\b", re.IGNORECASE)
_IN_PARENTHESES = re.compile(r"\([^()]*\)")
_FULL_STOP = re.compile(r"[.!?…](?=\s|\Z)|[。！？]")
# How many terms before and behind a figure tell what it is about, and what they count that stand
# on its other side, or are stop words. Another figure must fit so much better to be the one meant.
_NEAR = 6
_OTHER_SIDE = 0.4
_STOP_WEIGHT = 0.3
_CLEARLY = 1.2
_RESPECTIVELY = re.compile(
    r"\b(?:respectively|jeweils|respectivement|respectivamente|rispettivamente|соответственно)\b|分别",
    re.IGNORECASE,
)

_NEGATION = re.compile(
    r"\b(?:not(?![ ]only\b)|never|neither|nor|cannot|without|no(?![ ]\d|\.)|none|\w+n['’]t"
    r"|nicht(?![ ]nur\b)|kein\w*|nie|niemals|ohne|ne(?=[ ]\w+[ ](?:pas|plus|jamais))|aucun\w*"
    r"|sans|sin|nunca|ningun\w*|não|nem|non|senza|не(?![ ]только\b)|нет|без)\b"
    r"|n['’](?=[^\W\d_])|没有?|未(?!来)|并?不(?!断|仅|但|同|少|久|论)|無|无(?!论|锡)|ない|ません",
    re.IGNORECASE,
)
_DENIED_TERMS = 3
_DENIED_LETTERS = 4
_IDEOGRAPH = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]")
_PAUSE = re.compile(r"[.,;:!?…。，；：！？()](?=\D|\Z)")

_UP = re.compile(
    r"\b(?:increas|rise|rising|rose|grow|grew|higher|gain|climb|improv|stieg|gestiegen|steig|erhöh"
    r"|wuchs|gewachs|zunahm|zugenommen|nahm\b.{1,60}\bzu\b"
    r"|anstieg|augment|hauss|progress|crû|croî|aument|creci|crece|subi|вырос|возрос|рост|увелич|повыс)|增长|增加|上升|提高|上涨|増加|上昇",
    re.IGNORECASE,
)
_DOWN = re.compile(
    r"\b(?:decreas|declin|fell|fall|lower|drop|reduc|shrank|shrink|sank|sink|gesunken|fiel|gefallen"
    r"|verringer|rückg|zurückg|zurück\b|nahm\b.{1,60}\bab\b|abnahm|abgenommen"
    r"|baiss|diminu|recul|rédui|dismin|caye|cayó|bajó|bajar|сниз|упал|уменьш|сократ)|下降|减少|降低|下滑|下跌|減少|低下",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Reading:
    """A claim or a quote, taken apart once."""

    text: str
    terms: tuple[Term, ...]
    figures: tuple[Figure, ...]

    @cached_property
    def years(self) -> list[Figure]:
        return [figure for figure in self.figures if figure.kind == "year"]

    @cached_property
    def amounts(self) -> list[Figure]:
        return [figure for figure in self.figures if figure.kind == "amount"]

    @cached_property
    def keys(self) -> frozenset[str]:
        return frozenset(term.key for term in self.terms)

    @cached_property
    def word_keys(self) -> frozenset[str]:
        """The terms that are no figures."""
        numbers = {term.key for term in self.terms if term.is_number}
        return self.keys - numbers - {figure.key for figure in self.figures}

    @cached_property
    def content(self) -> frozenset[str]:
        """The terms that tell: no numbers, no stop words."""
        return _content(self.terms)

    @cached_property
    def denied(self) -> frozenset[str]:
        """The content terms that a negation denies."""
        return frozenset(_denied_keys(self))

    @cached_property
    def direction(self) -> int:
        """1 where it speaks of growth, -1 of decline, 0 of neither or both, or denies something."""
        return _direction(self.text)

    @cached_property
    def clauses(self) -> list["_Clause"]:
        return _clauses(self)

    def clause_of(self, figure: Figure) -> "_Clause":
        return next((c for c in self.clauses if c.start <= figure.start < c.end), _NO_CLAUSE)

    def neighbors(self, figure: Figure) -> dict[str, int]:
        """Return the terms near a figure with their distance in terms, below 0 before it."""
        if figure.start not in self._neighbors:
            self._neighbors[figure.start] = _neighbors(self, figure)
        return self._neighbors[figure.start]

    @cached_property
    def _neighbors(self) -> dict[int, dict[str, int]]:
        return {}

    @cached_property
    def years_of(self) -> dict[str, frozenset[str]]:
        """The years that each amount belongs to, as far as its place tells."""
        return _years_of_amounts(self)

    @cached_property
    def starting_points(self) -> frozenset[str]:
        """The amounts that something changed from."""
        return frozenset(
            amount.key
            for amount in self.amounts
            if _FROM.search(self.text[max(amount.start - 20, 0) : amount.start])
            or _VON.match(self.text[max(amount.start - 4, 0) : amount.end + 30])
        )

    def written(self, figure: Figure) -> str:
        return self.text[figure.start : figure.end]


@dataclass(frozen=True, slots=True)
class _Clause:
    """A part of a sentence: what it speaks of and its amounts."""

    keys: frozenset[str]
    amounts: frozenset[str]
    direction: int
    start: int
    end: int


_NO_CLAUSE = _Clause(frozenset(), frozenset(), 0, 0, 0)


@lru_cache(maxsize=64)  # a claim is read against one source after the other
def read(text: str) -> Reading:
    """Take a text apart."""
    terms = tuple(find_terms(text))
    return Reading(text, terms, tuple(iter_figures(text, terms)))


def find_missing(claim: Reading, quote: Reading) -> list[Figure]:
    """Return the figures of a claim that do not stand in a quote, in order.

    "$1.2 billion" stands in "1,200 million" and in a cell without a scale, not in "1.2 million".
    """
    return [
        figure
        for figure in claim.figures
        if figure.kind != "word" and not any(is_same(figure, other) for other in quote.figures)
    ]


def contradicts(claim: Reading, quote: Reading) -> bool:
    """Say whether a quote that shares a claim's words and figures says something else.

    So it is where a figure is another year's or another thing's, one denies what the other says,
    one says "rose" and the other "fell", or they count the same thing differently.
    """
    if len(claim.figures) > _MAX_FIGURES or len(quote.figures) > _MAX_FIGURES:
        return True  # no statement, and nothing to spend much time on
    return (
        _is_other_direction(claim, quote)
        or _is_denied(claim, quote)
        or _is_other_count(claim, quote)
        or _is_of_other_year(claim, quote)
        or _is_of_other_thing(claim, quote)
    )


def _direction(text: str) -> int:
    if _NEGATION.search(text):
        return 0
    return bool(_UP.search(text)) - bool(_DOWN.search(text))


def _is_other_direction(claim: Reading, quote: Reading) -> bool:
    if claim.direction * quote.direction < 0:
        return True
    return any(
        part.direction * clause.direction < 0 and part.amounts & clause.amounts
        for part in claim.clauses
        for clause in quote.clauses
    )


def _is_denied(claim: Reading, quote: Reading) -> bool:
    """Whether a word stands denied in the one and only affirmed in the other."""
    if claim.denied & quote.denied:
        return False
    return bool(claim.denied & quote.content or quote.denied & claim.content)


def _denied_keys(reading: Reading) -> set[str]:
    """Return the content terms that follow a negation within its clause, else those before it."""
    denied: set[str] = set()
    for negation in islice(_NEGATION.finditer(reading.text), _MAX_NEGATIONS):
        pause = _PAUSE.search(reading.text, negation.end())
        end = pause.start() if pause else len(reading.text)
        if _IDEOGRAPH.match(negation.group()):
            end = min(end, negation.end() + _DENIED_LETTERS)
        scope = [t for t in reading.terms if t.start >= negation.end() and t.end <= end]
        keys = [term.key for term in scope if _is_content(term)][:_DENIED_TERMS]
        if not keys:
            before = [t for t in reading.terms if t.end <= negation.start()]
            keys = [term.key for term in before if _is_content(term)][-_DENIED_TERMS:]
        denied.update(keys)
    return denied


def _is_other_count(claim: Reading, quote: Reading) -> bool:
    """Whether the claim counts in words what the quote counts otherwise: "four plants", "3"."""
    counted = list(_counted(quote))
    for thing, figure in _counted(claim):
        others = [other for counted_thing, other in counted if counted_thing == thing]
        is_in_words = "word" in (figure.kind, *(other.kind for other in others))
        if others and is_in_words and figure.key not in {other.key for other in others}:
            return True
    return False


def _counted(reading: Reading) -> Iterator[tuple[str, Figure]]:
    by_start = {figure.start: figure for figure in reading.figures if figure.kind != "year"}
    for term, following in pairwise(reading.terms):
        if term.start in by_start and _is_content(following):
            yield following.key, by_start[term.start]


def _is_of_other_year(claim: Reading, quote: Reading) -> bool:
    """Whether an amount is another year's in the quote, or the one before for the one after."""
    before = claim.starting_points & quote.starting_points
    if claim.starting_points and quote.starting_points and not before:
        return True
    if not (claim.years and quote.years):
        return False
    claimed, found = claim.years_of, quote.years_of
    for amount in claim.amounts:
        wanted = claimed.get(amount.key, frozenset())
        known = found.get(amount.key, frozenset())
        if wanted and known and not wanted & known:
            return True
    # "Sales were 42 in 2018" where they rose to 50 from 42 in that year.
    keys = {amount.key for amount in claim.amounts}
    return not _is_paired(quote) and bool(keys & quote.starting_points - claim.starting_points)


def _is_paired(reading: Reading) -> bool:
    return len(_stocks(reading.amounts)) == len(reading.years)


def _stocks(amounts: Sequence[Figure]) -> list[Figure]:
    """Return the amounts without the percentages of their change, if there are others."""
    return [amount for amount in amounts if amount.scale != PERCENT] or list(amounts)


def _years_of_amounts(reading: Reading) -> dict[str, frozenset[str]]:
    """Return the years of each amount: pairs in order where there are as many, else the nearest."""
    asides = [match.span() for match in _IN_PARENTHESES.finditer(reading.text)]
    years: dict[str, frozenset[str]] = {}
    for start, end in [*asides, (0, 0)]:
        if end:
            group = [f for f in reading.figures if start <= f.start < end]
        else:
            group = [f for f in reading.figures if not any(a <= f.start < b for a, b in asides)]
        amounts = _stocks([figure for figure in group if figure.kind == "amount"])
        own = [f for f in group if f.kind == "year"] or reading.years
        for index, amount in enumerate(amounts):
            of = {own[index].key} if len(own) == len(amounts) else _nearest(reading, amount, own)
            years[amount.key] = years.get(amount.key, frozenset()) | of
    return years


def _nearest(reading: Reading, amount: Figure, years: Sequence[Figure]) -> set[str]:
    """Return the year before or behind an amount, by which of the two the text begins with.

    Years next to each other ("from 2017 to 2018") count as one.
    """
    if not years:
        return set()
    before = [year for year in years if year.start < amount.start]
    behind = [year for year in years if year.start > amount.start]
    is_year_first = years[0].start < min(a.start for a in reading.amounts)
    chosen = (before or behind)[-1 if before else 0] if is_year_first else (behind or before)[0]
    if len(reading.amounts) == 1:
        chosen = min(years, key=lambda y: min(abs(y.start - amount.end), abs(amount.start - y.end)))
    return {y.key for y in years if abs(y.start - chosen.start) <= _SAME_YEARS_LENGTH}


def _is_of_other_thing(claim: Reading, quote: Reading) -> bool:
    """Whether what the claim says of a figure, the quote says of another one."""
    if len(quote.figures) < 2:
        return False
    claimed = Counter(amount.key for amount in claim.amounts)
    found = Counter(figure.key for figure in quote.figures)
    if any(count > found[key] > 0 for key, count in claimed.items()):
        return True
    if _RESPECTIVELY.search(quote.text) and not _is_paired(quote):
        return not _is_in_order([a.key for a in claim.amounts], [a.key for a in quote.amounts])
    return any(
        _is_said_of_other(claim, figure, quote)
        for figure in claim.amounts or claim.figures
        if figure.key not in quote.starting_points
    )


def _is_said_of_other(claim: Reading, figure: Figure, quote: Reading) -> bool:
    places = [other for other in quote.figures if is_same(figure, other)]
    if not places:
        return False
    part = claim.clause_of(figure)
    wanted = claim.neighbors(figure)
    fit = max(_fit(wanted, quote.neighbors(place)) for place in places)
    own = [quote.clause_of(place) for place in places]
    claimed, found = claim.years_of.get(figure.key), quote.years_of
    for other in quote.figures:
        if other in places or not may_be_taken_for(figure, other):
            continue
        clause = quote.clause_of(other)
        years = found.get(other.key)
        if claimed and years and not claimed & years:
            continue
        if clause not in own:
            # With all its words in the claim, it takes the rest from a clause before it.
            if any(place.keys <= part.keys for place in own):
                continue
            if len(own) == 1 and _fits_better(part, clause, own[0]):
                return True
        if _fit(wanted, quote.neighbors(other)) > _CLEARLY * fit + 0.1:
            return True
    return False


def _fits_better(part: _Clause, clause: _Clause, own: _Clause) -> bool:
    """Whether part of a claim shares more with another clause than with that of its own figure."""
    shared, others = part.keys & own.keys, part.keys & clause.keys
    if clause.amounts & part.amounts or not others - shared:
        return False
    share, others_share = len(shared) / len(own.keys), len(others) / len(clause.keys)
    return not shared - others or others_share > share


def _fit(wanted: Mapping[str, int], found: Mapping[str, int]) -> float:
    """Return how far two figures stand among the same words, the nearest counting most."""
    total = 0.0
    for key in wanted.keys() & found.keys():
        one, other = wanted[key], found[key]
        weight = _STOP_WEIGHT if key in STOP_WORDS else 1.0
        side = 1.0 if (one < 0) == (other < 0) else _OTHER_SIDE
        total += weight * side / max(abs(one), abs(other))
    return total


def _is_in_order(keys: Sequence[str], among: Sequence[str]) -> bool:
    return len(keys) > 1 and [key for key in among if key in keys] == list(keys)


def _clauses(reading: Reading) -> list[_Clause]:
    """Return the clauses of a text. One without an amount goes to both of its neighbors."""
    edges = [(0, 0), *(match.span() for match in _CLAUSE_EDGE.finditer(reading.text))]
    edges.append((len(reading.text) + 1,) * 2)
    clauses: list[_Clause] = []
    pending: frozenset[str] = frozenset()
    for (_, start), (end, _) in pairwise(edges):
        own = _content(t for t in reading.terms if start <= t.start < end) - SCALE_KEYS
        amounts = frozenset(f.key for f in reading.amounts if start <= f.start < end)
        if amounts:
            direction = _direction(reading.text[start:end])
            clauses.append(_Clause(own | pending, amounts, direction, start, end))
            pending = frozenset()
            continue
        pending |= own
        if clauses:
            clauses[-1] = replace(clauses[-1], keys=clauses[-1].keys | own)
    return clauses


def _neighbors(reading: Reading, figure: Figure) -> dict[str, int]:
    begin, end = 0, len(reading.text)
    for stop in _FULL_STOP.finditer(reading.text):
        if stop.start() < figure.start:
            begin = stop.start()
        else:
            end = stop.start()
            break
    before = [t for t in reading.terms if begin <= t.start < figure.start][-_NEAR:]
    behind = [t for t in reading.terms if figure.end <= t.start < end][:_NEAR]
    near: dict[str, int] = {}
    for place, term in enumerate(reversed(before), start=1):
        near.setdefault(term.key, -place)
    for place, term in enumerate(behind, start=1):
        if place < abs(near.get(term.key, _NEAR + 1)):
            near[term.key] = place
    return {k: v for k, v in near.items() if not k[0].isdigit() and k not in SCALE_KEYS}


def _content(terms: Iterable[Term]) -> frozenset[str]:
    return frozenset(term.key for term in terms if _is_content(term))


def _is_content(term: Term) -> bool:
    return not term.is_number and term.key not in STOP_WORDS and not YEAR.fullmatch(term.key)

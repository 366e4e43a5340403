"""Answers without a language model: the sentences of the sources that fit the question best."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from app.core.lexical import (
    STOP_WORDS,
    best_stretch,
    find_terms,
    is_ideographic,
    support,
    term_keys,
    term_weights,
)
from app.core.markers import MARKER
from app.core.sentences import Sentence, SentenceKind, find_header, is_header, split_sentences
from app.core.tokens import EstimatingTokenizer, Tokenizer, count_tokens
from app.llm.base import (
    NOT_IN_DOCUMENTS,
    ChatOption,
    ChatRequest,
    Finish,
    FinishReason,
    Source,
    TextDelta,
    Usage,
)

MODEL = "extractive"
# It reads sources of any length.
CONTEXT_WINDOW = 1_000_000
NO_LANGUAGE_MODEL = (
    "No language model is connected, so only questions about documents can be answered."
)
MAX_SENTENCES = 4
MAX_SENTENCE_LENGTH = 300

# Which share of the question's weight must be in one sentence, and in its source as a whole.
# Measured on questions with five passages each, the right one among them or not.
MIN_SENTENCE_SUPPORT = 0.15
MIN_SOURCE_SUPPORT = 0.2
# In Chinese and Japanese one other character makes two other terms.
_IDEOGRAPHIC_FACTOR = 0.55
# Of a longer question a smaller share is enough.
_FULL_QUESTION_WORDS = 10
_MIN_SHARED_TERMS = 2
_ASIDE_FACTOR = 0.3
# What a name counts that is in no source: the question is about something else.
_ABSENT_NAME_FACTOR = 6.0
# What a term counts that all titles hold.
_SUBJECT_FACTOR = 0.05
# Above this share of capitalised words they are no sign of a name: German, or a title.
_MAX_SHARE_OF_CAPITALS = 0.15
# What a row gains whose label is what is asked, and loses when its columns are of other years.
_LABEL_BONUS = 1.5
_OTHER_YEARS_FACTOR = 0.6
_MIN_SHARE_OF_BEST = 0.7
_DUPLICATE_OVERLAP = 0.7
_MIN_SENTENCE_TERMS = 4
_MIN_PHRASE_TERMS = 9
_WORDS_PER_DELTA = 4

# Marks that would mean something else in an answer: references of the document's own, fences.
_FOREIGN_MARKS = re.compile(rf"[ ]?(?:{MARKER.pattern})|`+|~{{3,}}")
_DELTA = re.compile(rf"(?:\s*\S{{1,24}}){{1,{_WORDS_PER_DELTA}}}\s*")
_ASKS_FOR_NUMBER = re.compile(
    r"\b(?:how (?:much|many|large|high|old|long|far)|amount|number|quantity|percent\w*|ratio|rate"
    r"|when|what year|which year|combien|wie ?viele?|wann|cuánt[oa]s?|cuándo)\b",
    re.IGNORECASE,
)
_QUESTION_MARKS = ("?", "？", "؟")
_DIGIT = re.compile(r"\d")
_YEAR = re.compile(r"(?:19|20)\d\d")
_POSSESSIVE = re.compile(r"['’]s\b")
_IN_BRACKETS = re.compile(r"\([^()]*\)")
_LETTER = re.compile(r"[^\W\d_]")
_TOKENIZER = EstimatingTokenizer()


@dataclass(frozen=True, slots=True)
class Extract:
    """A verbatim stretch of a source: source.text[start:end]. `header` names a row's columns."""

    source: Source
    start: int
    end: int
    is_row: bool
    header: Sentence | None


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a question asks for. `weights` are those of its terms, absent names included.

    `phrase` are its terms in order, without stop words, names, years and terms of all titles.
    """

    weights: dict[str, float]
    phrase: tuple[str, ...]
    years: frozenset[str]
    wants_number: bool


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A sentence of a source, the `order`-th of them."""

    order: int
    source: Source
    sentence: Sentence
    header: Sentence | None
    keys: frozenset[str]
    context: frozenset[str]  # of the sentence before; of a row, the header above

    @property
    def text(self) -> str:
        return self.source.text[self.sentence.start : self.sentence.end]


class ExtractiveProvider:
    """Quotes the sources instead of writing. Reads `question` and `sources` of the request."""

    name = "extractive"

    def stream(self, request: ChatRequest) -> AsyncIterator[TextDelta | Finish]:
        """Yield a few words at a time, then Finish: LENGTH when `max_tokens` left sentences out.

        Never raises ProviderError.
        """
        return _stream(request)

    def supports(self, _model: str) -> frozenset[ChatOption]:
        """See LLMProvider; quotes are the same at any temperature."""
        return frozenset({ChatOption.TEMPERATURE})

    async def list_models(self) -> list[str]:
        return [MODEL]

    async def context_window(self, _model: str) -> int:
        return CONTEXT_WINDOW

    async def tokenizer(self, _model: str) -> Tokenizer | None:
        return None

    async def aclose(self) -> None:
        """Do nothing: nothing is open."""


def choose_extracts(question: str, sources: Sequence[Source]) -> list[Extract]:
    """Return up to MAX_SENTENCES extracts that fit the question, best first; [] when none does.

    The order of the sources breaks ties.
    """
    candidates = [c for order, source in enumerate(sources) for c in _candidates(order, source)]
    asked = _ask(question, sources, candidates)
    weights = asked.weights
    factor = min(1.0, _FULL_QUESTION_WORDS / (len(question.split()) or 1))
    factor *= _IDEOGRAPHIC_FACTOR if is_ideographic(question) else 1.0
    fitting = _fitting_sources(candidates, weights, MIN_SOURCE_SUPPORT * factor)
    scored = [
        (_score(c, asked, fitting[c.order]), c)
        for c in candidates
        if c.order in fitting and _support(c, weights) >= MIN_SENTENCE_SUPPORT * factor
    ]
    # The sort is stable, so that the order of the sources decides between equals.
    scored.sort(key=lambda entry: entry[0], reverse=True)
    return [_extract(c, weights) for c in _without_repeats(scored)]


async def _stream(request: ChatRequest) -> AsyncIterator[TextDelta | Finish]:
    # Up to some 20 ms of work for a full prompt: too much for the event loop.
    text, finish = await asyncio.to_thread(_answer, request)
    for delta in _DELTA.findall(text):
        yield TextDelta(delta)
    yield finish


def _answer(request: ChatRequest) -> tuple[str, Finish]:
    extracts: list[Extract] = []
    if not request.question and not request.sources:
        fixed = NO_LANGUAGE_MODEL
    else:
        fixed = NOT_IN_DOCUMENTS
        extracts = _choose_by_any_name(request)
    kept: list[Extract] = []
    for extract in extracts:
        if _token_count(_render([*kept, extract])) <= request.max_tokens:
            kept.append(extract)
    text = _render(kept) if extracts else fixed
    if _token_count(text) > request.max_tokens:
        text = ""
    reason = FinishReason.STOP
    if not text or len(kept) < len(extracts):
        reason = FinishReason.LENGTH
    prompt_tokens = sum(_token_count(message.content) for message in request.messages)
    return text, Finish(reason, Usage(prompt_tokens, _token_count(text), True), MODEL)


def _choose_by_any_name(request: ChatRequest) -> list[Extract]:
    """Choose by the question, or else by the first other name of what it asks for that is there.

    All words of the name must stand in an extract; the years that are asked for stay with it.
    """
    extracts = choose_extracts(request.question, request.sources)
    years = sorted(key for key in term_keys(request.question) if _YEAR.fullmatch(key))
    for phrase in request.phrases:
        if extracts:
            break
        name = term_keys(phrase) - STOP_WORDS
        extracts = [
            extract
            for extract in choose_extracts(" ".join([phrase, *years]), request.sources)
            if name <= term_keys(extract.source.text[extract.start : extract.end])
        ]
    return extracts


def _token_count(text: str) -> int:
    return count_tokens(text, _TOKENIZER)


def _ask(question: str, sources: Sequence[Source], candidates: Sequence[_Candidate]) -> _Asked:
    weights = _question_weights(question, candidates)
    names = _names(question)
    titles = [term_keys(source.title.replace("_", " ")) for source in sources]
    # Of the whole texts: a name in a heading is not in any candidate.
    present = frozenset().union(*titles, *(term_keys(source.text) for source in sources))
    for name in names - present:
        weights[name] *= _ABSENT_NAME_FACTOR
    # What all documents are about, a sentence of theirs need not say.
    subjects = frozenset.intersection(*titles) if titles else frozenset()
    for key in subjects & weights.keys() - STOP_WORDS:
        weights[key] *= 1.0 if _YEAR.fullmatch(key) else _SUBJECT_FACTOR
    content = [term.key for term in find_terms(question) if term.key not in STOP_WORDS]
    years = frozenset(key for key in content if _YEAR.fullmatch(key))
    return _Asked(
        weights,
        tuple(key for key in content if key not in names | years | subjects),
        years,
        _ASKS_FOR_NUMBER.search(question) is not None,
    )


def _names(question: str) -> frozenset[str]:
    """Return the terms of a question that name someone or something: Tesla, Apple's, 3M's.

    Acronyms only with an 's: many stand for what the sources write out.
    """
    words = question.split()
    capitals = sum(word[0].isupper() for word in words[1:])
    is_telling = capitals <= _MAX_SHARE_OF_CAPITALS * len(words)
    starts = {sentence.start for sentence in split_sentences(question)}
    names = set()
    for term in find_terms(question):
        word = question[term.start : term.end]
        if term.key in STOP_WORDS or term.key.isdigit() or word.islower():
            continue
        is_capitalised = word[0].isupper() and word[1:].islower() and term.start not in starts
        if _POSSESSIVE.match(question, term.end) or (is_telling and is_capitalised):
            names.add(term.key)
    return frozenset(names)


def _question_weights(question: str, candidates: Sequence[_Candidate]) -> dict[str, float]:
    """Return what each term of the question weighs; less where it is not in what is asked.

    "Assume you are an analyst. What were net sales? If there were none, say so."
    """
    sentences = [question[s.start : s.end] for s in split_sentences(question)]
    asked = term_keys(" ".join(s for s in sentences if s.endswith(_QUESTION_MARKS)))
    weights = term_weights(term_keys(question), [c.keys for c in candidates])
    if not asked:
        return weights
    return {k: w if k in asked else w * _ASIDE_FACTOR for k, w in weights.items()}


def _candidates(order: int, source: Source) -> Iterator[_Candidate]:
    text = source.text
    sentences = split_sentences(text)
    keys = [term_keys(text[s.start : s.end]) for s in sentences]
    for index, sentence in enumerate(sentences):
        content = text[sentence.start : sentence.end]
        is_row = sentence.kind is SentenceKind.ROW
        if not _LETTER.search(content) or (is_row and is_header(content)):
            continue
        if sentence.kind is SentenceKind.LINE and _is_title(content):
            continue
        header = find_header(text, sentences, index) if is_row else None
        above = index - 1 if header is None else sentences.index(header)
        context = keys[above] if index else frozenset()
        yield _Candidate(order, source, sentence, header, keys[index], context)


def _is_title(line: str) -> bool:
    """Whether a line is a heading: it repeats the words of many questions and answers none."""
    words = [word for word in line.split() if len(word) > 3]
    capitals = sum(word[0].isupper() for word in words)
    return capitals > 0.6 * len(words) and not _DIGIT.search(line) and ":" not in line[:-1]


def _fitting_sources(
    candidates: Sequence[_Candidate], weights: Mapping[str, float], min_support: float
) -> dict[int, float]:
    """Return the support of each source that speaks of the question's subject at all.

    One shared word is not enough where the question has more: the capital of France is not in a
    report on capital expenditures.
    """
    content = weights.keys() - STOP_WORDS
    needed = min(_MIN_SHARED_TERMS, len(content))
    keys: dict[int, set[str]] = {}
    for candidate in candidates:
        keys.setdefault(candidate.order, set()).update(candidate.keys, candidate.context)
    return {
        order: support(weights, found)
        for order, found in keys.items()
        if support(weights, found) >= min_support and len(content & found) >= needed
    }


def _support(candidate: _Candidate, weights: Mapping[str, float]) -> float:
    """Return the support of a sentence: for its own words, and less for those of its context."""
    own = support(weights, candidate.keys)
    if not (weights.keys() & candidate.keys) - STOP_WORDS:
        return own
    in_context = support(weights, candidate.keys | candidate.context) - own
    return own + (0.5 if candidate.header else 0.25) * in_context


def _score(candidate: _Candidate, asked: _Asked, source_support: float) -> float:
    """Its own support first, then that of the source as a whole, and the source's place."""
    score = _support(candidate, asked.weights)
    score += 0.2 * source_support + 0.05 / (1 + candidate.order)
    if candidate.sentence.kind is SentenceKind.ROW:
        score *= _row_factor(candidate, asked)
    if asked.wants_number and _DIGIT.search(candidate.text):
        score *= 1.2
    if candidate.sentence.kind is SentenceKind.LINE or len(candidate.keys) < _MIN_SENTENCE_TERMS:
        score *= 0.6 if len(candidate.keys) < _MIN_PHRASE_TERMS else 0.75
    if candidate.text.endswith((*_QUESTION_MARKS, ":")):
        score *= 0.6
    if candidate.text[0].islower():
        score *= 0.8  # the rest of a sentence whose beginning is in another chunk
    return score


def _row_factor(candidate: _Candidate, asked: _Asked) -> float:
    """Return what a row gains where its label is the asked phrase, and not just holds its words.

    Half of that where its columns are unknown and a year is asked.
    """
    fit = _label_fit(candidate, asked.phrase)
    if not asked.years:
        return 1.0 + _LABEL_BONUS * fit
    if candidate.header is None:
        return 1.0 + _LABEL_BONUS * fit / 2
    if asked.years <= candidate.keys | candidate.context:
        return 1.0 + _LABEL_BONUS * fit
    return _OTHER_YEARS_FACTOR


def _label_fit(candidate: _Candidate, phrase: Sequence[str]) -> float:
    """Return how nearly a row's label and the phrase are one: 1 for the same words in order."""
    label: list[str] = []
    for term in find_terms(_IN_BRACKETS.sub(" ", candidate.text)):
        if term.is_number:
            break
        if term.key not in STOP_WORDS:
            label.append(term.key)
    if not label or not phrase:
        return 0.0
    run = _longest_common_run(label, phrase)
    if run < min(_MIN_SHARED_TERMS, len(phrase)):
        return 0.0
    return (run / len(label)) ** 2 * run / len(phrase)


def _longest_common_run(one: Sequence[str], other: Sequence[str]) -> int:
    return SequenceMatcher(None, one, other, autojunk=False).find_longest_match().size


def _without_repeats(ranked: Sequence[tuple[float, _Candidate]]) -> list[_Candidate]:
    """Return the best candidates down to a share of the best one's score, each thing once."""
    chosen: list[_Candidate] = []
    for score, candidate in ranked:
        if score < ranked[0][0] * _MIN_SHARE_OF_BEST or len(chosen) == MAX_SENTENCES:
            break
        if not any(_is_repeat(candidate, other) for other in chosen):
            chosen.append(candidate)
    return chosen


def _is_repeat(candidate: _Candidate, other: _Candidate) -> bool:
    common = len(candidate.keys & other.keys)
    return common > _DUPLICATE_OVERLAP * len(candidate.keys | other.keys)


def _extract(candidate: _Candidate, weights: Mapping[str, float]) -> Extract:
    start, end = best_stretch(
        candidate.source.text,
        candidate.sentence.start,
        candidate.sentence.end,
        weights=weights,
        max_length=MAX_SENTENCE_LENGTH,
    )
    is_row = candidate.sentence.kind is SentenceKind.ROW
    return Extract(candidate.source, start, end, is_row, candidate.header)


def _render(extracts: Sequence[Extract]) -> str:
    """Write extracts with their markers: the best one's source first, each in its own order."""
    places = {e.source.n: place for place, e in reversed(list(enumerate(extracts)))}
    text, after_row = "", False
    headers: set[tuple[int, int]] = set()
    for extract in sorted(extracts, key=lambda e: (places[e.source.n], e.start)):
        lines = [_line(extract.source, extract.start, extract.end)]
        header = extract.header
        if header is not None and (extract.source.n, header.start) not in headers:
            headers.add((extract.source.n, header.start))
            lines.insert(0, _line(extract.source, header.start, header.end))
        separator = "\n" if extract.is_row or after_row else " "
        text += (separator if text else "") + "\n".join(lines)
        after_row = extract.is_row
    return text


def _line(source: Source, start: int, end: int) -> str:
    words = _FOREIGN_MARKS.sub("", source.text[start:end]).split()
    return f"{' '.join(words)} [{source.n}]"

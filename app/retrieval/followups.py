"""The plain way to understand a follow-up: rules that join it with the question before it.

"And the year before?" after "What were 3M's net sales in 2018?" becomes "What were 3M's net sales
in 2017?". A question that stands alone stays as it is: words alone can't tell everything, so where
the rules are in doubt they leave a question alone.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from app.core.lexical import STOP_WORDS, Term, find_terms

MAX_TURNS = 6
MAX_FOLLOW_UP_CHARS = 120
MAX_EARLIER_CHARS = 400
# More words of its own than this, and a question says what it is about.
_MAX_OWN_WORDS = 3
# About as many letters are a word where nothing stands between words.
_UNSPACED_LETTERS_PER_WORD = 3
_MAX_UNSPACED_LETTERS = 12

_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
_UNSPACED_LETTER = re.compile(rf"[{_UNSPACED}]")
_YEAR = re.compile(r"(?<![\d.,])\d{4}(?![.,]?\d)")
_THAI = re.compile(r"[\u0e00-\u0e7f]")
_EDGES = " \t\r\n¿¡?!.,;:？！。，、؟…-"
_QUESTION_MARKS = ("?", "？", "؟", ";")


def _any(*phrases: str) -> str:
    """Return a pattern of whole words, the long ones first; a word may be a pattern itself."""
    joined = "|".join(sorted((p for line in phrases for p in line.split(" | ")), key=len)[::-1])
    return rf"(?<!\w)(?:{joined})(?!\w)"


# What begins a question that goes on from the one before.
_OPENER = re.compile(
    _any(
        "and | or | but | also | and what about | what about | and how about | how about",
        "und | oder | aber | und was ist mit | was ist mit | und wie sieht es (?:mit|bei|in|im)"
        " | wie sieht es (?:mit|bei|in|im) aus",
        "et | ou | mais | et qu['’]en est-il (?:de|pour) | qu['’]en est-il (?:de|pour)",
        "y | e | ma | mas | pero | y qué (?:hay|pasa) (?:de|con) | qué (?:hay|pasa) (?:de|con)",
        "e quanto a[os]? | en hoe zit het (?:met|in) | hoe zit het (?:met|in) | maar",
        "а | и | но | или | а что насч[её]т | что насч[её]т | а как насч[её]т | а как",
        "και | κι | αλλά | και τι γίνεται με | τι γίνεται με",
        "peki | ya | peki ya | ve",
        "còn | và | thế còn | vậy còn",
        "وماذا عن | ماذا عن | وماذا | وكم | وفي | و",
        "और | तो | लेकिन",
        "그럼 | 그러면 | 그리고",
    )
    + r"|那么|那麼|那|还有|還有|而且|另外|では|じゃあ|それでは|そして|また|แล้ว|และ",
    re.IGNORECASE,
)
_CLOSER = re.compile(
    r"(?:呢|吗|嗎|啊|は|か|ล่ะ|ละ|ครับ|คะ|(?<!\w)thì sao|(?<!\w)then|(?<!\w)denn)\Z", re.IGNORECASE
)

# The year before and the year after one that was named; groups `back` and `on`.
_SHIFT = re.compile(
    "(?P<back>"
    + _any(
        "(?:in |for )?the (?:year before|prior year|previous year|preceding year|year prior)"
        "(?: that| to that)?",
        "(?:previous|prior|preceding) (?:fiscal )?year | (?:a|one) year (?:earlier|before|prior)",
        "(?:im |das |dem )?(?:jahr (?:davor|zuvor)|vorjahr(?:es)?)",
        "(?:im |das )?(?:vorherigen|vorige[nrs]?|vorangegangenen) jahr(?:es)? | ein jahr zuvor",
        "(?:en |de )?l['’]an(?:née)? (?:précédente?|d['’]avant|antérieure?) | un an plus tôt",
        "(?:en |d)?(?:el|o|no) a[nñ]o (?:anterior|previo) | (?:un|um) a[nñ]o antes",
        "l['’]anno (?:prima|precedente) | un anno prima",
        "(?:in )?het jaar (?:ervoor|daarvoor) | een jaar eerder",
        r"(?:в )?предыдущ\w+ год\w* | годом (?:ранее|раньше) | год назад | за год до этого",
        r"(?:το |την |τον )?προηγούμεν\w+ (?:έτος|χρονιά|χρόνο)",
        r"(?:bir )?önceki yıl\w* | bir yıl önce(?:si|ki)?\w*",
        "(?:vào )?năm (?:trước đó|trước|liền trước)",
        "(?:في )?(?:السنة السابقة|العام السابق|السنة التي قبلها|العام الذي قبله)",
        "(?:उससे )?(?:पिछले|पहले) (?:साल|वर्ष)(?: में)? | एक साल पहले",
        "(?:전년도?|그 전 해|이전 연도)(?:에는|에|는|은)?",
    )
    + "|前一年|上一年|その前の年|前の年|前年|一年前|ปีก่อนหน้านั้น|ปีก่อนหน้า|ปีก่อน)|(?P<on>"
    + _any(
        "(?:in |for )?the (?:year after|next year|following year|subsequent year)(?: that)?",
        "(?:next|following) (?:fiscal )?year | (?:a|one) year later",
        "(?:im |das )?(?:jahr (?:danach|darauf)|folgejahr(?:es)?|folgenden jahr|nächsten jahr)"
        " | ein jahr später",
        "(?:en |de )?l['’]an(?:née)? (?:suivante?|d['’]après) | un an plus tard",
        "(?:en |d)?(?:el|o|no) a[nñ]o (?:siguiente|seguinte|posterior) | un año después",
        "l['’]anno (?:dopo|seguente|successivo) | un anno dopo",
        "(?:in )?het jaar (?:erna|daarna) | een jaar later",
        r"(?:в )?следующ\w+ год\w* | годом (?:позже|позднее) | год спустя",
        r"(?:το |την |τον )?επόμεν\w+ (?:έτος|χρονιά|χρόνο)",
        r"(?:ertesi|sonraki) yıl\w* | bir yıl sonra\w*",
        "(?:vào )?năm (?:sau đó|sau|tiếp theo|kế tiếp)",
        "(?:في )?(?:السنة التالية|العام التالي|السنة اللاحقة|العام اللاحق)",
        "(?:उसके )?अगले (?:साल|वर्ष)(?: में)?",
        "(?:이듬해|다음 해|그 다음 해)(?:에는|에|는|은)?",
    )
    + "|后一年|後一年|下一年|次年|第二年|その次の年|次の年|翌年|一年後|ปีถัดไป|ปีถัดมา|ปีต่อมา)",
    re.IGNORECASE,
)
# Two years are asked for, not the other one in place of the first.
_COMPARES = re.compile(
    r"\b(?:compar\w*|versus|vs|change\w*|differ\w*|from|than|vergl\w+|verglich\w*|als|gegenüber"
    r"|par rapport|différ\w*|diferen\w*|respecto|rispetto|сравн\w+|чем)\b|相比|比较|比較|より",
    re.IGNORECASE,
)
# Words that stand for something that was named before. Articles and the like are left out, and so
# are those that are part of most questions of their language.
_ANAPHOR = re.compile(
    _any(
        "it | its | they | them | their | theirs | he | him | his | she | her | hers | there",
        "the same | this one | that one | these ones | those ones | the latter | the former",
        r"(?:this|that|these|those)(?=\s*[?.!,]|\s*\Z|\s+(?:is|was|are|were|mean|means|compare)\b)",
        "er | sie | ihn | ihm | ihre[nrms]? | seine[nrms]? | davon | dafür | darüber | dort",
        "il | elle | ils | elles | leurs? | celui-ci | celle-ci | cela | ça",
        "él | ella | ellos | ellas | eso | esto | su | sus",
        "lui | lei | loro | esso | essa | suo | sua | suoi | sue | ciò",
        "ele | ela | eles | elas | seu | seus | suas | dele | dela | deles | delas | isso | isto",
        "hij | zij | hun | ervan | daarvan | daar",
        "он | она | оно | они | его | её | ее | их | ему | ей | им | нём | нем | ней | них | там",
        "αυτός | αυτή | αυτό | αυτοί | αυτές | αυτά",
        "onun | onlar | onların | onu | ona | onlara | bunun | bunu | orada | orası",
        "nó | họ | ông ấy | bà ấy | anh ấy | cô ấy | điều đó | ở đó",
        "उसका | उसकी | उसके | उसने | उसे | उसमें | इसका | इसकी | इसके | इसमें | उनका | उनकी | उनके | उन्होंने",
        "그것\\w* | 그들\\w* | 그녀\\w* | 거기\\w*",
    )
    + "|它们|它|他们|她们|他|她|那里|那裡|それ|その|彼女|彼|そこ|พวกเขา|เขา|เธอ|มัน|ที่นั่น",
    re.IGNORECASE,
)
# Pronouns that stand for nothing.
_EXPLETIVE = re.compile(
    r"\b(?:does it take|did it take|it takes?|is it (?:possible|true|legal|necessary)|(?:is|are|was"
    r"|were) there|there (?:is|are|was|were)|il y a|y a-t-il|est-il (?:possible|vrai)|faut-il)\b",
    re.IGNORECASE,
)
# What comes before it in the same question may be what the pronoun stands for.
_CLAUSE = re.compile(
    r"[,;:，、]|\b(?:and|or|but|when|before|after|while|because|if|since|than|that|which|who|whose|until"
    r"|und|oder|aber|als|bevor|nachdem|weil|wenn|dass|et|ou|quand|parce|qui|que|lorsque|y|o|cuando"
    r"|porque|e|quando|perché|che|и|или|когда|потому|что|который|ve|khi|và)\b|-t-|-(?:il|elle)s?\b",
    re.IGNORECASE,
)


_PREPOSITIONS_TEXT = """
about at by for from in on with without bei für im mit ohne aus avec dans en par pour sans con de
para por sin nel nella per senza com em na no sem voor zonder в для за из на по για με σε στην στη
στο için ile ở cho với في من عن
"""
_PREPOSITIONS = frozenset(_PREPOSITIONS_TEXT.split())


@dataclass(frozen=True, slots=True)
class _Parts:
    """A question taken apart. `rest` is without what opens and closes it; `own` counts its words.

    `step` is -1 for the year before, +1 for the year after.
    """

    rest: str
    has_opener: bool
    shift: re.Match[str] | None
    years: frozenset[int]
    own: int

    @property
    def step(self) -> int:
        return 0 if self.shift is None else (-1 if self.shift["back"] else 1)


def resolve_follow_up(text: str, earlier: Sequence[str]) -> str:
    """Return a question that stands alone; `earlier` are the user's questions before, oldest first.

    A follow-up of a follow-up is resolved with both. Without earlier questions the text stays.
    """
    chain = [text]
    for question in reversed(earlier[-MAX_TURNS:]):
        if not is_follow_up(chain[-1]):
            break
        chain.append(question)
    resolved = chain.pop()
    for question in reversed(chain):
        resolved = _resolve_one(question, resolved[:MAX_EARLIER_CHARS].strip())
    return resolved


def is_follow_up(text: str) -> bool:
    """Whether a question can't be understood without the one before it."""
    if len(text) > MAX_FOLLOW_UP_CHARS or len(_UNSPACED_LETTER.findall(text)) > 2 * (
        _MAX_UNSPACED_LETTERS
    ):
        return False
    parts = _take_apart(text)
    if parts.own > _MAX_OWN_WORDS:
        return False
    if parts.has_opener or (parts.shift and not parts.years):
        return True
    return _has_open_anaphor(text) or _is_elliptic(text, parts)


def _resolve_one(text: str, previous: str) -> str:
    """Join a follow-up with the question before it."""
    if not previous:
        return text
    parts = _take_apart(text)
    known = _years(previous)
    target = _target_year(parts, known)
    is_swap = target is not None and len(known) == 1 and not _COMPARES.search(parts.rest)
    if is_swap:
        previous = _YEAR.sub(str(target), previous)
    rest = parts.rest
    if parts.shift is not None and target is not None:
        rest = f"{rest[: parts.shift.start()]}{target}{rest[parts.shift.end() :]}"
    if not parts.own and target is not None:
        # It names a time and nothing else.
        return previous if is_swap else f"{previous} {target}"
    return f"{previous} {rest}{_question_mark(text)}"


def _take_apart(text: str) -> _Parts:
    rest = text.strip(_EDGES)
    opener = _OPENER.match(rest)
    if opener:
        rest = rest[opener.end() :].strip(_EDGES)
    rest = _CLOSER.sub("", rest).strip(_EDGES)
    shift = _SHIFT.search(rest)
    bare = _SHIFT.sub(" ", rest)
    years = _years(bare)
    bare = _ANAPHOR.sub(" ", _YEAR.sub(" ", bare))
    return _Parts(rest, opener is not None, shift, years, _own_words(bare))


def _own_words(text: str) -> int:
    """Count the words and numbers that say what a text is about."""
    words = {term.key for term in _spaced_terms(text)} - STOP_WORDS
    return len(words) + len(_UNSPACED_LETTER.findall(text)) // _UNSPACED_LETTERS_PER_WORD


def _spaced_terms(text: str) -> list[Term]:
    return [term for term in find_terms(text) if not _UNSPACED_LETTER.match(text, term.start)]


def _has_open_anaphor(text: str) -> bool:
    """Whether a pronoun stands for nothing in the question itself."""
    if _EXPLETIVE.search(text) or len(_UNSPACED_LETTER.findall(text)) > _MAX_UNSPACED_LETTERS:
        return False
    return any(not _stands_for(text, match) for match in _ANAPHOR.finditer(text))


def _stands_for(text: str, anaphor: re.Match[str]) -> bool:
    """Whether what a pronoun stands for may come before it in the same question."""
    before = [t for t in _spaced_terms(text[: anaphor.start()]) if t.key not in STOP_WORDS]
    if not before:
        return False
    is_other_clause = _CLAUSE.search(text, before[0].end, anaphor.end())
    return is_other_clause is not None or any(
        text[term.start].isupper() for term in before if text[: term.start].strip(_EDGES)
    )


def _is_elliptic(text: str, parts: _Parts) -> bool:
    """Whether so little is said that it must be about what was asked before: "For Europe?"."""
    if parts.own == 0:
        return True
    words = [term.key for term in _spaced_terms(parts.rest)]
    if parts.own > 1 or len(words) > 3 or not words:
        return False
    is_bare = len(words) == 1 and text.rstrip().endswith(_QUESTION_MARKS)
    return is_bare or (len(words) > 1 and words[0] in _PREPOSITIONS)


def _target_year(parts: _Parts, known: frozenset[int]) -> int | None:
    """Return the one year that a follow-up asks for; None if it names none or several."""
    if parts.shift is not None and known and not parts.years:
        return (min(known) if parts.step < 0 else max(known)) + parts.step
    return next(iter(parts.years)) if len(parts.years) == 1 else None


def _years(text: str) -> frozenset[int]:
    return frozenset(_iter_years(text))


def _iter_years(text: str) -> Iterator[int]:
    # Thailand counts from the Buddha's time.
    is_thai = _THAI.search(text) is not None
    for match in _YEAR.finditer(text):
        year = int(match.group())
        if 1800 <= year <= 2100 or (is_thai and 2400 <= year <= 2650):
            yield year


def _question_mark(text: str) -> str:
    mark = text.rstrip()[-1:]
    return mark if mark in _QUESTION_MARKS else ""

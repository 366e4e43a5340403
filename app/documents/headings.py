"""A heading as it stands in a document -> a phrase that a question can be about, or none.

Most headings are none: names of forms, lists of exhibits, addresses, half sentences.
"""

import re

from app.core.analysis import is_stop_word, tokenize
from app.core.text import storable

MAX_HEADING_CHARS = 120
EDGES = " \t.,;:–—-_|/\\\"'“”‘’«»"
_WORDS = range(2, 11)

# Controls, and what reorders text or takes no space.
_UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\uffff\U000e0000-\U000e0fff]"
)
_WORD = re.compile(r"[^\W\d_]+(?:[’'-][^\W\d_]+)*")
_NUMBERING = re.compile(
    r"""
    (?: (?: items?|notes?|parts?|chapter|section|article|appendix|annex|exhibit|schedule|step
          | figure|table|kapitel|teil|abschnitt|anhang|chapitre|partie|capítulo|sección|capitolo )
        \s+ (?: \d+(?:\.\d+)*[a-z]? | [ivxlc]+ | [a-z] ) (?![^\W_])
      | \d{1,3}(?:\.\d+)* (?=[\s.:)–—-])
      | \d{1,2}[a-z] (?=[.:)])
      | [ivxlc]+ (?=[.)])
      | \(\w{1,3}\)
      | §\s*\d*
      | [•·▪◦■*\#–—-]
    ) [\s.,:)–—-]*
    """,
    re.IGNORECASE | re.VERBOSE,
)
_TRAILING_NOTE = re.compile(r"\s*[(\[][^()\[\]]*[)\]]?\s*$")
_LIST_OF_TITLES = re.compile(r", (?!and )")
_MARKS = re.compile(r"[()\[\]/|;:“”\"]")
# How a heading begins, in forms, filings and papers, that nobody asks about.
_BOILERPLATE = re.compile(
    r"""
    about\b | all\ rights | annual\ report | cautionary | certifications?\b | commission\ file
    | (?:additional|available|contact|further|general|supplement\w*|webcast|webinar)
      \ (?:data|information|reading)
    | (?:condensed\ )?consolidated\ (?:balance|financial|statements?) | copyright
    | current\ report | directors,\ executive | emerging\ growth | example\ document
    | executive\ officers | exhibits?\b | financial\ (?:information|statements)
    | for\ immediate\ release | form\ \d | future\ work | index\ to | intentionally
    | list\ of\ (?:figures|tables) | mine\ safety | name\ of\ each | not\ applicable
    | note\ to\ investors | notes\ to\b | other\ (?:information|matters) | page\ \d
    | press\ contacts? | quarterly\ (?:financial|report) | references?\b | registrant
    | related\ work | (?:removed\ and\ )?reserved\b | safe\ harbor | see\ accompanying
    | securities\ and\ exchange\ commission | selected\ financial | signatures?\b
    | table\ of\ contents | terms\ of\ use | this\ page | title\ of\ each
    | united\ states,?\ securities | unregistered\ sales | unresolved\ staff
    | .*\b(?:forward-looking|incorporated\ by\ reference)
    """,
    re.VERBOSE,
)


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_SENTENCE_WORDS = _set("""
    is are was were be been am may might will would can could should must shall has have had do does
    did not""")
_SPEAKERS = _set("we our us i my you your")
_BEFORE_NOUNS = _set("""
    and as at but by for from if in into of on or per than that to with without""")
_IMPERATIVES = _set("""
    add build call check choose configure connect create delete deploy download enable disable
    ensure find follow get install keep learn let make move open press put read refer remove run see
    select send set start stop try turn update upgrade upload use verify write""")
# Other short words are mostly halves of one that was torn in two.
_SHORT_WORDS = _set("""
    act ad add age ago aid aim air ale app apt arc arm art ash ask bad bag ban bar bay bed bee
    bet bi bid big bit bog bow box boy bud bug bus buy cab cap car cat cow cry cub cup cut dam
    day den dew die dig dim dog dry due dye ear eat egg ego end era ev eve eye fan far fat fax
    fed fee few fig fit fix fly fog fox fun fur gap gas gem get gin git go god gum gun gut gym
    hat hay hen hip hit hot hub ice icy id ill ink inn io ion ivy jam jar jaw jet job joy key
    kid kin kit lab law lay led leg let lid lie lip log lot low lux map mat max men met mid min
    mix ml mob mod mud mug net new nil nut oak odd oil ok old opt ore own ox pad pan pay pea pen
    pet pie pig pin pit pop pot pr pro pub raw ray red ref rib rid rig rim rod row rug run rye
    sad saw say sea set sex shy sin sip sit six ski sky son spa sub sum sun tab tag tan tap tar
    tax tea ten tie tin tip to toe ton top toy try tub tv two urn use ux van vat vet via vs wan
    war wax way web wet win wit won yen yes zip zoo""")
_ACRONYMS = _set("""
    ai api apis ceo cfo cpu csv ebit ebitda eps esg eu faq faqs gaap gdp gdpr hr http https ifrs ip
    ipo it json kpi kpis llc llm ltd nasa nato oecd pdf qa r&d roi sdk sec sql ui uk un url us usa
    usd vat xml""")


def clean_heading(title: str) -> str:
    """Return a title in one line, without numbering, final notes and shouting; "" if none is left.

    At most MAX_HEADING_CHARS, without characters that are not seen.
    """
    heading = one_line(title[: 2 * MAX_HEADING_CHARS])
    # PART II, Item 7A., (a)
    for _ in range(3):
        heading = _NUMBERING.sub("", heading, count=1) if _NUMBERING.match(heading) else heading
    heading = _TRAILING_NOTE.sub("", heading).strip(EDGES)[:MAX_HEADING_CHARS].strip(EDGES)
    letters = [char for char in heading if char.isalpha()]
    if len(letters) > 4 and sum(map(str.isupper, letters)) > 0.8 * len(letters):
        heading = " ".join(map(_hushed, heading.split()))
    return heading[:1].upper() + heading[1:]


def is_informative(heading: str) -> bool:
    """Say whether a cleaned heading is a phrase about something, of 2 to 10 words."""
    if not _has_words(heading) or _BOILERPLATE.match(heading.lower()) or heading.count(",") > 2:
        return False
    words = [word.lower() for word in words_of(heading)]
    if heading.endswith("?"):
        return True
    if _SENTENCE_WORDS.intersection(words) or words[0] in _BEFORE_NOUNS:
        return False
    if is_stop_word(words[-1], "english"):
        return False
    return words[0] not in _IMPERATIVES or words[1:2] == ["of"]


def rate_fluency(heading: str) -> float:
    """Rate how well a heading reads within a question, up to 1."""
    words = words_of(heading)
    fluency = 1.0 if len(words) < 7 else 0.7
    if any(map(str.isdigit, heading)):
        fluency *= 0.3 if heading[0].isdigit() else 0.5
    if _SPEAKERS.intersection(word.lower() for word in words):
        fluency *= 0.4
    # Two titles that stood one below the other.
    if _LIST_OF_TITLES.search(heading) and ", and " not in heading:
        fluency *= 0.4
    if _MARKS.search(heading):
        fluency *= 0.4
    if any(map(_is_torn, words)):
        fluency *= 0.2
    return fluency


def lower_word(word: str) -> str:
    """Return a word in small letters, but for parts that are no common word: R&D, 4G, non-GAAP."""
    return "-".join(
        part if sum(map(str.isupper, part)) > 1 or any(map(str.isdigit, part)) else part.lower()
        for part in word.split("-")
    )


def one_line(text: str) -> str:
    """Return a text as one line, without characters that are not seen."""
    return " ".join(_UNSEEN.sub(" ", storable(text)).split())


def words_of(text: str) -> list[str]:
    return _WORD.findall(text)


def _has_words(heading: str) -> bool:
    """Say whether there are 2 to 10 of them, and little but letters."""
    # Scripts without spaces: two characters are about a word.
    pairs = sum(len(run) // 2 for kind, run in tokenize(heading) if kind in ("pairs", "threes"))
    is_short = len(words_of(heading)) in _WORDS and len(heading.split()) in _WORDS
    letters = sum(map(str.isalpha, heading))
    return (
        (is_short or pairs in _WORDS)
        and letters >= (4 if pairs else 6)
        and letters >= 0.7 * len(heading.replace(" ", ""))
    )


def _hushed(word: str) -> str:
    """Put a word of a heading in capitals into small letters, part by part: NON-GAAP -> non-GAAP"""
    if any(map(str.isdigit, word)):
        return word
    return "-".join(
        part if part.strip(EDGES + "()[]").lower() in _ACRONYMS else part.lower()
        for part in word.split("-")
    )


def _is_torn(word: str) -> bool:
    if len(word) > 3 or not word.isascii() or (word.isupper() and len(word) > 1):
        return False
    folded = word.lower()
    if len(word) == 1:
        return folded not in "ai"
    is_known = folded in _SHORT_WORDS or folded in _ACRONYMS or is_stop_word(folded, "english")
    return not is_known

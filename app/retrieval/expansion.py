"""A question -> what it is about, and what a report calls that.

People ask for ratios and by abbreviations ("capex", "quick ratio"), reports print line items under
the names of their statements. The names are those of US GAAP's statements (Regulation S-X, 17 CFR
210.5-02 to 5-04), the ratios are split into the lines that they are calculated from.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

_INCOME = "consolidated statements of income; consolidated statements of operations"
_BALANCE = "consolidated balance sheets"
_CASH_FLOWS = "consolidated statements of cash flows"

# What is asked for (a pattern in lower case): the phrases to look for, separated by "; ".
_CONCEPTS: tuple[tuple[str, str], ...] = (
    # Statements
    (r"balance sheets?|financial position", _BALANCE),
    (
        r"income statements?|statements? of (income|earnings|operations)|p ?& ?l|profit and loss",
        _INCOME,
    ),
    (r"cash flows?", _CASH_FLOWS),
    # Lines and their abbreviations
    (
        r"cap(ital)?[- ]?ex(penditures?|penses?)?|capital spend(ing)?",
        f"capital expenditures; purchases of property, plant and equipment; {_CASH_FLOWS}",
    ),
    (
        r"pp ?& ?e|ppn?e|fixed assets?",
        f"property, plant and equipment, net; {_BALANCE}",
    ),
    (r"cogs|cost of goods", f"cost of goods sold; cost of sales; {_INCOME}"),
    (r"sg ?& ?a", f"selling, general and administrative expenses; {_INCOME}"),
    (r"r ?& ?d", f"research and development expenses; {_INCOME}"),
    (r"d ?& ?a", f"depreciation and amortization; {_CASH_FLOWS}"),
    (r"eps", f"earnings per share; diluted; {_INCOME}"),
    (r"top[- ]lines?", "net sales; total revenues"),
    (r"revenues?|net sales", "net sales; revenues"),
    (r"bottom[- ]lines?|net (income|profits?|earnings)", f"net income; net earnings; {_INCOME}"),
    (r"\bar\b(?= (days|turnover|balance))|receivables?", f"accounts receivable, net; {_BALANCE}"),
    (r"\bap\b(?= (days|turnover|balance))|payables?", f"accounts payable; {_BALANCE}"),
    (
        r"debt|leverage|borrowings?|indebtedness",
        "long-term debt; short-term borrowings; total debt",
    ),
    (r"interest (coverage|expenses?)", f"interest expense; operating income; {_INCOME}"),
    (r"goodwill|intangibles?", f"goodwill; intangible assets; {_BALANCE}"),
    (r"dividends?|pay-?out ratio", "dividends declared; dividends paid per share"),
    (r"(share |stock )?(buy-?backs?|repurchases?)", "repurchases of common stock; treasury stock"),
    (
        r"effective tax rates?|income tax(es)?",
        "effective income tax rate; provision for income taxes",
    ),
    (r"restructuring", "restructuring charges; severance"),
    (r"impairments?|write-?(downs?|offs?)", "impairment charges"),
    (r"stock[- ]based comp(ensation)?|sbc", "share-based compensation expense"),
    # Ratios, by the lines that they are made of
    (
        r"quick ratio|acid[- ]test|current ratio|working capital"
        r"|liquidity (position|profile|ratio)",
        "total current assets; total current liabilities; cash and cash equivalents;"
        f" receivables; inventories; {_BALANCE}",
    ),
    (
        r"gross (profit )?margins?|gross profits?",
        f"net sales; cost of sales; cost of products sold; gross profit; {_INCOME}",
    ),
    (
        r"operating (margins?|profits?|income)|ebit",
        f"operating income; net sales; operating expenses; {_INCOME}",
    ),
    (r"(net|profit) (profit )?margins?", f"net income; net sales; {_INCOME}"),
    (
        r"ebitda",
        f"operating income; depreciation and amortization; {_INCOME}; {_CASH_FLOWS}",
    ),
    (
        r"inventory turnover|sold its inventory|days (of )?inventory|inventory days|dio",
        f"inventories; cost of goods sold; {_BALANCE}; {_INCOME}",
    ),
    (
        r"days? (sales|payables?) outstanding|dso|dpo|cash conversion cycle",
        f"accounts receivable; accounts payable; cost of goods sold; {_BALANCE}; {_INCOME}",
    ),
    (
        r"(fixed )?asset turnover",
        f"total assets; property, plant and equipment, net; net sales; {_BALANCE}; {_INCOME}",
    ),
    (
        r"capital[- ]intensi(ve|ty)",
        "capital expenditures; property, plant and equipment, net; total assets; net sales",
    ),
    (r"return on (total )?assets|roa", f"net income; total assets; {_BALANCE}; {_INCOME}"),
    (
        r"return on (shareholders'? |stockholders'? )?equity|roe",
        f"net income; total shareholders equity; {_BALANCE}; {_INCOME}",
    ),
    (
        r"debt[- ]to[- ](equity|capital|assets?)|gearing",
        f"total debt; total shareholders equity; total assets; {_BALANCE}",
    ),
    (
        r"free cash flows?|fcf",
        f"net cash provided by operating activities; capital expenditures; {_CASH_FLOWS}",
    ),
    (
        r"book value|liquidated (all )?(of )?its assets|bankrupt(ed|cy)?",
        "book value per share; tangible book value; common shareholders equity",
    ),
    (r"retention ratio", f"net income; dividends; {_CASH_FLOWS}"),
    # Parts of a report
    (
        r"legal (battles?|issues?|disputes?|matters?|risks?)|lawsuits?|litigations?",
        "legal proceedings; litigation; claims; contingencies",
    ),
    (
        r"m ?& ?a|mergers?|acquisitions?|takeovers?",
        "acquisitions; business combinations; divestitures",
    ),
    (r"head-?count|work-?force|number of employees", "employees; human capital"),
    (r"geograph(y|ies|ical)", "geographic areas; operations"),
    (r"segments?|business lines?|divisions?", "business segments; reportable segments"),
    (r"guidance|outlook|forecast(s|ing|ed)?", "outlook; guidance; expects"),
    (r"cyclical(ity)?|seasonal(ity)?", "cyclical; seasonal; downturns; demand"),
    (r"auditors?|audit opinion", "report of independent registered public accounting firm"),
)
# For text in lower case, and without a look-behind for the word's start: either would keep a search
# from skipping to where a first letter stands, and take three times as long.
_COMPILED = tuple(
    (re.compile(rf"(?:{pattern})(?!\w)"), tuple(phrases.split("; ")))
    for pattern, phrases in _CONCEPTS
)
_IN_WORD = re.compile(r"\w")

_SENTENCE_END = re.compile(r"(?<=[.?!])\s+")
# Sentences that say who asks and how to answer. Before the question: "Assume that you are …".
_SETTING = re.compile(
    r"(?:answer (?:in|using|with)\b|(?:assume|imagine) (?:that )?you\b|you are an?\b)",
    re.IGNORECASE,
)
# Behind it also: "If that is no useful metric, then state that." Before it the same words may be
# what is asked: "Please explain the deductible."
_INSTRUCTION = re.compile(
    rf"(?:{_SETTING.pattern}|please (?:answer|be|explain|give|keep|note|respond|state|then)\b"
    r"|(?:respond|think step)\b|give (?:a |the |your )?(?:answer|response)\b"
    r"|if\b.*\b(?:explain|say|state)\b|(?:be|keep it) (?:brief|concise|short)\b)",
    re.IGNORECASE | re.DOTALL,
)
_LEAD_IN = re.compile(r"answer the following question\b[^:]{0,300}:\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ExpandedQuestion:
    """`core` is the question without its instructions; `phrases` are other names of what it asks
    for, in no order, often none."""

    core: str
    phrases: tuple[str, ...]


# Questions come again, and soon.
@lru_cache(maxsize=1_000)
def expand_question(question: str) -> ExpandedQuestion:
    """Split off the instructions of a question, which may be any text, and add other names."""
    text = question.lower()
    phrases = dict.fromkeys(
        phrase
        for pattern, phrases in _COMPILED
        if _begins_a_word(pattern, text)
        for phrase in phrases
    )
    core = " ".join(_without_instructions(question))
    # What is left without a question mark may be the pleasantries.
    return ExpandedQuestion(core if "?" in core else question, tuple(phrases))


def _begins_a_word(pattern: re.Pattern[str], text: str) -> bool:
    """Say whether the pattern stands anywhere at the beginning of a word."""
    found = pattern.search(text)
    while found and found.start() > 0 and _IN_WORD.match(text, found.start() - 1):
        found = pattern.search(text, found.start() + 1)
    return found is not None


def _without_instructions(question: str) -> Iterator[str]:
    is_asked = False
    for sentence in _SENTENCE_END.split(question):
        if not (_INSTRUCTION if is_asked else _SETTING).match(sentence):
            yield _LEAD_IN.sub("", sentence)
        is_asked = is_asked or sentence.endswith("?")

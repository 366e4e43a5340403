"""Which sentences of an answer no source supports."""

import pytest

from app.chat.quotes import SourceIndex
from app.chat.support import find_unsupported
from app.llm.base import NOT_IN_DOCUMENTS

SOURCES = [
    SourceIndex(
        "R&D in dollars decreased $49 million for full year 2018. Net sales rose 5 percent to "
        "$42 million because of higher prices."
    ),
    SourceIndex("Dividends were paid in June to all shareholders. The board met in Berlin."),
]


def unsupported(answer: str, *, verified_at: list[int] | None = None) -> list[str]:
    spans = find_unsupported(answer, SOURCES, verified_at or [])
    assert spans == sorted(spans)
    return [answer[start:end] for start, end in spans]


def test_sentences_that_no_source_supports_are_found_with_their_markers() -> None:
    answer = (
        "R&D decreased by $49 million in 2018 [1]. Net sales rose by 7 percent. [1] Dividends were "
        "paid in June to shareholders. The company was founded by Napoleon [2]\n"
        "- [2] The board met in Paris in 1990."
    )
    assert unsupported(answer) == [
        "Net sales rose by 7 percent. [1]",
        "The company was founded by Napoleon [2]",
        "[2] The board met in Paris in 1990.",
    ]


def test_a_verified_citation_in_or_behind_a_sentence_supports_it() -> None:
    answer = (
        "Unicorns live in large castles [1]. Dragons eat only green cheese. [2] Elves sing songs."
    )
    assert len(unsupported(answer)) == 3
    verified_at = [answer.index("[1]"), answer.index("[2]")]
    assert unsupported(answer, verified_at=verified_at) == ["Elves sing songs."]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# Unicorns in enchanted castles",
        "**Unicorns in enchanted castles**",
        "Unicorns live in these enchanted castles:",
        "Do unicorns live in enchanted castles?",
        "独角兽住在城堡里吗？",
        "Here you are.",
        "`unicorn castle dragon elf` [1]",
        "```\nunicorn castle dragon elf 99\n```",
        "~~~ text\nunicorn castle dragon elf 99\n```\n~~~",
        "| Unicorns | Castles | Dragons |\n|---|:---:|---|",
        "---",
        NOT_IN_DOCUMENTS,
        f"**{NOT_IN_DOCUMENTS}**",
    ],
)
def test_what_states_nothing_is_not_judged(text: str) -> None:
    assert unsupported(text) == []


def test_prose_around_code_and_tables_is_judged() -> None:
    answer = (
        "| Item | Amount |\n|---|---|\n| Net sales | $42 million |\n| Net profit | $77 million |\n"
        "\n```\nx = 1\n```\nUnicorns live in castles."
    )
    assert unsupported(answer) == ["| Net profit | $77 million |", "Unicorns live in castles."]


@pytest.mark.parametrize(
    ("sentence", "is_supported"),
    [
        ("Der Umsatz stieg wegen der Preise um 5 Prozent auf 42 Millionen.", True),
        ("Der Umsatz stieg wegen der Preise um 5 Prozent auf 43 Millionen.", False),
        ("Die Dividende wurde an alle Aktionäre ausgeschüttet und sie waren zufrieden.", True),
        ("Продажи выросли на 5 процентов, до 42 миллионов.", True),
        ("Продажи выросли на 6 процентов, до 42 миллионов.", False),
        ("Совет директоров собрался на своё заседание.", True),
        ("Компания Apple собрала совет директоров.", False),
        ("Совет собрался в городе Berlin на заседание.", True),
        ("净销售额增长了5%，达到4200万美元。", True),
        ("净销售额增长了9%。", False),
    ],
)
def test_an_answer_in_another_language_is_judged_by_figures_and_names(
    sentence: str, is_supported: bool
) -> None:
    assert (unsupported(sentence) == []) is is_supported


def test_an_answer_in_the_sources_language_is_judged_by_its_words() -> None:
    source = SourceIndex("Der Umsatz stieg im Jahr 2021 um 4,5 Prozent. Die Kosten sanken leicht.")
    answer = "Der Umsatz stieg 2021 um 4,5 Prozent. Das Einhorn wohnt in einem Schloss am See."
    spans = find_unsupported(answer, [source], [])
    assert [answer[a:b] for a, b in spans] == ["Das Einhorn wohnt in einem Schloss am See."]


@pytest.mark.parametrize(
    "line",
    ["--" + "|:" * 2_000 + "x", "--|" + " " * 200_000 + "x", "x" + " " * 200_000 + "x"],
)
def test_no_line_takes_long_to_judge(line: str) -> None:
    unsupported(line)


def test_without_sources_nothing_is_supported() -> None:
    assert find_unsupported("Unicorns live in castles.", [], []) == [(0, 25)]


@pytest.mark.parametrize("claim", ["Acme is bankrupt.", "The CEO resigned.", "Profits collapsed."])
def test_a_short_invention_is_named(claim: str) -> None:
    source = SourceIndex("Acme sold 1,200 cranes in 2021. Its profits rose by a third.")
    assert find_unsupported(claim, [source], ()) == [(0, len(claim))]

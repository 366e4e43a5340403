"""Headed texts -> questions, in the words in which a person would ask them."""

import pytest

from app.documents.questions import DocumentQuestions, HeadedText, short_name

_TEXT = "The company says that risk is a matter of trade and of factors which it can name."


def headed(*paths: str | None, excerpt: str = _TEXT, tokens: int = 200) -> list[HeadedText]:
    return [HeadedText(path, 2, tokens, at / len(paths), excerpt) for at, path in enumerate(paths)]


def ask(texts: list[HeadedText], filename: str = "Annual_Report.pdf") -> list[str]:
    return [q.text for q in DocumentQuestions(filename, None, texts).about_headings()]


@pytest.mark.parametrize(
    ("heading", "question"),
    [
        ("Item 1A. RISK FACTORS", "What are the risk factors in Annual Report?"),
        ("Risk Factors", "What are the risk factors in Annual Report?"),
        ("Matter of Trade", "What does Annual Report say about matter of trade?"),
        # A word that the text does not write in small letters may be a name.
        ("Treaty of Rome", "What does Annual Report say about Treaty of Rome?"),
        ("How it finds the page", "What does Annual Report say about how it finds the page?"),
        ("What is a matter of trade?", "What is a matter of trade?"),
        ("Анализ рисков", "Анализ рисков?"),
    ],
)
def test_a_heading_becomes_a_question(heading: str, question: str) -> None:
    assert ask(headed(heading)) == [question]


def test_a_first_word_with_a_capital_is_a_name_where_the_text_says_so() -> None:
    assert ask(headed("Otter river basin")) == [
        "What does Annual Report say about otter river basin?"
    ]
    named = headed("Otter river basin", excerpt="It flows into the Otter, as all of it does.")
    assert ask(named) == ["What does Annual Report say about Otter river basin?"]


def test_in_other_languages_the_heading_itself_is_the_question() -> None:
    german = headed("1 Topologische Grundbegriffe", excerpt="Das ist ein Satz, der nicht lang ist.")
    questions = DocumentQuestions("Topologie.pdf", None, german)
    assert [q.text for q in questions.about_headings()] == ["Topologische Grundbegriffe?"]


def test_better_headings_come_first_and_each_part_has_one() -> None:
    texts = [
        HeadedText("Chapter 1 > Trade policy", 2, 100, 0.0, _TEXT),
        HeadedText("Chapter 2 > Sea transport", 9, 900, 0.2, _TEXT),
        # Within the one before, though it has more text of its own.
        HeadedText("Chapter 2 > Sea transport > Harbour fees", 9, 800, 0.3, _TEXT),
        HeadedText("Chapter 3 > Rail transport", 15, 500, 0.8, _TEXT),
    ]
    questions = [q.heading for q in DocumentQuestions("a b.pdf", None, texts).about_headings()]
    assert questions == ["Sea transport", "Rail transport", "Trade policy"]


def test_short_sections_and_titles_of_the_whole_are_not_asked_about() -> None:
    texts = [
        HeadedText("Guide to otters > Otter habitats", 3, 300, 0.0, _TEXT),
        HeadedText("Guide to otters > Otter diets", 3, 300, 0.3, _TEXT),
        HeadedText("Guide to otters > Otter songs", 1, 20, 0.9, _TEXT),
        HeadedText(None, 1, 500, 0.95, _TEXT),
    ]
    found = [q.heading for q in DocumentQuestions("x y.pdf", None, texts).about_headings()]
    assert sorted(filter(None, found)) == ["Otter diets", "Otter habitats"]
    # A heading that only repeats the name.
    assert ask(headed("Annual report"), "annual report.pdf") == []


@pytest.mark.parametrize(
    ("filename", "title", "name"),
    [
        ("3M_2018_10K.pdf", None, "3M 2018 10K"),
        ("JOHNSON_JOHNSON_2022Q4_EARNINGS.pdf", None, "Johnson Johnson 2022Q4 Earnings"),
        ("NASA_budget.pdf", None, "NASA budget"),
        ("report.pdf", "Security bar — as of today", "Security bar"),
        ("readme.md", "Footnote: the design", "Footnote: the design"),
        ("x.pdf", "Evil\u202e\x00 title\nwith lines", "Evil title with lines"),
        ("word " * 40 + ".pdf", None, ("word " * 11).strip() + "…"),
        ("報" * 90 + ".pdf", None, "報" * 59 + "…"),
        (".pdf", None, "pdf"),
        ("____", None, "____"),
    ],
)
def test_a_document_has_a_short_name(filename: str, title: str | None, name: str) -> None:
    assert short_name(filename, title) == name


@pytest.mark.parametrize(
    ("filename", "question"),
    [
        ("Annual_Report.pdf", "What is Annual Report about?"),
        ("my notes.txt", "What is “my notes” about?"),
        ("Why? Because! A Tale.txt", "What is “Why? Because! A Tale” about?"),
        ("“Quoted” name.txt", "What is “Quoted” name” about?"),
        (
            "One two three four five six seven.txt",
            "What is “One two three four five six seven” about?",
        ),
    ],
)
def test_names_that_run_into_the_sentence_are_quoted(filename: str, question: str) -> None:
    about = DocumentQuestions(filename, None, headed(None)).about_the_whole()
    assert (about.text, about.heading) == (question, None)

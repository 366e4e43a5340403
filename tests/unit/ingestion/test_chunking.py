"""Passages: exact spans, full cover, limits, and cuts where a reader would make them."""

import re
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.tokens import EstimatingTokenizer, Tokenizer, count_tokens
from app.ingestion.base import Heading, Page
from app.ingestion.chunking import chunk_pages
from app.ingestion.headings import find_markdown_headings, find_plain_headings
from tests.chunk_rules import check_chunks


class WordPieces:
    """Splits like BERT's: pieces of 4 letters in a word, one unknown token for a long word."""

    def token_ends(self, text: str) -> Sequence[int]:
        ends: list[int] = []
        for match in re.finditer(r"\w+|[^\w\s]", text):
            if len(match.group()) > 30:
                ends.append(match.end())
            else:
                ends.extend(range(match.start() + 4, match.end(), 4))
                ends.append(match.end())
        return ends


class Bytes:
    """The other extreme: several tokens end at the same character."""

    def token_ends(self, text: str) -> Sequence[int]:
        return [i for i, c in enumerate(text, 1) for _ in c.encode("utf-8", "surrogatepass")]


TOKENIZERS = [EstimatingTokenizer(), WordPieces(), Bytes()]
ESTIMATE = EstimatingTokenizer()
PIECES = (
    *("word ", "Two words. ", "\n", "\n\n", "# Head\n", "Item 7. Title\n", "x" * 150, "汉字。"),
    *("é", " ", "supercalifragilistic", "1,234 ", "...", "\t", "Ω≈"),
    *("\nTotal sales 1,234 5,678\n", "\nname: Ann. A | town: Rome\n", " | "),
)
texts = st.one_of(st.text(), st.lists(st.sampled_from(PIECES), max_size=80).map("".join))


FINDERS = (find_markdown_headings, find_plain_headings)


@st.composite
def made_up_pages(draw: st.DrawFn) -> list[Page]:
    """Pages of any text, with the headings in it, and often only some of their lines as body."""
    pages = []
    for number, text in enumerate(draw(st.lists(texts, max_size=4)), 1):
        headings = tuple(draw(st.sampled_from(FINDERS))(text))
        edges = [0, *(match.end() for match in re.finditer("\n", text)), len(text)]
        start, end = sorted(draw(st.tuples(*[st.sampled_from(edges)] * 2)))
        is_whole = draw(st.booleans())
        body = (0, None) if is_whole else (start, end)
        pages.append(Page(number, text, headings=headings, body_start=body[0], body_end=body[1]))
    return pages


@given(made_up_pages(), st.sampled_from(TOKENIZERS), st.integers(4, 40), st.integers(0, 20))
def test_any_text_is_covered_by_exact_spans_within_the_limits(
    pages: list[Page], tokenizer: Tokenizer, chunk_tokens: int, overlap: int
) -> None:
    chunks = chunk_pages(
        pages,
        tokenizer=tokenizer,
        max_tokens=chunk_tokens + 2,
        chunk_tokens=chunk_tokens,
        overlap_tokens=min(overlap, chunk_tokens // 2),
    )
    check_chunks(
        list(chunks),
        pages,
        tokenizer=tokenizer,
        max_tokens=chunk_tokens + 2,
        chunk_tokens=chunk_tokens,
    )


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
@pytest.mark.parametrize(
    "text", ["x" * 1_000_000, " " * 1_000_000 + "x", "a " * 300_000, "汉" * 300_000, "!" * 300_000]
)
def test_long_lines_are_cut_in_linear_time(tokenizer: Tokenizer, text: str) -> None:
    pages = [Page(1, text)]
    chunks = list(chunk_pages(pages, tokenizer=tokenizer, max_tokens=216))
    check_chunks(chunks, pages, tokenizer=tokenizer, max_tokens=216)


def test_pages_stream_through() -> None:
    taken = []

    def pages() -> Sequence[Page]:
        return [Page(n, f"Page {n}. " + "Some words here. " * 20) for n in range(1, 100)]

    def counted() -> Iterator[Page]:
        for page in pages():
            taken.append(page.number)
            yield page

    chunks = chunk_pages(counted(), tokenizer=ESTIMATE, max_tokens=216)
    next(chunks)
    assert taken == [1]


def test_a_short_page_is_one_chunk_and_an_empty_one_none() -> None:
    pages = [Page(1, "Short."), Page(2, " \n "), Page(3, "Also short.")]
    chunks = list(chunk_pages(pages, tokenizer=ESTIMATE, max_tokens=216))
    assert [(c.text, c.page_start, c.page_end) for c in chunks] == [
        ("Short.", 1, 1),
        ("Also short.", 3, 3),
    ]


def test_cuts_fall_between_sentences_and_parts_are_even() -> None:
    sentence = "The company sold more paper in the north than in the south. "
    pages = [Page(1, sentence * 40)]
    chunks = list(chunk_pages(pages, tokenizer=ESTIMATE, max_tokens=216, overlap_tokens=0))
    assert all(c.text.startswith("The company") and c.text.endswith("south.") for c in chunks)
    counts = [c.token_count for c in chunks]
    assert min(counts) > 0.6 * max(counts)


def test_neighbors_overlap_by_whole_sentences() -> None:
    text = " ".join(f"Sentence number {n} speaks of paper." for n in range(100))
    first, second, *_ = chunk_pages(
        [Page(1, text)], tokenizer=ESTIMATE, max_tokens=216, overlap_tokens=30
    )
    shared = first.spans[0].end - second.spans[0].start
    assert shared > 0
    assert second.text.startswith("Sentence number")
    assert count_tokens(second.text[:shared], ESTIMATE) <= 30


def with_headings(number: int, text: str) -> Page:
    return Page(number, text, headings=tuple(find_markdown_headings(text)))


def test_a_heading_begins_a_chunk_and_stays_with_its_text() -> None:
    body = "Words about the matter at hand. " * 20
    page = with_headings(1, f"# Guide\n\n{body}\n\n## Setup\n\n{body}\n\n## Use\n\n{body}")
    chunks = list(chunk_pages([page], tokenizer=ESTIMATE, max_tokens=216))
    assert [c.heading for c in chunks] == ["Guide", "Guide > Setup", "Guide > Use"]
    assert [c.text.split("\n")[0] for c in chunks] == ["# Guide", "## Setup", "## Use"]


def test_no_chunk_crosses_even_the_shortest_section() -> None:
    page = with_headings(1, "Intro.\n# A\nOne.\n# B\n## C\nTwo.\n# D")
    chunks = list(chunk_pages([page], tokenizer=ESTIMATE, max_tokens=216))
    assert [(c.text, c.heading) for c in chunks] == [
        ("Intro.", None),
        ("# A\nOne.", "A"),
        ("# B\n## C\nTwo.", "B > C"),
        ("# D", "D"),
    ]


def test_a_heading_holds_on_the_following_pages() -> None:
    pages = [with_headings(1, "# Part\n## Item 7\nText."), Page(2, "More text.")]
    chunks = list(chunk_pages(pages, tokenizer=ESTIMATE, max_tokens=216))
    assert [c.heading for c in chunks] == ["Part > Item 7", "Part > Item 7"]


def test_running_lines_are_in_no_chunk() -> None:
    text = "Annual report\nThe text of the page.\n7"
    body = text.index("The"), text.index("\n7")
    page = Page(1, text, headings=(Heading(0, 13, 1, "x"),), body_start=body[0], body_end=body[1])
    chunks = list(chunk_pages([page], tokenizer=ESTIMATE, max_tokens=216))
    assert [(c.text, c.heading) for c in chunks] == [("The text of the page.", None)]


def test_rows_of_a_table_are_not_cut() -> None:
    rows = [f"Name: Person {n}. Old | Town: Number {n}! New | Sum: {n}" for n in range(100)]
    chunks = list(chunk_pages([Page(1, "\n".join(rows))], tokenizer=ESTIMATE, max_tokens=216))
    assert len(chunks) > 5
    for chunk in chunks:
        assert set(chunk.text.split("\n")) <= set(rows)


def test_a_row_that_only_just_fits_is_one_chunk_and_a_longer_one_is_cut() -> None:
    short, long = "a | " + "word " * 70, "b | " + "word " * 500
    page = Page(1, "\n".join([short, short, long, short]))
    chunks = list(chunk_pages([page], tokenizer=ESTIMATE, max_tokens=80, chunk_tokens=60))
    assert [chunk.text for chunk in chunks[:2]] == [short.strip()] * 2
    assert chunks[-1].text == short.strip()
    assert len(chunks) > 8
    check_chunks(chunks, [page], tokenizer=ESTIMATE, max_tokens=80, chunk_tokens=60)


def test_impossible_sizes_are_refused() -> None:
    for chunk_tokens, overlap_tokens in ((300, 40), (200, 101), (200, -1), (0, 0)):
        chunks = chunk_pages(
            [],
            tokenizer=ESTIMATE,
            max_tokens=216,
            chunk_tokens=chunk_tokens,
            overlap_tokens=overlap_tokens,
        )
        with pytest.raises(ValueError, match="max_tokens"):
            next(chunks)

"""Passages: exact spans, full cover, limits, and cuts where a reader would make them."""

import re
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.tokens import EstimatingTokenizer, Tokenizer, count_tokens
from app.ingestion.base import Chunk, Page
from app.ingestion.chunking import chunk_pages
from app.ingestion.parsers.base import Markup
from app.models.spans import span_text


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
)
texts = st.one_of(st.text(), st.lists(st.sampled_from(PIECES), max_size=80).map("".join))


def check(chunks: list[Chunk], pages: list[Page], tokenizer: Tokenizer, max_tokens: int) -> None:
    by_number = {page.number: page.text for page in pages}
    covered: dict[int, set[int]] = {page.number: set() for page in pages}
    previous = (0, -1)
    for ordinal, chunk in enumerate(chunks):
        assert chunk.ordinal == ordinal
        assert chunk.text == span_text(chunk.spans, by_number)
        assert chunk.text == chunk.text.strip() != ""
        assert chunk.token_count == count_tokens(chunk.text, tokenizer)
        assert chunk.token_count <= max_tokens
        assert (chunk.page_start, chunk.spans[0].start) > previous
        previous = (chunk.page_start, chunk.spans[0].start)
        for span in chunk.spans:
            assert 0 <= span.start < span.end <= len(by_number[span.page])
            covered[span.page].update(range(span.start, span.end))
    for page in pages:
        missed = [
            i for i, c in enumerate(page.text) if not c.isspace() and i not in covered[page.number]
        ]
        assert missed == []


@given(
    st.lists(texts, max_size=4),
    st.sampled_from(TOKENIZERS),
    st.integers(4, 40),
    st.integers(0, 20),
    st.sampled_from(Markup),
)
def test_any_text_is_covered_by_exact_spans_within_the_limit(
    page_texts: list[str], tokenizer: Tokenizer, chunk_tokens: int, overlap: int, markup: Markup
) -> None:
    pages = [Page(number, text) for number, text in enumerate(page_texts, 1)]
    chunks = chunk_pages(
        pages,
        tokenizer=tokenizer,
        max_tokens=chunk_tokens + 2,
        chunk_tokens=chunk_tokens,
        overlap_tokens=min(overlap, chunk_tokens // 2),
        markup=markup,
    )
    check(list(chunks), pages, tokenizer, chunk_tokens + 2)


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
@pytest.mark.parametrize(
    "text", ["x" * 1_000_000, " " * 1_000_000 + "x", "a " * 300_000, "汉" * 300_000, "!" * 300_000]
)
def test_long_lines_are_cut_in_linear_time(tokenizer: Tokenizer, text: str) -> None:
    pages = [Page(1, text)]
    check(list(chunk_pages(pages, tokenizer=tokenizer, max_tokens=216)), pages, tokenizer, 216)


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


def test_a_heading_begins_a_chunk_and_stays_with_its_text() -> None:
    body = "Words about the matter at hand. " * 20
    text = f"# Guide\n\n{body}\n\n## Setup\n\n{body}\n\n## Use\n\n{body}"
    chunks = list(
        chunk_pages([Page(1, text)], tokenizer=ESTIMATE, max_tokens=216, markup=Markup.MARKDOWN)
    )
    assert [c.heading for c in chunks] == ["Guide", "Guide > Setup", "Guide > Use"]
    assert [c.text.split("\n")[0] for c in chunks] == ["# Guide", "## Setup", "## Use"]


def test_a_heading_holds_on_the_following_pages() -> None:
    pages = [Page(1, "PART II\nItem 7. Discussion of results\nText."), Page(2, "More text.")]
    chunks = list(chunk_pages(pages, tokenizer=ESTIMATE, max_tokens=216))
    assert chunks[-1].heading == "PART II > Item 7. Discussion of results"


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

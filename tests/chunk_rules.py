"""What holds for the chunks of every document, checked for made-up texts and for real files."""

from collections.abc import Iterator, Sequence

from app.core.tokens import Tokenizer, count_tokens
from app.ingestion.base import Chunk, Page
from app.ingestion.boundaries import is_row
from app.ingestion.chunking import CHUNK_TOKENS, MAX_CHARACTERS_PER_TOKEN
from app.models.spans import span_text


def check_chunks(
    chunks: Sequence[Chunk],
    pages: Sequence[Page],
    *,
    tokenizer: Tokenizer,
    max_tokens: int,
    chunk_tokens: int = CHUNK_TOKENS,
) -> None:
    """Fail unless the chunks are exact, ordered, complete, within limits, sections and rows."""
    texts = {page.number: page.text for page in pages}
    edges: dict[int, list[tuple[int, int]]] = {page.number: [] for page in pages}
    previous = (0, -1)
    for ordinal, chunk in enumerate(chunks):
        assert chunk.ordinal == ordinal
        assert chunk.text == span_text(chunk.spans, texts)
        assert chunk.text == chunk.text.strip() != ""
        assert chunk.token_count == count_tokens(chunk.text, tokenizer) <= max_tokens
        (span,) = chunk.spans
        assert (span.page, span.start) > previous
        previous = (span.page, span.start)
        edges[span.page].append((span.start, span.end))
    for page in pages:
        spans = edges[page.number]
        check_cover(page, spans)
        for start in iter_section_starts(page):
            assert not any(span[0] < start < span[1] for span in spans), page.text[start:][:50]
        longest = chunk_tokens * MAX_CHARACTERS_PER_TOKEN
        for start, end in iter_rows(page.text):
            fits = count_tokens(page.text[start:end], tokenizer) <= max_tokens
            if fits and end - start <= longest:
                cuts = [cut for span in spans for cut in span if start < cut < end]
                assert cuts == [], page.text[start:end]


def check_cover(page: Page, spans: Sequence[tuple[int, int]]) -> None:
    body_end = len(page.text) if page.body_end is None else page.body_end
    covered = page.body_start
    for start, end in spans:
        assert page.body_start <= start < end <= body_end
        assert page.text[covered:start].strip() == ""
        covered = max(covered, end)
    assert page.text[covered:body_end].strip() == ""


def iter_section_starts(page: Page) -> Iterator[int]:
    """Yield where headings begin, except one that directly follows another."""
    end: int | None = None
    for heading in page.headings:
        if end is None or page.text[end : heading.start].strip():
            yield heading.start
        end = heading.end


def iter_rows(text: str) -> Iterator[tuple[int, int]]:
    position = 0
    for line in text.split("\n"):
        if is_row(line):
            start = position + len(line) - len(line.lstrip())
            yield start, start + len(line.strip())
        position += len(line) + 1

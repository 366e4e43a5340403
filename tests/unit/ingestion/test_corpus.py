"""What holds for chunks, over all PDFs of a set of real ones, where there is such a set.

`FOOTNOTE_EVAL` names its folder (`pdfs/` and `bad_pdfs/` in it); by default it lies beside the
repository.
"""

import os
from pathlib import Path

import pytest

from app.ingestion.base import Page
from app.ingestion.chunking import chunk_pages
from app.ingestion.parsers.base import DocumentUnreadable
from app.ingestion.parsers.pdf import open_pdf
from app.llm.wordpiece import WordPieceTokenizer
from tests.chunk_rules import check_chunks

REPOSITORY = Path(__file__).resolve().parents[3]
FOLDER = Path(os.environ.get("FOOTNOTE_EVAL", REPOSITORY.parent / "shared" / "eval"))
MAX_TOKENS = 216

pytestmark = pytest.mark.skipif(
    not (FOLDER / "pdfs").is_dir(), reason=f"no third-party PDFs in {FOLDER} (FOOTNOTE_EVAL)"
)


def find_pdfs() -> list[Path]:
    return sorted([*FOLDER.glob("pdfs/*.pdf"), *FOLDER.glob("bad_pdfs/*.pdf")])


@pytest.mark.parametrize("path", find_pdfs() or [FOLDER], ids=lambda path: path.name)
def test_chunks_of_a_real_file_are_exact_and_keep_to_sections_and_rows(path: Path) -> None:
    tokenizer = WordPieceTokenizer()
    pages: list[Page] = []
    try:
        with open_pdf(path) as document:
            pages.extend(document.pages())
            assert len(pages) == document.page_count
    except DocumentUnreadable:
        return
    assert [page.number for page in pages] == list(range(1, len(pages) + 1))
    for page in pages:
        for heading in page.headings:
            assert page.text[: heading.start][-1:] in ("", "\n")
            assert page.text[heading.end :][:1] in ("", "\n")
            assert page.text[heading.start : heading.end].strip() != ""
    chunks = list(chunk_pages(pages, tokenizer=tokenizer, max_tokens=MAX_TOKENS))
    check_chunks(chunks, pages, tokenizer=tokenizer, max_tokens=MAX_TOKENS)

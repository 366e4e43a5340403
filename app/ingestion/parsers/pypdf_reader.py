"""The second opinion on a PDF: pypdf reads some that pdfium refuses, slowly."""

import logging
import struct
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pypdf import Configuration, PdfReader, apply_configuration
from pypdf.errors import DependencyError, FileNotDecryptedError, PyPdfError, WrongPasswordError

from app.ingestion.cleaning import clean_title
from app.ingestion.outcomes import IngestErrorCode
from app.ingestion.parsers.base import (
    MAX_CHARACTERS,
    DocumentUnreadable,
    check_page_count,
    has_letters,
    too_large,
)

# A file gets here by being damaged or hostile, so pypdf's own limits are cut to what text needs.
_STREAM_BYTES = 20_000_000
_LIMITS = Configuration(
    maximum_declared_stream_length=_STREAM_BYTES,
    array_based_stream_maximum_output_length=_STREAM_BYTES,
    jbig2_maximum_output_length=_STREAM_BYTES,
    lzw_maximum_output_length=_STREAM_BYTES,
    run_length_maximum_output_length=_STREAM_BYTES,
    zlib_maximum_output_length=_STREAM_BYTES,
    zlib_maximum_recovery_input_length=1_000_000,
    brotli_maximum_output_length=_STREAM_BYTES,
    image_maximum_buffer_size=_STREAM_BYTES,
    stream_decoding_work_maximum_length=4 * _STREAM_BYTES,
    stream_parsing_work_maximum_count=500_000,
    page_tree_maximum_entries=20_000,
    page_tree_maximum_page_entries=20_000,
    xform_maximum_invocations_per_extraction=500,
    jbig2dec_binary=None,
)
# Looked at between pages: one page alone can still take longer.
_BUDGET_S = 30.0
# A document without a word on its first pages is a scan; the rest is not tried.
_PROBE_PAGES = 20
# What pypdf raises on damaged files: its own errors, and those of the Python it trips over.
_FAILURES = (
    PyPdfError,
    DependencyError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    OSError,
    RuntimeError,  # RecursionError and NotImplementedError among them
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)


def read_damaged(path: Path, password: str | None) -> tuple[str | None, list[str | None]]:
    """Read a PDF that pdfium refuses. Returns its title, cleaned, and the raw text of its pages.

    None stands for a page that fails. Raises DocumentUnreadable: corrupt, encrypted or
    wrong_password, too_many_pages, timed_out.
    """
    try:
        with _reader(path, password) as reader:
            check_page_count(len(reader.pages))
            title = clean_title(reader.metadata.title if reader.metadata else None)
            return title, list(_read_texts(reader))
    except FileNotDecryptedError as error:
        code = IngestErrorCode.ENCRYPTED if password is None else IngestErrorCode.WRONG_PASSWORD
        raise DocumentUnreadable(code) from error
    except _FAILURES as error:
        raise DocumentUnreadable(IngestErrorCode.CORRUPT) from error


def read_textless(path: Path, password: str | None) -> list[str | None]:
    """Read a PDF in which pdfium found no text: the raw text of its pages, as far as it got."""
    try:
        with _reader(path, password) as reader:
            return list(_read_texts(reader, probe=True))
    except (*_FAILURES, DocumentUnreadable):
        return []


@contextmanager
def _reader(path: Path, password: str | None) -> Iterator[PdfReader]:
    # Its log lines can quote the document, and it logs much about a damaged one.
    logging.getLogger("pypdf").setLevel(logging.CRITICAL + 1)
    with apply_configuration(_LIMITS), path.open("rb") as file:
        reader = PdfReader(file)
        if password is not None and reader.is_encrypted and not reader.decrypt(password):
            raise WrongPasswordError
        yield reader


def _read_texts(reader: PdfReader, *, probe: bool = False) -> Iterator[str | None]:
    """Yield the pages' texts. With `probe`, stop where no text is in sight."""
    deadline = time.monotonic() + _BUDGET_S
    has_text = False
    characters = 0
    for number, page in enumerate(reader.pages, 1):
        if time.monotonic() > deadline:
            raise DocumentUnreadable(IngestErrorCode.TIMED_OUT)
        if probe and not has_text and number > _PROBE_PAGES:
            return
        try:
            text = page.extract_text()
        except _FAILURES:
            yield None
            continue
        characters += len(text)
        if characters > MAX_CHARACTERS:
            raise too_large()
        has_text = has_text or has_letters(text)
        yield text

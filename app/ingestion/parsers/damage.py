"""What a damaged or hostile file makes a library raise, and what that means for the document."""

import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from app.ingestion.outcomes import IngestErrorCode
from app.ingestion.parsers.base import DocumentUnreadable

# Errors of zlib and zipfile, and those of the Python that libraries trip over. MemoryError is not
# among them: whoever runs the parser knows how much there was.
_FAILURES: tuple[type[Exception], ...] = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,  # RecursionError and NotImplementedError among them
    SyntaxError,  # what lxml and Pillow raise
    TypeError,
    ValueError,
)


@contextmanager
def damage_means_corrupt(*errors: type[Exception]) -> Iterator[None]:
    """Turn what a library raises in this block into DocumentUnreadable (corrupt).

    `errors` are the library's own. Never around a `yield` to the reader of a document: that would
    catch the reader's errors too.
    """
    try:
        yield
    except (*_FAILURES, *errors) as error:
        raise DocumentUnreadable(IngestErrorCode.CORRUPT) from error

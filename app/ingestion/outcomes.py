"""Why a document could not be ingested: the code, whether a retry makes sense, what to do."""

from dataclasses import dataclass
from enum import StrEnum


class IngestErrorCode(StrEnum):
    """Stable and machine-readable; stored with a failed document."""

    ENCRYPTED = "encrypted"
    WRONG_PASSWORD = "wrong_password"  # noqa: S105  # a code, not a password
    CORRUPT = "corrupt"
    NO_TEXT = "no_text"
    TOO_MANY_PAGES = "too_many_pages"
    TOO_LARGE = "too_large"
    UNSUPPORTED_TYPE = "unsupported_type"
    EMBEDDING_UNAVAILABLE = "embedding_unavailable"
    EMBEDDING_UNAUTHORIZED = "embedding_unauthorized"
    EMBEDDING_QUOTA = "embedding_quota"
    EMBEDDING_INVALID = "embedding_invalid"
    BUDGET_EXCEEDED = "budget_exceeded"
    POISON_DOCUMENT = "poison_document"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a failure means to the user.

    `is_retryable` says whether ingesting the same bytes again can go better. `remedy` is one
    sentence that tells the user what to do.
    """

    is_retryable: bool
    remedy: str


OUTCOMES: dict[IngestErrorCode, Outcome] = {
    IngestErrorCode.ENCRYPTED: Outcome(
        False,
        "The document is protected: for a PDF try again and send its password, else upload a copy "
        "without protection.",
    ),
    IngestErrorCode.WRONG_PASSWORD: Outcome(
        False, "The password does not open the document: try again with the right one."
    ),
    IngestErrorCode.CORRUPT: Outcome(
        False, "The file is damaged or incomplete: open it in a viewer, save it anew and upload it."
    ),
    IngestErrorCode.NO_TEXT: Outcome(
        False, "No text could be read in the document: check that it is the right file, and sharp."
    ),
    IngestErrorCode.TOO_MANY_PAGES: Outcome(
        False, "The document has too many pages: split it and upload the parts."
    ),
    IngestErrorCode.TOO_LARGE: Outcome(
        False, "The document holds too much text: split it and upload the parts."
    ),
    IngestErrorCode.UNSUPPORTED_TYPE: Outcome(
        False, "This kind of file can't be read: save it as a PDF and upload that."
    ),
    IngestErrorCode.EMBEDDING_UNAVAILABLE: Outcome(
        True, "The embedding model can't be reached at the moment: try again in a few minutes."
    ),
    IngestErrorCode.EMBEDDING_UNAUTHORIZED: Outcome(
        False, "The embedding model refuses the key: ask the operator to check it, then try again."
    ),
    IngestErrorCode.EMBEDDING_QUOTA: Outcome(
        False, "The quota of the embedding model is spent: ask the operator, then try again."
    ),
    IngestErrorCode.EMBEDDING_INVALID: Outcome(
        False, "The embedding model gave unusable vectors: ask the operator to check its settings."
    ),
    IngestErrorCode.BUDGET_EXCEEDED: Outcome(
        False,
        "The monthly budget is spent: ask an admin of the organization for more, then try again.",
    ),
    IngestErrorCode.POISON_DOCUMENT: Outcome(
        False, "Reading this document failed again and again: save it anew and upload that copy."
    ),
    IngestErrorCode.TIMED_OUT: Outcome(
        True, "Reading the document took too long: try again, or split it and upload the parts."
    ),
    IngestErrorCode.CANCELLED: Outcome(
        True, "Processing was cancelled: start it again when you need the document."
    ),
}


def remedy_of(code: IngestErrorCode) -> str:
    return OUTCOMES[code].remedy

"""Text recognition: the text of a page whose words are only in the picture of it."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import structlog

from app.ingestion.base import Heading
from app.ingestion.outcomes import IngestErrorCode
from app.ingestion.parsers.base import DocumentUnreadable
from app.ingestion.sandbox import Limits, open_with

log = structlog.get_logger(__name__)

TOO_SLOW = "Text recognition took longer than"  # how a warning begins

NO_LANGUAGE = "none"

_READER = "app.ingestion.tesseract:open_scan"
_PROGRAM = "tesseract"
_ORIENTATION_PACK = "osd"
_DATA_VARIABLE = "TESSDATA_PREFIX"
_LIST_TIMEOUT_S = 30


@dataclass(frozen=True, slots=True)
class OcrPage:
    """What was read: cleaned text, with its headings; `warning` says for users what went wrong."""

    text: str
    headings: tuple[Heading, ...] = ()
    warning: str | None = None


@dataclass(frozen=True, slots=True)
class OcrEngine:
    """Tesseract with languages that are installed ("eng+deu"). Use it from any thread.

    `data_folder` is where its packs are, if not where it looks itself. `is_turnable`: it can tell
    which way up a page is.
    """

    languages: str
    page_timeout_s: float = 20.0
    program: str = _PROGRAM
    data_folder: str | None = None
    is_turnable: bool = False

    def read_page(
        self, path: Path, media_type: str, number: int, *, password: str | None = None
    ) -> OcrPage:
        """Recognize page `number` (1-based) of a PDF or a picture. Takes seconds of one core.

        Both rendering and recognition happen in a child process, with what `app.ingestion.child`
        denies it, within `page_timeout_s`. Text without a letter is "". Raises ParserLost when the
        child is killed, and OSError where none can be started.
        """
        arguments = {
            "media_type": media_type,
            "password": password,
            "number": number,
            "program": self.program,
            "languages": self.languages,
            "data_folder": self.data_folder,
            "is_turnable": self.is_turnable,
        }
        limits = Limits(silence_s=self.page_timeout_s)
        try:
            with open_with(
                _READER, path, arguments, limits=limits, may_start_programs=True
            ) as document:
                (page,) = document.pages()
        except DocumentUnreadable as error:
            return OcrPage("", warning=self._explain(error))
        return OcrPage(page.text, page.headings, next(iter(page.warnings), None))

    def _explain(self, error: DocumentUnreadable) -> str:
        if error.error_code is IngestErrorCode.TIMED_OUT:
            return f"{TOO_SLOW} {self.page_timeout_s:g} s."
        return "The page could not be rendered."


def find_ocr_engine(languages: str) -> OcrEngine | None:
    """Return Tesseract with those of the languages ("eng+deu") that it has packs for.

    None if it isn't installed, has none of them, or `languages` is "none". Logs what is missing.
    """
    if languages == NO_LANGUAGE:
        return None
    program = shutil.which(_PROGRAM)
    if program is None:
        log.info("ocr_not_installed")
        return None
    packs = _list_packs(program)
    wanted = [language for language in languages.split("+") if language]
    for language in wanted:
        if language not in packs:
            log.warning("ocr_language_missing", language=language)
    found = [language for language in wanted if language in packs]
    if not found:
        return None
    return OcrEngine(
        languages="+".join(found),
        program=program,
        data_folder=os.environ.get(_DATA_VARIABLE),
        is_turnable=_ORIENTATION_PACK in packs,
    )


def _list_packs(program: str) -> frozenset[str]:
    """Return the languages that Tesseract has packs for; none if it doesn't run."""
    try:
        result = subprocess.run(
            [program, "--list-langs"],
            capture_output=True,
            text=True,
            timeout=_LIST_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        log.warning("ocr_does_not_run", error=type(error).__name__)
        return frozenset()
    # The first line is a heading.
    return frozenset(result.stdout.split("\n")[1:]) - {""}

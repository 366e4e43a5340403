"""Read the picture of a page with Tesseract. Runs in a child process, which starts it."""

import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from PIL import Image, ImageDraw

from app.core.process import die_with_parent
from app.ingestion.base import OCR_FAILED, Page, TextSource
from app.ingestion.cleaning import clean_extracted
from app.ingestion.headings import find_plain_headings
from app.ingestion.ocr_words import Word, add_missed, join_words, mean_confidence, parse_words
from app.ingestion.parsers.base import ParsedDocument
from app.ingestion.rendering import render_page

_ORIENTATION_PACK = "osd"
# What Tesseract is to do: say which way is up; find columns and paragraphs; find all words.
_ORIENTATION = ("--psm", "0")
_LAYOUT = ("--psm", "3", "--oem", "1", "-c", "tessedit_create_tsv=1")
_SPARSE = ("--psm", "11", "--oem", "1", "-c", "tessedit_create_tsv=1")
_TURN = re.compile(r"^Rotate: (90|180|270)\nOrientation confidence: ([\d.]+)$", re.MULTILINE)
_LEAST_TURN_CONFIDENCE = 2.0  # right turns have 5 and more, noise below 1
_SURE = 75.0  # percent, of all words on average; upside down they have some 50
_INK = 128  # darker than this, of 255
# Share of the ink that may lie outside of all words before a page is searched again.
_MISSED_INK = 0.03
_WORD_MARGIN = 6  # pixels


@dataclass(frozen=True, slots=True)
class Tesseract:
    """The program, its languages ("eng+deu"), and where its packs are if not where it looks."""

    program: str
    languages: str
    data_folder: str | None
    is_turnable: bool

    def find_words(self, picture: Image.Image) -> list[Word]:
        """Return the words of a page in reading order. Raises CalledProcessError.

        Doubtful words can mean a page on its side or head: it is turned and read again. The search
        for columns takes columns of figures far from any text for stains: where there is ink
        outside of all words, a second pass looks for words without minding the layout.
        """
        words = parse_words(self._run(picture, self.languages, _LAYOUT), run=1)
        if self.is_turnable and mean_confidence(words) < _SURE:
            upright = self._turn_upright(picture)
            if upright is not picture:
                picture = upright
                words = parse_words(self._run(picture, self.languages, _LAYOUT), run=1)
        if not _has_ink_outside(picture, words):
            return words
        return add_missed(words, parse_words(self._run(picture, self.languages, _SPARSE), run=2))

    def _turn_upright(self, picture: Image.Image) -> Image.Image:
        """Turn a page as its letters demand; the same picture if it's upright or can't be told."""
        try:
            turn = _TURN.search(self._run(picture, _ORIENTATION_PACK, _ORIENTATION))
        except subprocess.CalledProcessError:
            return picture  # too few letters to tell
        if turn is None or float(turn[2]) < _LEAST_TURN_CONFIDENCE:
            return picture
        return picture.rotate(-int(turn[1]), expand=True)

    def _run(self, picture: Image.Image, languages: str, options: Sequence[str]) -> str:
        environment = {"OMP_THREAD_LIMIT": "1"}
        if self.data_folder is not None:
            environment["TESSDATA_PREFIX"] = self.data_folder
        result = subprocess.run(
            [self.program, "stdin", "stdout", "-l", languages, *options],
            input=b"P5 %d %d 255\n" % picture.size + picture.tobytes(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            check=True,
            # Safe between fork and exec: this process has one thread.
            preexec_fn=partial(die_with_parent, parent_pid=os.getpid()),
        )
        return result.stdout.decode("utf-8", errors="replace")


@contextmanager
def open_scan(
    path: Path,
    *,
    media_type: str,
    password: str | None,
    number: int,
    program: str,
    languages: str,
    data_folder: str | None,
    is_turnable: bool,
) -> Iterator[ParsedDocument]:
    """Open page `number` as a document of one page: what Tesseract reads in its picture.

    All the work is done on opening, so that one timeout covers it. Raises DocumentUnreadable for a
    page that can't be rendered.
    """
    picture = render_page(path, media_type, number, password=password)
    tesseract = Tesseract(program, languages, data_folder, is_turnable)
    try:
        text = clean_extracted(join_words(tesseract.find_words(picture)))
        headings = tuple(find_plain_headings(text))
        page = Page(1, text, headings=headings, source=TextSource.OCR)
    except subprocess.CalledProcessError:
        page = Page(1, "", source=TextSource.OCR, warnings=(OCR_FAILED,))
    yield ParsedDocument(title=None, page_count=1, pages=lambda: iter([page]))


def _has_ink_outside(picture: Image.Image, words: Sequence[Word]) -> bool:
    rest = picture.copy()
    pen = ImageDraw.Draw(rest)
    for word in words:
        left, top = word.left - _WORD_MARGIN, word.top - _WORD_MARGIN
        pen.rectangle((left, top, word.right + _WORD_MARGIN, word.bottom + _WORD_MARGIN), "white")
    ink, rest_ink = (sum(image.histogram()[:_INK]) for image in (picture, rest))
    return rest_ink > ink * _MISSED_INK

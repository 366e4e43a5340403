"""Pages as readers see them: their images, and where quotes stand on them.

Both take pdfium to a file that nobody trusts, so a child process does it, which is confined as the
one that reads documents. What it drew is kept with the document's files and goes with them.
"""

import asyncio
import os
import time
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar
from uuid import UUID

import structlog

from app.core.errors import AppError, Conflict, NotFound, Unavailable, UnprocessableRequest
from app.core.storage import BlobStore
from app.documents.inspection import PageFile
from app.ingestion.base import PageImage, QuotePlace, TextSource
from app.ingestion.child import Answer
from app.ingestion.media_types import BMP, GIF, JPEG, PDF, PNG, TIFF, WEBP
from app.ingestion.outcomes import IngestErrorCode
from app.ingestion.parsers.base import DocumentUnreadable
from app.ingestion.sandbox import Limits, ParserLost, SandboxedDocument, start_with

log = structlog.get_logger(__name__)

MIN_WIDTH_PX, MAX_WIDTH_PX = 200, 2000
_WIDTH_STEP_PX = 200

_DRAWER = "app.ingestion.rendering:draw_page"
_FINDER = "app.ingestion.locating:find_quote"
_DRAWN_TYPES = frozenset({PDF, PNG, JPEG, TIFF, WEBP, BMP, GIF})
_LOCATED_SOURCES = frozenset({TextSource.TEXT_LAYER, TextSource.FORM_FIELDS})
PAGE_LIMITS = Limits(cpu_s_per_100_pages=10, silence_s=15.0)
_MAX_LOCATED_CHARACTERS = 500_000

_AT_ONCE = 2
# Under way, with those that are being worked at; one organization alone doesn't fill the places.
_MAX_UNDER_WAY = 12
_MAX_OF_ORGANIZATION = 6
_RETRY_AFTER_S = 2
# Looking through the cache is worth it when it has grown by a twentieth; then some room is made.
_LOOK_AFTER = 0.05
_FILLED = 0.9

A = TypeVar("A", bound=Answer)
R = TypeVar("R")


class FileMissing(NotFound):
    """The file of a version: also when another version got ready just now."""

    code = "file_missing"


@dataclass(frozen=True, slots=True)
class _Key:
    org_id: UUID
    work: Hashable


class PageImages:
    """Draws pages and finds quotes on them, two at once. One a process; belongs to its loop."""

    def __init__(
        self, storage: BlobStore, *, cache_bytes: int, limits: Limits = PAGE_LIMITS
    ) -> None:
        """`cache_bytes` is what all processes together keep on the disk, roughly; 0: nothing."""
        self._storage = storage
        self._limits = limits
        self._cache_bytes = cache_bytes
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="page-images")
        self._under_way: dict[_Key, asyncio.Future[Any]] = {}
        self._children: set[SandboxedDocument] = set()
        self._is_closed = False
        self._growth = Lock()
        # So much that the first image looks through what other processes left.
        self._grown_bytes = cache_bytes

    async def get_image(self, page: PageFile, *, width: int) -> bytes:
        """Return the PNG of a page, from the cache or drawn now. `width` as of `round_width`.

        Narrower where the page is very long, or a picture that has fewer pixels. Raises NotFound
        (no_page_image, file_missing), Conflict (encrypted), UnprocessableRequest
        (page_not_drawable) and Unavailable (busy).
        """
        check_drawable(page)
        cached = await asyncio.to_thread(self._find_cached, page, width)
        if cached is not None:
            return cached
        key = _Key(page.org_id, (page.document_id, page.version, page.number, width))
        try:
            return await self._share(key, partial(self._draw, page, width))
        except DocumentUnreadable as error:
            raise _explain(error) from error

    async def find_rectangles(self, page: PageFile, *, start: int, end: int) -> QuotePlace:
        """Return where a part of the page's text stands on its image. Raises Unavailable (busy).

        Without rectangles where that can't be told: for text that was recognized, words that the
        page itself has in another way, other formats than PDF, files that can't be read any more.
        """
        is_located = page.media_type == PDF and page.source in _LOCATED_SOURCES
        if not is_located or len(page.text) > _MAX_LOCATED_CHARACTERS:
            return QuotePlace()
        key = _Key(page.org_id, (page, start, end))
        try:
            return await self._share(key, partial(self._locate, page, start, end))
        except DocumentUnreadable as error:
            log.info("quote_not_located", reason=str(error.error_code))
            return QuotePlace()

    def close(self) -> None:
        """End what is under way; whoever waits for it gets an error."""
        self._is_closed = True
        self._threads.shutdown(wait=False)
        for child in list(self._children):
            child.kill()

    async def _share(self, key: _Key, work: Callable[[], R]) -> R:
        """Return what the work returns, which goes on without its callers, once for all of them."""
        future: asyncio.Future[R] | None = self._under_way.get(key)
        if future is None:
            self._refuse_when_busy(key.org_id)
            future = asyncio.get_running_loop().run_in_executor(self._threads, work)
            self._under_way[key] = future
            future.add_done_callback(partial(self._land, key))
        try:
            return await asyncio.shield(future)
        except (ParserLost, OSError) as error:
            log.warning("page_child_lost", error=type(error).__name__)
            raise Unavailable("The page could not be read just now: try again.") from error

    def _land(self, key: _Key, future: "asyncio.Future[Any]") -> None:
        del self._under_way[key]
        if not future.cancelled():
            future.exception()  # marks it as seen when nobody waits any more

    def _refuse_when_busy(self, org_id: UUID) -> None:
        of_organization = sum(key.org_id == org_id for key in self._under_way)
        if len(self._under_way) >= _MAX_UNDER_WAY or of_organization >= _MAX_OF_ORGANIZATION:
            raise Unavailable(
                "Too many pages are being drawn: try again in a moment.",
                code="busy",
                retry_after_s=_RETRY_AFTER_S,
            )

    def _draw(self, page: PageFile, width: int) -> bytes:
        # It may have been drawn between the look into the cache and this.
        cached = self._find_cached(page, width)
        if cached is not None:
            return cached
        started = time.monotonic()
        arguments = {"media_type": page.media_type, "number": page.number, "width": width}
        png = self._ask(_DRAWER, PageImage, page, arguments).png
        elapsed_ms = round(1000 * (time.monotonic() - started))
        log.info(
            "page_drawn", document_id=str(page.document_id), width=width, elapsed_ms=elapsed_ms
        )
        self._keep(page, width, png)
        return png

    def _locate(self, page: PageFile, start: int, end: int) -> QuotePlace:
        arguments = {"number": page.number, "text": page.text, "start": start, "end": end}
        return self._ask(_FINDER, QuotePlace, page, arguments)

    def _ask(self, entry: str, kind: type[A], page: PageFile, arguments: dict[str, object]) -> A:
        """Raises FileMissing, DocumentUnreadable, ParserLost, OSError."""
        path = self._storage.path(page.org_id, page.document_id, page.version)
        with start_with(entry, path, arguments, limits=self._limits) as child:
            self._children.add(child)
            try:
                # Also for what was still waiting for its turn.
                if self._is_closed:
                    child.kill()
                return child.answer(kind)
            except DocumentUnreadable:
                if not path.is_file():
                    raise FileMissing("The file of this document is gone.") from None
                raise
            finally:
                self._children.discard(child)

    def _find_cached(self, page: PageFile, width: int) -> bytes | None:
        path = self._cache_path(page, width)
        try:
            png = path.read_bytes()
            # The longest unused goes first.
            os.utime(path)
        except FileNotFoundError:
            return None
        return png

    def _keep(self, page: PageFile, width: int, png: bytes) -> None:
        """Put an image into the cache. A disk that is full costs the cache, not the image."""
        if not self._cache_bytes:
            return
        name = self._cache_path(page, width).name
        try:
            self._storage.put_derived(page.org_id, page.document_id, page.version, name, png)
            with self._growth:
                self._grown_bytes += len(png)
                if self._grown_bytes > _LOOK_AFTER * self._cache_bytes:
                    self._storage.trim_derived(max_bytes=int(_FILLED * self._cache_bytes))
                    self._grown_bytes = 0
        except OSError as error:
            log.warning("page_not_cached", error=type(error).__name__)

    def _cache_path(self, page: PageFile, width: int) -> Path:
        name = f"{page.number}-{width}.png"
        return self._storage.derived_path(page.org_id, page.document_id, page.version, name)


def round_width(width: int) -> int:
    """Return the width, in pixels, that an image is drawn in: few of them, so that most are kept.

    It is the next one that is not narrower.
    """
    return min(-(-width // _WIDTH_STEP_PX) * _WIDTH_STEP_PX, MAX_WIDTH_PX)


def check_drawable(page: PageFile) -> None:
    """Raise NotFound (no_page_image) for a format that has no pages to look at."""
    if page.media_type not in _DRAWN_TYPES:
        raise NotFound(
            "Only the pages of PDFs and pictures have images; of this document there is the text.",
            code="no_page_image",
        )


def _explain(error: DocumentUnreadable) -> AppError:
    if error.error_code is IngestErrorCode.ENCRYPTED:
        return Conflict(
            "The file is encrypted, and its password was not kept: its pages can't be drawn.",
            code="encrypted",
        )
    log.info("page_not_drawn", reason=str(error.error_code))
    reasons = {
        IngestErrorCode.TIMED_OUT: "It takes too long.",
        IngestErrorCode.TOO_LARGE: "It takes too much memory.",
    }
    reason = reasons.get(error.error_code, "The file is damaged.")
    return UnprocessableRequest(f"The page can't be drawn. {reason}", code="page_not_drawable")

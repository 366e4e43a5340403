"""What a watch hears as a stream of frames, which ends with the document or the credential."""

import time
from collections.abc import AsyncGenerator, Awaitable, Callable

import structlog
from sqlalchemy.exc import SQLAlchemyError

from app.core.errors import NotAuthenticated
from app.core.sse import Frame
from app.documents.feed import ProgressFeed, Watch
from app.models.documents import DocumentStatus

log = structlog.get_logger(__name__)

_TERMINAL = frozenset({DocumentStatus.READY, DocumentStatus.FAILED})


class ProgressStream:
    """The frames of one watch; at last `done`, if it watches one document.

    `confirm`, asked every `confirm_s`, raises NotAuthenticated when the reader's credential has
    expired or been revoked. The stream then ends with an `error` and nothing behind it: `done`
    would speak of the document.
    """

    def __init__(
        self,
        feed: ProgressFeed,
        watch: Watch,
        confirm: Callable[[], Awaitable[object]],
        *,
        confirm_s: float,
    ) -> None:
        self._feed = feed
        self._watch = watch
        self._confirm = confirm
        self._confirm_s = confirm_s

    async def frames(self) -> AsyncGenerator[Frame]:
        confirm_at = time.monotonic() + self._confirm_s
        while True:
            news = await self._watch.take(timeout_s=max(0.0, confirm_at - time.monotonic()))
            if news is None:
                return
            if time.monotonic() >= confirm_at:
                refusal = await self._find_refusal()
                if refusal is not None:
                    yield refusal
                    return
                confirm_at = time.monotonic() + self._confirm_s
            for frame in news:
                yield frame
                if self._watch.document_id is not None and (status := _final_status(frame)):
                    yield {"type": "done", "done": True, "status": status}
                    return

    def interrupt(self) -> None:
        """End at once: another process goes on where this one stops."""
        self._watch.close()

    async def aclose(self) -> None:
        self._feed.leave(self._watch)

    async def _find_refusal(self) -> Frame | None:
        try:
            await self._confirm()
        except NotAuthenticated as error:
            return {
                "type": "error",
                "code": error.code,
                "message": error.message,
                "retryable": False,
            }
        except (SQLAlchemyError, OSError) as error:
            # As long as the database is away there is nothing to tell either.
            log.info("stream_not_confirmed", error=type(error).__name__)
        return None


def _final_status(frame: Frame) -> str | None:
    """Return how the document ended, if this frame says so."""
    if frame["type"] == "deleted":
        return "deleted"
    return str(frame["status"]) if frame["status"] in _TERMINAL else None

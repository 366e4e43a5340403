"""What all uploads have in common while their bytes arrive: time, size and the disk."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import structlog

from app.core.errors import PayloadTooLarge, RequestTimeout, StorageFull

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long one request may bring nothing, and how long it may take in all."""

    silence_s: float = 30.0
    total_s: float = 3600.0


USUAL_PATIENCE = Patience()


async def iter_in_time(body: AsyncIterator[bytes], patience: Patience) -> AsyncIterator[bytes]:
    """Yield the pieces of a body. Raises RequestTimeout when one, or all, take too long."""
    ends_at = time.monotonic() + patience.total_s
    pieces = aiter(body)
    while True:
        try:
            async with asyncio.timeout(min(patience.silence_s, ends_at - time.monotonic())):
                piece = await anext(pieces, None)
        except TimeoutError as error:
            raise RequestTimeout("The upload stalled or took too long.") from error
        if piece is None:
            return
        yield piece


@contextmanager
def disk_errors() -> Iterator[None]:
    """Only around the disk: a database that is away raises OSError too."""
    try:
        yield
    except OSError as error:
        log.error("upload_not_stored", error=type(error).__name__)
        raise StorageFull("The file could not be stored on the server.") from error


def too_large(limit_bytes: int) -> PayloadTooLarge:
    return PayloadTooLarge(
        f"The file is larger than {limit_bytes // (1024 * 1024)} MB.",
        code="payload_too_large",
        param="file",
    )

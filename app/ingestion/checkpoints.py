"""What a killed attempt left behind is used again if it was made of the very same things.

A document is read again from its start, and its batches come out the same; those that are
committed are skipped. A running digest over the batches tells whether they are the same: a file
that was replaced, or a newer program that reads it in another way, gives another digest.
"""

import hashlib
import json
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

from app.ingestion.base import Chunk, Page
from app.ingestion.lease import Checkpoint


class CheckpointStale(Exception):
    """What is committed is not what this attempt would have made: discard it and begin anew."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Chunks that are embedded and committed together, and the pages that came with them."""

    pages: Sequence[Page]
    chunks: Sequence[Chunk]


@dataclass(frozen=True, slots=True)
class NumberedBatch:
    """A batch with the checkpoint that is reached once it is committed."""

    batch: Batch
    reached: Checkpoint


async def skip_committed(
    batches: AsyncGenerator[Batch], committed: Checkpoint, *, made_of: Sequence[str]
) -> AsyncGenerator[NumberedBatch]:
    """Yield the batches behind a checkpoint. `made_of` is what else the vectors depend on.

    Raises CheckpointStale, before the first batch is yielded.
    """
    at = Checkpoint(0, _digest(b"", made_of))
    async for batch in batches:
        reached = Checkpoint(at.chunks + len(batch.chunks), _digest(at.digest, _content(batch)))
        if at.chunks < committed.chunks < reached.chunks:
            raise CheckpointStale
        if committed.chunks == reached.chunks > 0 and reached.digest != committed.digest:
            raise CheckpointStale
        if reached.chunks > committed.chunks:
            yield NumberedBatch(batch, reached)
        at = reached
    if at.chunks < committed.chunks:
        raise CheckpointStale


def _content(batch: Batch) -> object:
    return (
        [(p.number, p.text, p.width, p.height, p.source, p.warnings) for p in batch.pages],
        [
            (c.text, c.heading, c.token_count, [(s.page, s.start) for s in c.spans])
            for c in batch.chunks
        ],
    )


def _digest(before: bytes | None, content: object) -> bytes:
    return hashlib.sha256((before or b"") + json.dumps(content).encode()).digest()

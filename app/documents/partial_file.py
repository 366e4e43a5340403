"""A file that arrives in pieces, over several requests: what is there, and who may add to it.

Its size is the offset: it says what has arrived even after the process was killed. A piece with a
checksum waits in a file of its own until it has proved right, so that nothing unproved ever counts.
"""

import asyncio
import fcntl
import hashlib
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from app.core.errors import ChecksumMismatch, Gone, Locked, PayloadTooLarge

_BLOCK_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Checksum:
    """Of one piece. `algorithm` is one that hashlib knows."""

    algorithm: str
    digest: bytes


@dataclass(frozen=True, slots=True)
class PartialFile:
    """The files of one upload, all in `folder`."""

    folder: Path

    @property
    def path(self) -> Path:
        return self.folder / "data"

    def size_bytes(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep everybody else out, in this process and in others; a killed holder lets go.

        Raises Locked at once when somebody else is in, and Gone when the folder has been removed.
        """
        lock = self.folder / "lock"
        try:
            file = lock.open("ab")
        except FileNotFoundError as error:
            raise Gone("What had arrived of this upload has been removed.") from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise Locked("Another request is writing to this upload.") from error
            # The last holder may have removed it in between.
            if not os.fstat(file.fileno()).st_nlink:
                raise Gone("What had arrived of this upload has been removed.")
            yield

    async def append(
        self, pieces: AsyncIterator[bytes], *, limit_bytes: int, checksum: Checksum | None
    ) -> None:
        """Add a request's body, durably. Hold the lock.

        Without a checksum, what came before an error stays. Raises PayloadTooLarge when the file
        would outgrow its limit, and ChecksumMismatch; then nothing is added. Raises OSError.
        """
        if checksum is None:
            await self._append_directly(pieces, limit_bytes)
        else:
            await self._append_checked(pieces, limit_bytes - self.size_bytes(), checksum)

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    async def _append_directly(self, pieces: AsyncIterator[bytes], limit_bytes: int) -> None:
        with self.path.open("ab") as target:
            start = target.tell()
            try:
                async for piece in pieces:
                    if target.tell() + len(piece) > limit_bytes:
                        target.truncate(start)
                        raise _too_long()
                    target.write(piece)
                    # To the system: from there on it survives a kill, and counts.
                    target.flush()
            finally:
                target.flush()
                await asyncio.to_thread(os.fsync, target.fileno())

    async def _append_checked(
        self, pieces: AsyncIterator[bytes], limit_bytes: int, checksum: Checksum
    ) -> None:
        unproved = self.folder / "piece"
        digest = hashlib.new(checksum.algorithm, usedforsecurity=False)
        try:
            with unproved.open("wb") as target:
                async for piece in pieces:
                    if target.tell() + len(piece) > limit_bytes:
                        raise _too_long()
                    digest.update(piece)
                    target.write(piece)
            if digest.digest() != checksum.digest:
                raise ChecksumMismatch("The piece does not have its checksum; send it again.")
            await asyncio.to_thread(_append_file, unproved, self.path)
        finally:
            unproved.unlink(missing_ok=True)


def hash_file(path: Path) -> bytes:
    """Return the SHA-256 of a file. Takes a while: for a thread."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _append_file(source_path: Path, target_path: Path) -> None:
    with source_path.open("rb") as source, target_path.open("ab") as target:
        shutil.copyfileobj(source, target, _BLOCK_BYTES)
        target.flush()
        os.fsync(target.fileno())


def _too_long() -> PayloadTooLarge:
    return PayloadTooLarge("The upload was announced to be shorter.", param="Upload-Length")

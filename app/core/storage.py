"""Blobs on a disk that API and worker share, named by ids and numbers, never by user input."""

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

# Below this share of free space nothing new is taken in, so that Postgres still has room to work.
_FREE_FLOOR = 0.02


@dataclass(frozen=True, slots=True)
class Blob:
    """One version of a document's content on the disk."""

    path: Path
    org_id: UUID
    document_id: UUID
    version: int


class BlobStore:
    """Files below one root folder: `blobs/ORG/DOCUMENT`, and two places for unfinished uploads.

    Later versions of a document are `DOCUMENT.2`, `DOCUMENT.3`, and so on. In `incoming/` is what
    one request brings; in `uploads/UPLOAD/` what arrives in several, over hours.
    """

    def __init__(self, root: Path) -> None:
        self._blobs = root / "blobs"
        self._incoming = root / "incoming"
        self._uploads = root / "uploads"
        for folder in (self._blobs, self._incoming, self._uploads):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def path(self, org_id: UUID, document_id: UUID, version: int = 1) -> Path:
        suffix = "" if version == 1 else f".{version}"
        return self._blobs / str(org_id) / f"{document_id}{suffix}"

    def incoming_path(self, upload_id: UUID) -> Path:
        return self._incoming / str(upload_id)

    def upload_folder(self, upload_id: UUID) -> Path:
        return self._uploads / str(upload_id)

    def iter_stale_upload_folders(self, *, older_than: float) -> Iterator[Path]:
        """Yield the folders of resumable uploads made before `older_than` (Unix seconds)."""
        return (path for path in self._uploads.iterdir() if path.stat().st_mtime < older_than)

    def commit(self, source: Path, org_id: UUID, document_id: UUID, version: int = 1) -> None:
        """Move a finished, already synced file to its blob's place, atomically and durably."""
        target = self.path(org_id, document_id, version)
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # The age of a blob counts from here, for those who look for orphans.
        os.utime(source)
        source.replace(target)
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def iter_versions(self, org_id: UUID, document_id: UUID) -> list[Path]:
        """Return the files of a document that are there, of all its versions."""
        folder = self._blobs / str(org_id)
        first = [path for path in (folder / str(document_id),) if path.is_file()]
        return first + sorted(folder.glob(f"{document_id}.*"))

    def delete(self, org_id: UUID, document_id: UUID, *, before: int | None = None) -> None:
        """Remove the document's files, or those of versions before one. None there is fine."""
        for path in self.iter_versions(org_id, document_id):
            if before is None or int(path.suffix[1:] or 1) < before:
                path.unlink(missing_ok=True)

    def iter_blobs(self, *, older_than: float) -> Iterator[Blob]:
        """Yield the blobs committed before `older_than` (Unix seconds), in no order."""
        for path in self._blobs.glob("*/*"):
            # It may be deleted meanwhile.
            with suppress(FileNotFoundError):
                blob = _blob_at(path)
                if blob is not None and path.stat().st_mtime < older_than:
                    yield blob

    def iter_stale_incoming(self, *, older_than: float) -> list[Path]:
        """Return unfinished uploads not written to since `older_than` (Unix seconds)."""
        return [path for path in self._incoming.iterdir() if path.stat().st_mtime < older_than]

    def has_room_for(self, size_bytes: int) -> bool:
        usage = shutil.disk_usage(self._blobs)
        return usage.free - size_bytes > usage.total * _FREE_FLOOR


def _blob_at(path: Path) -> Blob | None:
    """Return None for a file that is none of ours."""
    document_id, _, version = path.name.partition(".")
    try:
        return Blob(path, UUID(path.parent.name), UUID(document_id), int(version or 1))
    except ValueError:
        return None

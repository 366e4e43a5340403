"""Blobs on a disk that API and worker share, named by their document's id, never by user input."""

import os
import shutil
from pathlib import Path
from uuid import UUID

# Below this share of free space nothing new is taken in, so that Postgres still has room to work.
_FREE_FLOOR = 0.02


class BlobStore:
    """Files below one root folder: `blobs/ORG/DOCUMENT`, and `incoming/` for unfinished uploads."""

    def __init__(self, root: Path) -> None:
        self._blobs = root / "blobs"
        self._incoming = root / "incoming"
        for folder in (self._blobs, self._incoming):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def path(self, org_id: UUID, document_id: UUID) -> Path:
        return self._blobs / str(org_id) / str(document_id)

    def incoming_path(self, upload_id: UUID) -> Path:
        return self._incoming / str(upload_id)

    def commit(self, upload_id: UUID, org_id: UUID, document_id: UUID) -> None:
        """Make a finished, already synced upload a blob, atomically and durably."""
        target = self.path(org_id, document_id)
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.incoming_path(upload_id).replace(target)
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def discard(self, upload_id: UUID) -> None:
        self.incoming_path(upload_id).unlink(missing_ok=True)

    def delete(self, org_id: UUID, document_id: UUID) -> None:
        """Remove a blob; a blob that is not there is fine."""
        self.path(org_id, document_id).unlink(missing_ok=True)

    def iter_stale_incoming(self, *, older_than: float) -> list[Path]:
        """Return unfinished uploads not written to since `older_than` (Unix seconds)."""
        return [path for path in self._incoming.iterdir() if path.stat().st_mtime < older_than]

    def has_room_for(self, size_bytes: int) -> bool:
        usage = shutil.disk_usage(self._blobs)
        return usage.free - size_bytes > usage.total * _FREE_FLOOR

"""Blobs on a disk that API and worker share, named by ids and numbers, never by user input."""

import errno
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid4

# Below this share of free space nothing new is taken in, so that Postgres still has room to work.
_FREE_FLOOR = 0.02
_DERIVED_DEPTH = 3  # organization, document, version


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
    one request brings; in `uploads/UPLOAD/` what arrives in several, over hours. In
    `derived/ORG/DOCUMENT/VERSION/` is what was made of a blob and can be made again: it goes with
    the blob, and is none of the document's files.
    """

    def __init__(self, root: Path) -> None:
        self._blobs = root / "blobs"
        self._incoming = root / "incoming"
        self._uploads = root / "uploads"
        self._derived = root / "derived"
        for folder in (self._blobs, self._incoming, self._uploads, self._derived):
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
        """Remove the document's files, or those of versions before one. None there is fine.

        What was made of them goes after them: `put_derived` looks for the blob last.
        """
        for path in self.iter_versions(org_id, document_id):
            if before is None or int(path.suffix[1:] or 1) < before:
                path.unlink(missing_ok=True)
        document = self._derived / str(org_id) / str(document_id)
        if before is None:
            _remove_folders([document])
        else:
            _remove_folders(document / str(version) for version in range(1, before))

    def measure_organization(self, org_id: UUID) -> tuple[int, int]:
        """Return how many files there are of an organization's documents, and their bytes."""
        files = list((self._blobs / str(org_id)).glob("*"))
        return len(files), sum(stat.st_size for file in files if (stat := _find_stat(file)))

    def delete_organization(self, org_id: UUID) -> None:
        """Remove an organization's files, and what was made of them. None there is fine.

        Raises OSError for what can't be removed.
        """
        _remove_folders([self._blobs / str(org_id), self._derived / str(org_id)])

    def has_organization(self, org_id: UUID) -> bool:
        """Say whether anything on the disk is an organization's."""
        return any((root / str(org_id)).exists() for root in (self._blobs, self._derived))

    def delete_upload(self, upload_id: UUID) -> None:
        """Remove what has arrived of a resumable upload. Raises OSError as above."""
        _remove_folders([self.upload_folder(upload_id)])

    def derived_path(self, org_id: UUID, document_id: UUID, version: int, name: str) -> Path:
        """Return where something made of a version lies, if it is there."""
        return self._derived / str(org_id) / str(document_id) / str(version) / name

    def put_derived(
        self, org_id: UUID, document_id: UUID, version: int, name: str, data: bytes
    ) -> bool:
        """Keep something made of a version. False if its blob is gone, or there is no room."""
        target = self.derived_path(org_id, document_id, version, name)
        if not self.has_room_for(len(data)):
            return False
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        part = target.with_name(f".{uuid4()}")
        try:
            part.write_bytes(data)
            part.replace(target)
        except FileNotFoundError:
            return False  # the document is being deleted
        # A deletion removes the blob first: either it finds this file, or we find no blob.
        if self.path(org_id, document_id, version).is_file():
            return True
        _remove_folders([target.parent])
        return False

    def remove_stray_derived(self) -> int:
        """Remove what was made of blobs that are gone. Returns of how many versions."""
        stray = [
            folder
            for folder, _ in self._iter_derived()
            if (blob := self._blob_of(folder)) is None or not blob.is_file()
        ]
        _remove_folders(stray)
        return len(stray)

    def trim_derived(self, *, max_bytes: int) -> int:
        """Remove the longest unused files that were made of blobs. Returns the bytes that stay."""
        files = [
            (stat.st_mtime, stat.st_size, folder / name)
            for folder, names in self._iter_derived()
            for name in names
            if (stat := _find_stat(folder / name)) is not None
        ]
        total = sum(size for _, size, _ in files)
        for _, size, path in sorted(files):
            if total <= max_bytes:
                break
            path.unlink(missing_ok=True)
            total -= size
        return total

    def _iter_derived(self) -> Iterator[tuple[Path, list[str]]]:
        """Yield the folders of versions with their files' names. Unlike glob, while others go."""
        for folder, _, names in os.walk(self._derived):
            path = Path(folder)
            if len(path.relative_to(self._derived).parts) == _DERIVED_DEPTH:
                yield path, names

    def _blob_of(self, folder: Path) -> Path | None:
        """Return the place of the blob that a folder's files were made of; None if not ours."""
        org_id, document_id, version = folder.relative_to(self._derived).parts
        try:
            return self.path(UUID(org_id), UUID(document_id), int(version))
        except ValueError:
            return None

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


def _remove_folders(folders: Iterable[Path]) -> None:
    """Raises OSError for one that can't be removed, also when something comes into it meanwhile."""
    for folder in folders:
        # What others remove at the same time is no error.
        shutil.rmtree(folder, ignore_errors=True)
        if folder.exists():
            raise OSError(errno.ENOTEMPTY, "not removed", str(folder))


def _find_stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _blob_at(path: Path) -> Blob | None:
    """Return None for a file that is none of ours."""
    document_id, _, version = path.name.partition(".")
    try:
        return Blob(path, UUID(path.parent.name), UUID(document_id), int(version or 1))
    except ValueError:
        return None

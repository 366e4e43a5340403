"""What is made of blobs: it goes with them, and takes no more room than it may."""

import os
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from app.core.storage import BlobStore

ORG, DOCUMENT = uuid4(), uuid4()


@pytest.fixture
def storage(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "files")


def put_blob(storage: BlobStore, document_id: UUID = DOCUMENT, version: int = 1) -> Path:
    path = storage.path(ORG, document_id, version)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"words")
    return path


def put(storage: BlobStore, name: str, *, version: int = 1, size: int = 10) -> bool:
    return storage.put_derived(ORG, DOCUMENT, version, name, b"x" * size)


def names(storage: BlobStore, version: int = 1) -> list[str]:
    folder = storage.derived_path(ORG, DOCUMENT, version, "x").parent
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_it_is_kept_beside_the_blob_and_is_none_of_its_files(storage: BlobStore) -> None:
    blob = put_blob(storage)
    assert put(storage, "a.png")
    assert storage.derived_path(ORG, DOCUMENT, 1, "a.png").read_bytes() == b"x" * 10
    assert names(storage) == ["a.png"]
    assert storage.iter_versions(ORG, DOCUMENT) == [blob]
    assert [found.path for found in storage.iter_blobs(older_than=2**33)] == [blob]


def test_it_goes_with_the_document_or_with_the_version(storage: BlobStore) -> None:
    for version in (1, 2, 3):
        put_blob(storage, version=version)
        put(storage, "a.png", version=version)
    storage.delete(ORG, DOCUMENT, before=3)
    assert [names(storage, version) for version in (1, 2, 3)] == [[], [], ["a.png"]]
    storage.delete(ORG, DOCUMENT)
    assert names(storage, 3) == []
    storage.delete(ORG, DOCUMENT)


def test_of_a_blob_that_is_gone_nothing_is_kept(storage: BlobStore) -> None:
    put_blob(storage)
    put(storage, "a.png")
    # As if a deletion had removed both while this one was being made.
    storage.delete(ORG, DOCUMENT)
    assert not put(storage, "b.png")
    assert names(storage) == []


def test_what_a_killed_process_left_is_removed(storage: BlobStore) -> None:
    for version in (1, 2):
        put_blob(storage, version=version)
        put(storage, "a.png", version=version)
    storage.path(ORG, DOCUMENT, 1).unlink()
    assert storage.remove_stray_derived() == 1
    assert (names(storage, 1), names(storage, 2)) == ([], ["a.png"])
    assert storage.remove_stray_derived() == 0


def test_the_longest_unused_goes_first(storage: BlobStore) -> None:
    put_blob(storage)
    for age, name in enumerate(("new.png", "middle.png", "old.png")):
        put(storage, name, size=100)
        path = storage.derived_path(ORG, DOCUMENT, 1, name)
        os.utime(path, (1_700_000_000 - age, 1_700_000_000 - age))
    assert storage.trim_derived(max_bytes=300) == 300
    assert storage.trim_derived(max_bytes=299) == 200
    assert names(storage) == ["middle.png", "new.png"]
    assert storage.trim_derived(max_bytes=0) == 0

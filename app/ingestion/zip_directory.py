"""The directory at the end of a zip file, read by hand: on hostile files, before any library."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

# 10,000 entries with names of 350 bytes. The standard library would hold any number of them.
MAX_DIRECTORY_BYTES = 4 << 20

_END = struct.Struct("<4s4H2LH")
_END_MARK = b"PK\x05\x06"
_END_WITHIN_BYTES = _END.size + 0xFFFF  # a comment may follow
_ZIP64_MARK = b"PK\x06\x07"
_ZIP64_MARK_BYTES = 20
_ENTRY = struct.Struct("<4s6H3L5H2L")
_ENTRY_MARK = b"PK\x01\x02"


@dataclass(frozen=True, slots=True)
class ZipDirectory:
    """Where the list of a zip file's entries lies, in bytes from the start of the file."""

    start: int
    size_bytes: int


def find_directory(file: BinaryIO) -> ZipDirectory | None:
    """Return where the directory is, or None in a file that is no zip file.

    Also None for the Zip64 kind: Office and e-books need neither 4 GB nor 65,536 entries.
    """
    file_bytes = file.seek(0, 2)
    file.seek(max(0, file_bytes - _END_WITHIN_BYTES))
    tail = file.read(_END_WITHIN_BYTES)
    at = tail.rfind(_END_MARK)
    if at < 0 or len(tail) - at < _END.size:
        return None
    if tail[max(0, at - _ZIP64_MARK_BYTES) :].startswith(_ZIP64_MARK):
        return None
    size_bytes = _END.unpack_from(tail, at)[5]
    # Counted from the end: what some programs put before the archive shifts all its offsets.
    start = file_bytes - len(tail) + at - size_bytes
    return ZipDirectory(start, size_bytes) if start >= 0 else None


def iter_names(file: BinaryIO, directory: ZipDirectory) -> Iterator[str]:
    """Yield the name of each entry, in order; it ends at damage, and after MAX_DIRECTORY_BYTES."""
    file.seek(directory.start)
    data = file.read(min(directory.size_bytes, MAX_DIRECTORY_BYTES))
    at = 0
    while len(data) - at >= _ENTRY.size:
        fields = _ENTRY.unpack_from(data, at)
        if fields[0] != _ENTRY_MARK:
            return
        name_bytes, extra_bytes, comment_bytes = fields[10:13]
        at += _ENTRY.size
        # Names that matter here are ASCII.
        yield data[at : at + name_bytes].decode("ascii", errors="replace")
        at += name_bytes + extra_bytes + comment_bytes

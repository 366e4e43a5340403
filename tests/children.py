"""The child processes that read documents, as the system sees them."""

import os
from pathlib import Path


def list_children(pid: int | None = None) -> list[int]:
    """The processes started by one, this by default, that run `app.ingestion.child`."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            command = (entry / "cmdline").read_text()
        except (OSError, ValueError):
            continue
        if int(fields[1]) == (pid or os.getpid()) and "app.ingestion.child" in command:
            found.append(int(entry.name))
    return found

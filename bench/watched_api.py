"""`python -m app api` that tells on request what it does: for benchmarks only.

python -m bench.watched_api FOLDER

SIGUSR1 begins to sample the stack after each few ms of CPU time, and again ends it and writes
`FOLDER/profile.json`; SIGUSR2 writes `FOLDER/tasks.json`, the number of tasks by coroutine.
"""

import asyncio
import json
import signal
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path
from types import FrameType

from app.__main__ import main

_SAMPLE_S = 0.004
_MAX_DEPTH = 60
_samples: Counter[str] = Counter()


def _sample(_number: int, frame: FrameType | None) -> None:
    """Count the stack, innermost first, as `path:function;…`."""
    stack: list[str] = []
    while frame is not None and len(stack) < _MAX_DEPTH:
        stack.append(f"{frame.f_code.co_filename}:{frame.f_code.co_name}")
        frame = frame.f_back
    _samples[";".join(stack)] += 1


def _toggle_profile(folder: Path) -> None:
    if signal.getitimer(signal.ITIMER_PROF)[1]:
        signal.setitimer(signal.ITIMER_PROF, 0)
        _write(folder / "profile.json", _samples)
        _samples.clear()
    else:
        signal.setitimer(signal.ITIMER_PROF, _SAMPLE_S, _SAMPLE_S)


def _count_tasks(folder: Path) -> None:
    counts: Counter[str] = Counter()
    with suppress(RuntimeError):  # no loop runs yet
        for task in asyncio.all_tasks():
            counts[getattr(task.get_coro(), "__qualname__", "?")] += 1
    _write(folder / "tasks.json", counts)


def _write(path: Path, counts: Counter[str]) -> None:
    whole = path.with_suffix(".part")
    whole.write_text(json.dumps(counts))
    whole.rename(path)


if __name__ == "__main__":
    target = Path(sys.argv[1])
    signal.signal(signal.SIGPROF, _sample)
    signal.signal(signal.SIGUSR1, lambda *_: _toggle_profile(target))
    signal.signal(signal.SIGUSR2, lambda *_: _count_tasks(target))
    sys.exit(main(["api"]))

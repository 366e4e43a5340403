"""Metrics of several processes, some of which were killed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from app.core.metrics import open_registry

COUNT_AND_WAIT = """
from app.core.metrics import RUNS, RUN_STREAMS
RUN_STREAMS.inc(3)
RUNS.labels(outcome="completed").inc()
print("counted", flush=True)
input()
"""


def test_a_killed_process_reads_no_streams_any_more_but_what_it_did_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    process = subprocess.Popen(
        [sys.executable, "-c", COUNT_AND_WAIT],
        env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.readline()
    assert open_registry().get_sample_value("footnote_run_streams") == 3
    process.send_signal(signal.SIGKILL)
    process.communicate()
    registry = open_registry()
    assert registry.get_sample_value("footnote_run_streams") is None
    assert registry.get_sample_value("footnote_runs_total", {"outcome": "completed"}) == 1

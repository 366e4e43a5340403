"""The share of queries that the embedding cache spared, as /metrics shows it."""

import os
import re
import subprocess
import sys
from pathlib import Path

from app.core.metrics import EMBEDDING_CACHE, render_metrics

_COUNT = """
from app.core.metrics import EMBEDDING_CACHE
for outcome in {outcomes}:
    EMBEDDING_CACHE.labels(outcome=outcome).inc()
"""
_RENDER = "from app.core.metrics import render_metrics; print(render_metrics()[0].decode())"


def hit_ratio(exposition: str) -> float | None:
    found = re.findall(r"^footnote_embedding_cache_hit_ratio (\S+)$", exposition, re.MULTILINE)
    assert len(found) <= 1
    return float(found[0]) if found else None


def run_with_metrics_in(folder: Path, program: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_hits_and_shared_calls_count_as_spared() -> None:
    for outcome, count in (("hit", 2), ("shared", 1), ("miss", 1), ("error", 1)):
        EMBEDDING_CACHE.labels(outcome=outcome).inc(count)
    counts = {
        sample.labels["outcome"]: sample.value
        for family in EMBEDDING_CACHE.collect()
        for sample in family.samples
        if sample.name.endswith("_total")
    }

    ratio = hit_ratio(render_metrics()[0].decode())

    assert ratio == (counts["hit"] + counts["shared"]) / sum(counts.values())
    assert 0 < ratio < 1


def test_the_ratio_is_of_all_processes_together(tmp_path: Path) -> None:
    assert hit_ratio(run_with_metrics_in(tmp_path, _RENDER)) is None

    run_with_metrics_in(tmp_path, _COUNT.format(outcomes=["hit", "hit", "shared"]))
    run_with_metrics_in(tmp_path, _COUNT.format(outcomes=["miss"]))

    exposition = run_with_metrics_in(tmp_path, _RENDER)
    assert hit_ratio(exposition) == 0.75
    assert 'footnote_embedding_cache_total{outcome="hit"} 2.0' in exposition

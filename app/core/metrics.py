"""Every Prometheus metric, declared once. Labels hold no ids, so their number stays bounded."""

import os
from collections.abc import Iterator
from pathlib import Path

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    start_http_server,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

REQUESTS = Counter("footnote_http_requests_total", "HTTP requests", ["method", "route", "status"])
REQUEST_SECONDS = Histogram(
    "footnote_http_request_seconds", "Time to the end of the response", ["method", "route"]
)
FIRST_TOKEN_SECONDS = Histogram(
    "footnote_chat_first_token_seconds",
    "From the request to the first token of the answer",
    ["provider"],
    buckets=(0.01, 0.03, 0.06, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
TOKENS_PER_SECOND = Histogram(
    "footnote_chat_tokens_per_second",
    "Output tokens per second of one answer, after its first token",
    ["provider"],
    buckets=(1, 5, 10, 20, 40, 80, 160, 320, 1000),
)
# Each embedded query once: `hit` (in the cache), `shared` (another caller was just making it),
# `miss` (made), `error` (made, because the cache was away).
EMBEDDING_CACHE = Counter(
    "footnote_embedding_cache_total", "Query embeddings by cache outcome", ["outcome"]
)
# `completed`, `failed` or `cancelled`.
RUNS = Counter("footnote_runs_total", "Answers of conversations by how they ended", ["outcome"])
# `delivered`, or why not: `refused`, `redirected`, `timeout`, `connection_failed`, …
WEBHOOK_DELIVERIES = Counter(
    "footnote_webhook_deliveries_total", "Requests to webhooks by what came of them", ["outcome"]
)
RUN_STREAMS = Gauge(
    "footnote_run_streams", "Readers of answers in the making", multiprocess_mode="livesum"
)
RUN_REDIS_SECONDS = Histogram(
    "footnote_run_redis_seconds",
    "Time in which new frames of answers reached Redis",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25),
)
PROVIDER_ERRORS = Counter(
    "footnote_provider_errors_total", "Failed calls of model providers", ["provider", "kind"]
)
INGESTION_STAGE_SECONDS = Histogram(
    "footnote_ingestion_stage_seconds",
    "Time one document spent in a stage of ingestion",
    ["stage"],
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800),
)
INGESTION_OUTCOMES = Counter(
    "footnote_ingestion_outcomes_total", "Documents by how their ingestion ended", ["outcome"]
)
QUEUE_AGE_SECONDS = Gauge(
    "footnote_queue_age_seconds",
    "Age of the oldest queued document",
    multiprocess_mode="mostrecent",
)
QUEUED_DOCUMENTS = Gauge(
    "footnote_queued_documents", "Documents that wait for a worker", multiprocess_mode="mostrecent"
)


def open_registry() -> CollectorRegistry:
    """Return this process's metrics, or those of all that share PROMETHEUS_MULTIPROC_DIR."""
    counted = REGISTRY
    if folder := os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        _forget_dead_processes(Path(folder))
        counted = CollectorRegistry()
        MultiProcessCollector(counted)  # type: ignore[no-untyped-call]  # the library has no types
    registry = CollectorRegistry()
    registry.register(_WithHitRatio(counted))
    return registry


def _forget_dead_processes(folder: Path) -> None:
    """Drop the gauges of processes that were killed: nobody said that these ended."""
    for path in folder.glob("gauge_live*_*.db"):
        pid = int(path.stem.rpartition("_")[2])
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            mark_process_dead(pid)  # type: ignore[no-untyped-call]  # the library has no types
        except PermissionError:
            pass


class _WithHitRatio(Collector):
    """Adds the share of queries that the embedding cache spared, for those who read without PromQL.

    Of all since the start, and over all processes: a gauge in each could not be added up.
    """

    def __init__(self, counted: CollectorRegistry) -> None:
        self._counted = counted

    def describe(self) -> list[Metric]:
        return []  # spares a collection at each registration

    def collect(self) -> Iterator[Metric]:
        for family in self._counted.collect():
            yield family
            if family.name == "footnote_embedding_cache":
                yield from _hit_ratio(family)


def _hit_ratio(outcomes: Metric) -> Iterator[Metric]:
    counts = {
        sample.labels["outcome"]: sample.value
        for sample in outcomes.samples
        if sample.name.endswith("_total")
    }
    if total := sum(counts.values()):
        spared = counts.get("hit", 0) + counts.get("shared", 0)
        yield GaugeMetricFamily(
            "footnote_embedding_cache_hit_ratio",
            "Share of the query embeddings that needed no call, since the start",
            value=spared / total,
        )


def render_metrics() -> tuple[bytes, str]:
    """Return the exposition text and its content type."""
    return generate_latest(open_registry()), CONTENT_TYPE_LATEST


def serve_metrics(port: int) -> None:
    """Serve `/metrics` on a port of its own, from a daemon thread."""
    start_http_server(port, registry=open_registry())

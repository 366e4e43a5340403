"""What the dense stage finds and how fast, against exact search, while documents come and go.

python -m bench.recall            200,000 chunks of 200 organizations: about 8 minutes of two cores
python -m bench.recall --chunks 60000 --threshold 12000

One organization holds half of the chunks, the others share the rest by Zipf's law. Vectors are
synthetic, clusters within clusters, as alike as MiniLM's of 2,103 chunks of filings and SQuAD:

                                     MiniLM   here
mean cosine within a document          0.34   0.35
nearest chunk, 10th, 50th              0.71 0.55 0.39   0.69 0.51 0.36
question and its chunk, 10th, 50th     0.61 0.43 0.27   0.60 0.40 0.31
local intrinsic dimension: of chunks   13     14
local intrinsic dimension: questions   17     23, so a little harder to find
"""

import argparse
import asyncio
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import asyncpg
import numpy as np
from numpy.typing import NDArray
from pgvector.asyncpg import register_vector

from app.core.db import Database
from app.core.ids import new_id
from app.core.jobs import JobSender
from app.ingestion.hnsw import build_due_indexes
from app.local.postgres import Postgres
from app.migrations import upgrade
from app.models.documents import EXACT_SCAN_MAX_CHUNKS
from app.retrieval.dense import Nearest, search_dense
from app.retrieval.filters import EVERYTHING, Filter

DIMENSIONS = 384
ORGANIZATIONS = 200
LIMIT = 50  # the most that retrieval asks for
K = 10
GOALS = "goals: recall 0.99 overall, 0.98 worst; p50 10 ms, p95 30 ms"
DOCUMENT_CHUNKS = (20, 300)
WRITER_CHUNKS = 40
TOPICS = 300
SECTION_CHUNKS = 8

Vectors = NDArray[np.float32]


class Mixture:
    """Unit vectors in clusters within clusters: topics, documents, sections, chunks."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        # A model's vectors fill their dimensions unevenly.
        self._spectrum = (np.arange(DIMENSIONS, dtype=np.float32) + 1) ** -0.4
        self._mean = self.directions(1)[0]
        self._topics = self.directions(TOPICS)

    def directions(self, count: int) -> Vectors:
        noise = self._rng.standard_normal((count, DIMENSIONS), dtype=np.float32) * self._spectrum
        return _unit(noise)

    def document(self, topic: int, chunks: int) -> Vectors:
        common = (
            0.05**0.5 * self._mean
            + 0.03**0.5 * self._topics[topic]
            + 0.25**0.5 * self.directions(1)[0]
        )
        sections = self.directions(1 + chunks // SECTION_CHUNKS)
        shares = self._rng.dirichlet(np.ones(len(sections)))
        section_of = self._rng.choice(len(sections), size=chunks, p=shares)
        return _unit(common + 0.3**0.5 * sections[section_of] + 0.37**0.5 * self.directions(chunks))

    def question(self, source: Vectors, other: Vectors) -> Vectors:
        """One about a chunk, and a little about another of its document."""
        rest = 1 - 0.55**2 - 0.2**2
        question: Vectors = _unit(0.55 * source + 0.2 * other + rest**0.5 * self.directions(1))[0]
        return question


@dataclass(slots=True)
class Organization:
    """`documents` are ids and chunk counts; `sources` some of its vectors, to make questions of."""

    id: UUID
    user_id: UUID
    size: int
    topics: tuple[int, ...]
    documents: list[tuple[UUID, int]] = field(default_factory=list)
    sources: list[Vectors] = field(default_factory=list)

    @property
    def org_id(self) -> UUID:
        return self.id

    def filter_of(self, chunks: int) -> Filter:
        """Documents that hold about this many chunks, and not more."""
        chosen: list[UUID] = []
        for document_id, count in self.documents:
            if count <= chunks:
                chosen.append(document_id)
                chunks -= count
        return Filter(document_ids=tuple(chosen))


@dataclass(slots=True)
class Result:
    """What the queries of one group gave. Times are in ms, of the vector stage's SQL.

    `cpu_ms` is what the database's process used of it: the rest on a busy machine is waiting.
    """

    elapsed_ms: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    recalls: dict[UUID, list[float]] = field(default_factory=lambda: defaultdict(list))
    plans: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def add(self, org_id: UUID, nearest: Nearest, exact: Nearest) -> None:
        wanted = {candidate.chunk_id for candidate in exact.candidates[:K]}
        found = {candidate.chunk_id for candidate in nearest.candidates[:K]}
        assert len(nearest.candidates) == len(exact.candidates), "too few"
        if wanted:
            self.recalls[org_id].append(len(wanted & found) / len(wanted))
        self.plans[nearest.plan] += 1

    @contextmanager
    def timed(self, pid: int) -> Iterator[None]:
        schedule = Path(f"/proc/{pid}/schedstat")
        before = schedule.read_text().split() if schedule.exists() else []
        started = time.perf_counter()
        yield
        self.elapsed_ms.append(1000 * (time.perf_counter() - started))
        if before:
            self.cpu_ms.append((int(schedule.read_text().split()[0]) - int(before[0])) / 1e6)

    def line(self) -> str:
        every = [recall for recalls in self.recalls.values() for recall in recalls]
        worst = min(float(np.mean(recalls)) for recalls in self.recalls.values())
        p50, p95 = np.percentile(self.elapsed_ms, [50, 95])
        cpu = f" (CPU {np.median(self.cpu_ms):.1f})" if self.cpu_ms else ""
        plans = " ".join(f"{name} {count}" for name, count in sorted(self.plans.items()))
        return (
            f"recall@{K} {np.mean(every):.4f}, worst organization {worst:.4f};"
            f" p50 {p50:5.1f} ms, p95 {p95:5.1f} ms{cpu}; {plans}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--chunks", type=int, default=200_000)
    parser.add_argument("--threshold", type=int, default=EXACT_SCAN_MAX_CHUNKS)
    parser.add_argument("--queries", type=int, default=300, help="of the large organization")
    parser.add_argument("--shared-buffers", help="of Postgres, as 512MB; else the product's")
    options = parser.parse_args()
    buffers = {"shared_buffers": options.shared_buffers} if options.shared_buffers else None
    with (
        tempfile.TemporaryDirectory(prefix="footnote-recall-") as folder,
        Postgres(Path(folder) / "postgres", options=buffers) as postgres,
    ):
        upgrade(postgres.url)
        asyncio.run(_run(postgres.url, options))


async def _run(url: str, options: argparse.Namespace) -> None:
    rng = np.random.default_rng(7)
    mixture = Mixture(rng)
    owner = await _connect(url)
    started = time.perf_counter()
    space_id, organizations = await _fill(owner, mixture, rng, options.chunks)
    print(f"{options.chunks} chunks of {ORGANIZATIONS} organizations: loaded in {_since(started)}")
    started = time.perf_counter()
    built = await build_due_indexes(url, threshold=options.threshold)
    size = await owner.fetchval(
        "SELECT pg_size_pretty(pg_relation_size(to_regclass($1)))",
        f"chunk_embeddings_{space_id}_hnsw",
    )
    print(f"index of {size} built in {_since(started)}" if built else f"index of {size}")
    jobs = JobSender("redis://127.0.0.1:9")
    db = Database(url, jobs, pool_size=2)
    try:
        bench = Bench(db, owner, mixture, rng, space_id, organizations, options.threshold)
        await bench.run(options.queries)
    finally:
        await db.close()
        jobs.close()
        await owner.close()


@dataclass(slots=True)
class Bench:
    """One filled database, and what is asked of it."""

    db: Database
    owner: asyncpg.Connection
    mixture: Mixture
    rng: np.random.Generator
    space_id: int
    organizations: list[Organization]
    threshold: int
    written: int = 0

    async def run(self, queries: int) -> None:
        large, *others = self.organizations
        print(f"with nobody writing   {(await self.ask([large] * 100)).line()}")
        print(f"while documents come and go, one after the other ({GOALS}):")
        writer = asyncio.create_task(self._write())
        started = time.perf_counter()
        everybody = (
            [large] * queries
            + others
            + [
                organization
                for organization in others
                for _ in range(round(queries * organization.size / large.size))
            ]
        )
        self.rng.shuffle(everybody)
        result = await self.ask(everybody)
        print(f"  everybody, by size      {result.line()}")
        for name, low, high in (
            ("up to 500 chunks", 0, 500),
            ("up to 5,000", 500, 5_000),
            ("up to 50,000", 5_000, 50_000),
        ):
            group = [each for each in others if low < each.size <= high]
            if group:
                result = await self.ask(group * max(1, 100 // len(group)))
                print(f"  {name:<22}  {result.line()}")
        result = await self.ask([large] * queries)
        print(f"  the large one           {result.line()}")
        for share in (0.01, 0.1, 0.25, 0.49, 0.55, 0.75):
            wanted = large.filter_of(round(large.size * share))
            result = await self.ask([large] * (queries // 4), wanted)
            print(f"  {share:4.0%} of its documents   {result.line()}")
        elapsed = time.perf_counter() - started
        writer.cancel()
        await asyncio.gather(writer, return_exceptions=True)
        print(f"written meanwhile: {self.written / elapsed:.0f} chunks/s in, as many out")

    async def ask(self, asked: Sequence[Organization], wanted: Filter = EVERYTHING) -> Result:
        """One question to each organization in turn, answered as retrieval does and exactly."""
        result = Result()
        for organization in asked:
            question = self.question_of(organization)
            async with self.db.reading(organization) as driver:
                with result.timed(driver.get_server_pid()):
                    nearest = await self._search(driver, organization, question, wanted, True)
                exact = await self._search(driver, organization, question, wanted, False)
            result.add(organization.id, nearest, exact)
        return result

    def question_of(self, organization: Organization) -> Vectors:
        sources = organization.sources[int(self.rng.integers(len(organization.sources)))]
        source, other = sources[self.rng.integers(len(sources), size=2)]
        return self.mixture.question(source, other)

    async def _search(
        self,
        driver: asyncpg.Connection,
        organization: Organization,
        question: Vectors,
        wanted: Filter,
        has_hnsw: bool,
    ) -> Nearest:
        return await search_dense(
            driver,
            organization.id,
            space_id=self.space_id,
            has_hnsw=has_hnsw,
            query=question,
            wanted=wanted,
            limit=LIMIT,
            exact_max_chunks=self.threshold,
        )

    async def _write(self) -> None:
        """Add a document and delete one, again and again; half of them to the large one."""
        added: list[tuple[UUID, UUID]] = []
        while True:
            others = self.organizations[1:]
            organization = self.organizations[0]
            if self.rng.random() < 0.5:
                organization = others[int(self.rng.integers(len(others)))]
            async with self.owner.transaction():
                vectors = self.mixture.document(
                    int(self.rng.choice(organization.topics)), WRITER_CHUNKS
                )
                document_id = await _add_documents(
                    self.owner, self.space_id, [(organization, vectors)]
                )
            added += [(organization.id, each) for each in document_id]
            if len(added) > 10:
                org_id, gone = added.pop(int(self.rng.integers(len(added))))
                await self.owner.execute(
                    "UPDATE documents SET deleted_at = now() WHERE org_id = $1 AND id = $2",
                    *(org_id, gone),
                )
                await asyncio.sleep(0.1)
                await self.owner.execute(
                    "DELETE FROM chunk_embeddings WHERE org_id = $1 AND document_id = $2",
                    *(org_id, gone),
                )
            self.written += WRITER_CHUNKS
            await asyncio.sleep(0.1)


async def _connect(url: str) -> asyncpg.Connection:
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    await register_vector(connection)
    return connection


def zipf_sizes(chunks: int) -> list[int]:
    """Half for the first, the rest in proportion to 1, 1/2, 1/3, …"""
    shares = 1 / np.arange(1, ORGANIZATIONS)
    rest = np.maximum(1, (chunks / 2) * shares / shares.sum()).astype(int)
    return [chunks // 2, *(int(size) for size in rest)]


async def _fill(
    owner: asyncpg.Connection, mixture: Mixture, rng: np.random.Generator, chunks: int
) -> tuple[int, list[Organization]]:
    space_id = await owner.fetchval(
        "SELECT ensure_embedding_space('bench', 'mixture', $1)", DIMENSIONS
    )
    organizations = [
        Organization(new_id(), new_id(), size, tuple(rng.integers(TOPICS, size=1 + size // 2000)))
        for size in zipf_sizes(chunks)
    ]
    await owner.executemany(
        "INSERT INTO users (id, email, password_hash) VALUES ($1, $2, '')",
        [(each.user_id, f"{each.user_id}@example.com") for each in organizations],
    )
    await owner.executemany(
        "INSERT INTO organizations (id, name) VALUES ($1, 'o')",
        [(each.id,) for each in organizations],
    )
    # In the order in which they would have been uploaded: everybody's side by side.
    pending = [(each, count) for each in organizations for count in _cut(each.size, rng)]
    order = rng.permutation(len(pending))
    for start in range(0, len(order), 100):
        documents = [
            (organization, mixture.document(int(rng.choice(organization.topics)), count))
            for organization, count in (pending[n] for n in order[start : start + 100])
        ]
        ids = await _add_documents(owner, space_id, documents)
        for document_id, (organization, vectors) in zip(ids, documents, strict=True):
            organization.documents.append((document_id, len(vectors)))
            organization.sources.append(vectors[:10].copy())
    await owner.execute("ANALYZE documents, chunk_embeddings")
    return int(space_id), organizations


def _cut(size: int, rng: np.random.Generator) -> Iterator[int]:
    while size > 0:
        count = min(size, int(rng.integers(*DOCUMENT_CHUNKS)))
        yield count
        size -= count


async def _add_documents(
    owner: asyncpg.Connection, space_id: int, documents: Sequence[tuple[Organization, Vectors]]
) -> list[UUID]:
    """Write documents that are ready, and their vectors; return their ids."""
    ids = [new_id() for _ in documents]
    await owner.executemany(
        """
        INSERT INTO documents (org_id, id, uploaded_by, filename, media_type, size_bytes, sha256,
            status, page_count, chunk_count, generation, ready_version, ready_filename,
            ready_media_type)
        VALUES ($1, $2, $3, 'f.txt', 'text/plain', 1, $4, 'ready', 1, $5, 1, 1, 'f.txt',
            'text/plain')
        """,
        [
            (organization.id, document_id, organization.user_id, document_id.bytes, len(vectors))
            for document_id, (organization, vectors) in zip(ids, documents, strict=True)
        ],
    )
    await owner.copy_records_to_table(
        "chunk_embeddings",
        columns=["space_id", "org_id", "chunk_id", "document_id", "generation", "embedding"],
        records=(
            (space_id, organization.id, new_id(), document_id, 1, vector)
            for document_id, (organization, vectors) in zip(ids, documents, strict=True)
            for vector in vectors
        ),
    )
    return ids


def _unit(vectors: Vectors) -> Vectors:
    unit: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def _since(started: float) -> str:
    return f"{time.perf_counter() - started:.0f} s"


if __name__ == "__main__":
    main()

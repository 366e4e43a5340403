"""The product while processes are killed, Redis is flushed and the provider fails.

python -m bench.chaos ingest      # SIGKILL every 5 to 15 s, FLUSHALL twice, against a quiet run
python -m bench.chaos provider    # 10 % of the embedding calls fail, in six ways
python -m bench.chaos fairness    # one organization's thousand files before another's one
python -m bench.chaos streams     # 500 cuts, FLUSHALL, SIGKILL of APIs: what readers end with
"""

import argparse
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from os import kill
from signal import SIGKILL

import httpx2
from reportlab.lib.pagesizes import A4
from reportlab.pdfgen.canvas import Canvas

from bench.chaos_streams import measure_streams
from bench.product import Product, running_product, running_stand_in

UPLOADS = 60
FLOOD = 1000
ORGANIZATIONS = 5
# Slow enough that the kills meet batches in flight.
DELAY = ("--delay-ms", "250", "--delay-per-input-ms", "0.5")
_TIMEOUT_S = 1500
_WORDS = ("harbor", "ship", "freight", "cargo", "crane", "container", "voyage", "anchor", "tide")

# Each chunk with all that it is made of, whatever ids it has and whatever run made it.
_CHUNKS = """
    SELECT d.filename, count(*) AS chunks, count(DISTINCT c.ordinal) AS ordinals,
        md5(string_agg(md5(concat(c.ordinal, c.text, c.spans, c.heading, e.embedding)), ''
                       ORDER BY c.ordinal)) AS digest
    FROM documents d
    JOIN chunks c ON c.org_id = d.org_id AND c.document_id = d.id
    LEFT JOIN chunk_embeddings e ON e.org_id = c.org_id AND e.chunk_id = c.id
    GROUP BY d.filename ORDER BY d.filename
"""
_STRAYS = """
    SELECT (SELECT count(*) FROM chunks c JOIN documents d ON d.id = c.document_id
            WHERE c.generation <> d.generation) AS dead_chunks,
        (SELECT count(*) FROM chunk_embeddings) - (SELECT count(*) FROM chunks) AS unpaired,
        (SELECT count(*) FROM chunk_embeddings
         WHERE abs(l2_norm(embedding::halfvec(384)) - 1) > 0.01) AS bad_vectors
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one run over all uploads ended."""

    seconds: float
    ready: int
    failures: list[str]
    digests: dict[str, str]
    chunks: int
    calls: int
    faults: dict[str, int]
    strays: dict[str, int]
    kills: int = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenario", choices=["ingest", "provider", "fairness", "streams"])
    parser.add_argument("--uploads", type=int, default=UPLOADS)
    parser.add_argument("--seed", type=int, default=2026)
    options = parser.parse_args()
    if options.scenario == "fairness":
        measure_fairness()
        return
    if options.scenario == "streams":
        measure_streams(options.seed)
        return
    files = make_files(options.uploads, options.seed)
    quiet = run(files, options.seed)
    print(f"undisturbed: {describe(quiet)}")
    if options.scenario == "ingest":
        outcome = run(files, options.seed, kills=True)
    else:
        chaos = ("--chaos-seed", str(options.seed), "--chaos-share", "0.1")
        outcome = run(files, options.seed, provider=chaos)
    print(f"disturbed:   {describe(outcome)}")
    sameness = "the same" if outcome.digests == quiet.digests else "NOT the same"
    print(
        f"{outcome.ready} of {len(files)} ready; chunks {sameness} as undisturbed; "
        f"provider calls {outcome.calls / quiet.calls:.2f} times the minimum; "
        f"{outcome.seconds / quiet.seconds:.1f} times the time; seed {options.seed}"
    )
    for failure in outcome.failures:
        print(f"  failed: {failure}")


def make_files(count: int, seed: int) -> dict[str, bytes]:
    """Reports of 5 to 45 pages, the same for the same seed."""
    chance = random.Random(seed)
    return {
        f"report-{number:02}.pdf": _make_pdf(chance.randint(5, 45), chance)
        for number in range(count)
    }


def run(
    files: dict[str, bytes], seed: int, *, kills: bool = False, provider: tuple[str, ...] = ()
) -> Outcome:
    with running_remote(*DELAY, *provider) as (product, url):
        started = time.monotonic()
        uploads = upload_all(product, files)
        with disturbed(product, seed) if kills else undisturbed() as count:
            documents = wait_for_all(product, uploads)
        seconds = time.monotonic() - started
        rows = product.query(_CHUNKS)
        stats = httpx2.get(url.removesuffix("/v1") + "/_stats").json()
        return Outcome(
            seconds=seconds,
            ready=sum(d["status"] == "ready" for d in documents),
            failures=[
                f"{d['filename']}: {d['error_code']}" for d in documents if d["status"] != "ready"
            ],
            digests={
                row["filename"]: row["digest"] for row in rows if row["chunks"] == row["ordinals"]
            },
            chunks=sum(row["chunks"] for row in rows),
            calls=stats["embedding_calls"],
            faults={fault: count for fault, count in stats["by_failure"].items() if count},
            strays=dict(product.query(_STRAYS)[0]),
            kills=len(count),
        )


def measure_fairness() -> None:
    """Upload a thousand files as one organization, then one file as another."""
    with running_remote("--delay-ms", "40") as (product, _):
        authorization = product.client.headers["Authorization"]
        for number in range(FLOOD):
            product.client.post(
                "/api/v1/documents/upload",
                files={"file": (f"{number}.txt", f"File number {number} of the flood.".encode())},
            ).raise_for_status()
        product.sign_up()
        started = time.monotonic()
        document = product.wait_until_done(product.upload_bytes("one.txt", b"The only file."))
        seconds = time.monotonic() - started
        product.client.headers["Authorization"] = authorization
        waiting = product.client.get(
            "/api/v1/documents", params={"status": "queued", "limit": 200}
        ).json()["items"]
        print(
            f"behind {FLOOD} files of another organization, of which {len(waiting)} or more were "
            f"still waiting: {document['status']} after {seconds:.1f} s"
        )


@contextmanager
def running_remote(*arguments: str) -> Iterator[tuple[Product, str]]:
    """The product with embeddings over HTTP, and the stand-in's URL."""
    with (
        running_stand_in(*arguments) as url,
        running_product(
            OPENAI_BASE_URL=url,
            OPENAI_API_KEY="stand-in",
            EMBEDDING_MODEL="openai/text-embedding-3-small",
            DEFAULT_MODEL="extractive/extractive",
        ) as product,
    ):
        yield product, url


def upload_all(product: Product, files: dict[str, bytes]) -> list[tuple[str, str]]:
    """Upload the files as several organizations; returns (authorization, document id)."""
    people = []
    for _ in range(ORGANIZATIONS):
        product.sign_up()
        people.append(product.client.headers["Authorization"])
    uploads = []
    for index, (name, content) in enumerate(files.items()):
        authorization = people[index % ORGANIZATIONS]
        response = product.client.post(
            "/api/v1/documents/upload",
            files={"file": (name, content)},
            headers={"Authorization": authorization},
        )
        response.raise_for_status()
        uploads.append((authorization, str(response.json()["document_id"])))
    return uploads


def wait_for_all(product: Product, uploads: list[tuple[str, str]]) -> list[dict[str, object]]:
    deadline = time.monotonic() + _TIMEOUT_S
    documents = []
    for authorization, document_id in uploads:
        while True:
            document: dict[str, object] = product.client.get(
                f"/api/v1/documents/{document_id}", headers={"Authorization": authorization}
            ).json()
            if document["status"] in ("ready", "failed") or time.monotonic() > deadline:
                break
            time.sleep(0.2)
        documents.append(document)
    return documents


@contextmanager
def undisturbed() -> Iterator[list[int]]:
    yield []


@contextmanager
def disturbed(product: Product, seed: int) -> Iterator[list[int]]:
    """Kill one of the worker's processes every 5 to 15 s, and flush Redis twice meanwhile."""
    chance = random.Random(seed)
    over = threading.Event()
    killed: list[int] = []

    def disturb() -> None:
        while not over.wait(chance.uniform(5, 15)):
            pids = product.worker_pids()
            if pids:
                killed.append(chance.choice(pids))
                kill(killed[-1], SIGKILL)
            if len(killed) in (2, 4):
                product.flush_redis()

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        yield killed
    finally:
        over.set()
        thread.join()


def describe(outcome: Outcome) -> str:
    return (
        f"{outcome.ready} ready in {outcome.seconds:.0f} s, {outcome.chunks} chunks, "
        f"{outcome.calls} provider calls, {outcome.kills} kills, "
        f"faults {outcome.faults}, {outcome.strays}"
    )


def _make_pdf(page_count: int, chance: random.Random) -> bytes:
    buffer = BytesIO()
    canvas = Canvas(buffer, pagesize=A4, invariant=1)
    for page in range(1, page_count + 1):
        lines = canvas.beginText(72, 770)
        for _ in range(50):
            lines.textLine(" ".join(chance.choices(_WORDS, k=10)).capitalize() + f" {page}.")
        canvas.drawText(lines)
        canvas.showPage()
    canvas.save()
    return buffer.getvalue()


if __name__ == "__main__":
    main()

"""How long a filing takes from upload to ready, and how much memory the worker needs.

python -m bench.ingest --provider http    # a stand-in embedding server: 40 ms + 0.2 ms per input
python -m bench.ingest --provider local   # the local model
python -m bench.ingest --provider local --batch   # twelve filings at once
"""

import argparse
import json
import statistics
import time
from pathlib import Path

from bench.product import Product, require_data, running_product, running_stand_in

FILING = "pdfs/3M_2018_10K.pdf"  # 160 pages
FILINGS = "pdfs.jsonl"
LARGE_FILING = "pdfs/PEPSICO_2022_10K.pdf"  # 503 pages
PEER_S = 25.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--provider", choices=["http", "local"], default="http")
    parser.add_argument("--data", type=Path, default=Path("../shared/eval"))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--batch", action="store_true")
    options = parser.parse_args()
    require_data(options.data, FILING, LARGE_FILING, FILINGS)
    if options.provider == "http":
        with (
            running_stand_in("--delay-ms", "40", "--delay-per-input-ms", "0.2") as url,
            running_product(
                OPENAI_BASE_URL=url,
                OPENAI_API_KEY="stand-in",
                EMBEDDING_MODEL="openai/text-embedding-3-small",
                DEFAULT_MODEL="extractive/extractive",
            ) as product,
        ):
            run(product, options)
    else:
        with running_product() as product:
            run(product, options)


def run(product: Product, options: argparse.Namespace) -> None:
    if options.batch:
        measure_batch(product, options.data)
    else:
        measure(product, options.data, runs=options.runs)


def measure_batch(product: Product, data: Path) -> None:
    """All filings at once, as one organization."""
    listed = [json.loads(line) for line in (data / FILINGS).read_text().splitlines()]
    paths = [data / entry["file"] for entry in listed if entry["role"] == "filing"]
    product.wait_until_done(product.upload(data / FILING))  # warms up
    product.sign_up()
    started = time.perf_counter()
    documents = [product.wait_until_done(i) for i in [product.upload(path) for path in paths]]
    elapsed_s = time.perf_counter() - started
    pages = sum(int(str(document["page_count"])) for document in documents)
    chunks = sum(int(str(document["chunk_count"])) for document in documents)
    print(
        f"{len(paths)} filings, {pages} pages: {elapsed_s:.0f} s, "
        f"{pages / elapsed_s:.0f} pages/s, {chunks / elapsed_s:.0f} chunks/s"
    )
    print(f"peak memory of a worker process: {product.peak_worker_mb():.0f} MB")


def measure(product: Product, data: Path, *, runs: int) -> None:
    seconds, rates = [], []
    for run in range(runs + 1):
        product.sign_up()  # the same bytes are new to a new organization
        elapsed_s, chunks = ingest(product, data / FILING)
        if run:  # the first one warms up
            seconds.append(elapsed_s)
            rates.append(chunks / elapsed_s)
        print(f"  {FILING}: {elapsed_s:.2f} s, {chunks} chunks{'' if run else ' (warm-up)'}")
    median_s = statistics.median(seconds)
    print(
        f"160 pages, upload to ready: median {median_s:.2f} s "
        f"({PEER_S / median_s:.0f} times as fast as the peer's {PEER_S:.0f} s), "
        f"{statistics.median(rates):.0f} chunks/s from end to end"
    )
    elapsed_s, chunks = ingest(product, data / LARGE_FILING)
    print(f"503 pages: {elapsed_s:.2f} s, {chunks} chunks, {chunks / elapsed_s:.0f} chunks/s")
    print(f"peak memory of a worker process: {product.peak_worker_mb():.0f} MB")


def ingest(product: Product, path: Path) -> tuple[float, int]:
    """Return seconds from the start of the upload to ready, and the number of chunks."""
    started = time.perf_counter()
    document = product.wait_until_done(product.upload(path))
    elapsed_s = time.perf_counter() - started
    if document["status"] != "ready":
        raise SystemExit(f"{path.name} failed: {document['error_message']}")
    return elapsed_s, int(str(document["chunk_count"]))


if __name__ == "__main__":
    main()

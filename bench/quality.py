"""How often retrieval finds what answers the question, through the real product.

python -m bench.quality --data ../shared/eval

FinanceBench: is an annotated evidence page among the pages of the first k chunks, within the right
filing and across all 12? SQuAD: is the right passage, a document of its own, among the first k?
"""

import argparse
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.product import Product, require_data, running_product

FINANCEBENCH = "financebench_dev.jsonl"
SQUAD, SQUAD_PASSAGES = "squad_dev.jsonl", "squad_passages.jsonl"
# What a plain attempt with the same embedding model gets.
PLAIN = {
    "within the right filing": {5: 0.50, 10: 0.575},
    "across all filings": {5: 0.40, 10: 0.45},
    "SQuAD": {1: 0.76, 5: 0.95, 10: 0.97},
}


@dataclass(frozen=True, slots=True)
class Ask:
    """A question, the documents to search, and whether a search result answers it."""

    question: str
    document_ids: Sequence[str]
    is_hit: Callable[[dict[str, Any]], bool]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/eval"))
    parser.add_argument("--sets", nargs="+", default=["financebench", "squad"])
    options = parser.parse_args()
    require_data(options.data, FINANCEBENCH, SQUAD, SQUAD_PASSAGES, "pdfs")
    with running_product(LOG_LEVEL="WARNING") as product:
        if "financebench" in options.sets:
            measure_financebench(product, options.data)
        if "squad" in options.sets:
            product.sign_up()
            measure_squad(product, options.data)


def measure_financebench(product: Product, data: Path) -> None:
    questions = _read(data / FINANCEBENCH)
    filings = sorted({question["file"] for question in questions})
    ids = upload_all(product, [data / file for file in filings])
    document_of = dict(zip(filings, ids, strict=True))

    def asks(*, within: bool) -> list[Ask]:
        return [
            Ask(
                question["question"],
                [document_of[question["file"]]] if within else [],
                _finds_page(document_of[question["file"]], question["evidence_pages_1based"]),
            )
            for question in questions
        ]

    report(product, "within the right filing", asks(within=True), (5, 10))
    report(product, "across all filings", asks(within=False), (5, 10))


def measure_squad(product: Product, data: Path) -> None:
    passages = _read(data / SQUAD_PASSAGES)
    ids = upload_texts(product, {p["passage_id"]: p["text"] for p in passages})
    asks = [
        Ask(question["question"], [], _finds_document(ids[question["passage_id"]]))
        for question in _read(data / SQUAD)
    ]
    report(product, "SQuAD", asks, (1, 5, 10))


def report(product: Product, name: str, asks: list[Ask], cuts: Sequence[int]) -> None:
    """Ask everything, and print the share of hits at each cut beside the plain attempt's."""
    with ThreadPoolExecutor(4) as pool:
        ranks = list(pool.map(lambda ask: rank_of_hit(product, ask, max(cuts)), asks))
    shares = {k: sum(rank is not None and rank <= k for rank in ranks) / len(ranks) for k in cuts}
    line = ", ".join(f"hit@{k} {shares[k]:.3f} (plain {PLAIN[name][k]})" for k in cuts)
    mean_reciprocal = sum(1 / rank for rank in ranks if rank) / len(ranks)
    print(f"{name}: n={len(asks)}, {line}, MRR@{max(cuts)} {mean_reciprocal:.3f}", flush=True)


def rank_of_hit(product: Product, ask: Ask, limit: int) -> int | None:
    """Return the rank of the first chunk that is a hit, from 1, or None."""
    response = product.client.post(
        "/api/v1/search",
        json={"query": ask.question, "top_k": limit, "document_ids": list(ask.document_ids)},
    )
    response.raise_for_status()
    for rank, result in enumerate(response.json()["results"], start=1):
        if ask.is_hit(result):
            return rank
    return None


def upload_all(product: Product, paths: Sequence[Path]) -> list[str]:
    """Upload files and wait until all are ready. Returns their documents' ids, in order."""
    ids = [product.upload(path) for path in paths]
    for document_id, path in zip(ids, paths, strict=True):
        document = product.wait_until_done(document_id, poll_s=0.5)
        if document["status"] != "ready":
            raise SystemExit(f"{path.name} failed: {document['error_message']}")
    return ids


def upload_texts(product: Product, texts: dict[str, str]) -> dict[str, str]:
    """Upload each text as a document; the same text twice is one document."""
    ids = {}
    for name, content in texts.items():
        response = product.client.post(
            "/api/v1/documents/upload", files={"file": ("passage.txt", content.encode())}
        )
        response.raise_for_status()
        ids[name] = response.json()["document_id"]
    for document_id in ids.values():
        product.wait_until_done(document_id, poll_s=0.2)
    return ids


def _finds_page(document_id: str, pages: Sequence[int]) -> Callable[[dict[str, Any]], bool]:
    return lambda result: (
        result["document_id"] == document_id
        and any(result["page_start"] <= page <= result["page_end"] for page in pages)
    )


def _finds_document(document_id: str) -> Callable[[dict[str, Any]], bool]:
    return lambda result: bool(result["document_id"] == document_id)


def _read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


if __name__ == "__main__":
    main()

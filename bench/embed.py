"""`python -m bench.embed`: speed and memory of the local embedding model, variants as ratios."""

import argparse
import asyncio
import os
import random
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.llm.base import Purpose
from app.llm.minilm import model_dir
from app.llm.minilm_session import MiniLMSession
from app.llm.providers.local import LocalEmbedding
from app.llm.wordpiece import WordPieceTokenizer
from bench.variants import embed_ids, open_variants

CHUNK_TOKENS = 200
QUERY = "Which name is also used to describe the Amazon rainforest in English?"


def chunk_texts(count: int) -> list[str]:
    """Texts of about CHUNK_TOKENS word pieces, stretches of the model card; always the same."""
    tokenizer = WordPieceTokenizer()
    text = (model_dir() / "README.md").read_text(encoding="utf-8")
    ends = tokenizer.token_ends(text)
    starts = random.Random(0).choices(range(len(ends) - CHUNK_TOKENS), k=count)
    return [text[ends[start] : ends[start + CHUNK_TOKENS]] for start in starts]


def peak_rss_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)


async def measure_provider(texts: list[str], rounds: int) -> None:
    """Print what a worker sees: the class itself, with tokenizing, before anything else ran."""
    with tempfile.TemporaryDirectory() as folder:
        provider = LocalEmbedding(Path(folder))
        before_mb = peak_rss_mb()
        started = time.perf_counter()
        await provider.warm_up()
        print(f"first load, with building   {time.perf_counter() - started:6.1f} s")
        await provider.embed(texts[:8], purpose=Purpose.DOCUMENT)
        rates, query_ms = [], []
        for _ in range(rounds):
            started = time.perf_counter()
            await provider.embed(texts, purpose=Purpose.DOCUMENT)
            rates.append(len(texts) / (time.perf_counter() - started))
            for _ in range(20):
                started = time.perf_counter()
                await provider.embed([QUERY], purpose=Purpose.QUERY)
                query_ms.append(1000 * (time.perf_counter() - started))
        print(f"chunks of {CHUNK_TOKENS} tokens        {statistics.median(rates):6.1f} chunks/s")
        print(f"one query                   {statistics.median(query_ms):6.2f} ms")
        print(f"peak RSS                    {peak_rss_mb():6.0f} MB (before: {before_mb:.0f})")
        await provider.aclose()


def rate(session: MiniLMSession, ids: list[NDArray[np.int64]], threads: int) -> float:
    started = time.perf_counter()
    embed_ids(session, ids, threads=threads)
    return len(ids) / (time.perf_counter() - started)


def compare_variants(texts: list[str], rounds: int, threads: int) -> None:
    """Print each variant's rate and its ratio to fp32 in the same round."""
    tokenizer = WordPieceTokenizer()
    ids = [tokenizer.ids(text) for text in texts]
    query = tokenizer.ids(QUERY)
    variants = open_variants()
    rates: dict[str, list[float]] = {name: [] for name in variants}
    query_ms: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, session in variants.items():
            embed_ids(session, ids[:4], threads=threads)
            rates[name].append(rate(session, ids, threads))
            for _ in range(20):
                started = time.perf_counter()
                session.vector(query)
                query_ms[name].append(1000 * (time.perf_counter() - started))
    print(f"\n{'variant':14} {'chunks/s':>9} {'ratio to fp32':>14} {'query ms':>9}")
    for name, values in rates.items():
        ratio = statistics.median(
            value / reference for value, reference in zip(values, rates["fp32"], strict=True)
        )
        ms = statistics.median(query_ms[name])
        print(f"{name:14} {statistics.median(values):9.1f} {ratio:14.2f} {ms:9.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chunks", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    texts = chunk_texts(min(arguments.chunks, LocalEmbedding.max_batch))
    asyncio.run(measure_provider(texts, arguments.rounds))
    compare_variants(texts, arguments.rounds, arguments.threads)


if __name__ == "__main__":
    main()

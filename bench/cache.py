"""How much sooner a repeated question is answered: the embedding cache, with an embedder at 40 ms.

python -m bench.cache
"""

import argparse
import asyncio
import json
import statistics
from pathlib import Path

from bench.product import Product, require_data, running_product, running_stand_in
from bench.search import FILING, QUESTIONS, open_caller

GOAL = 10
# So that both kinds meet the same noise of the machine.
TURN = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/eval"))
    parser.add_argument("--questions", type=int, default=400)
    parser.add_argument("--delay-ms", type=float, default=40.0)
    options = parser.parse_args()
    require_data(options.data, FILING, QUESTIONS)
    with (
        running_stand_in("--delay-ms", str(options.delay_ms)) as url,
        running_product(
            OPENAI_BASE_URL=url,
            OPENAI_API_KEY="stand-in",
            EMBEDDING_MODEL="openai/text-embedding-3-small",
            DEFAULT_MODEL="extractive/extractive",
            LOG_LEVEL="WARNING",
        ) as product,
    ):
        product.wait_until_done(product.upload(options.data / FILING))
        questions = make_questions(options.data / QUESTIONS, options.questions)
        first, repeated = asyncio.run(_ask_twice(product, questions))
        before, after = statistics.median(first), statistics.median(repeated)
        print(f"{len(first)} questions over one filing, the embedder takes {options.delay_ms:g} ms")
        print(
            f"  first:    p50 {before:.1f} ms, p95 {statistics.quantiles(first, n=20)[-1]:.1f} ms"
        )
        print(
            f"  repeated: p50 {after:.1f} ms, p95 {statistics.quantiles(repeated, n=20)[-1]:.1f} ms"
        )
        print(f"  {before / after:.1f} times as fast (goal: {GOAL})")
        print(f"  {_hit_ratio(product)}")


def make_questions(path: Path, count: int) -> list[str]:
    """Return `count` distinct questions: those of the file, over and over, each with its number."""
    asked = [json.loads(line)["question"] for line in path.read_text().splitlines()]
    return [f"{asked[n % len(asked)]} ({n})" for n in range(count)]


async def _ask_twice(product: Product, questions: list[str]) -> tuple[list[float], list[float]]:
    """Return the milliseconds of each question when it is new, and when it is asked again."""
    first: list[float] = []
    repeated: list[float] = []
    token = product.client.headers["Authorization"]
    async with open_caller(product.base_url, token) as caller:
        for _ in range(TURN):  # warms up
            await caller.ask("What is it?")
        for start in range(0, len(questions), TURN):
            turn = questions[start : start + TURN]
            first += [await caller.ask(question) for question in turn]
            repeated += [await caller.ask(question) for question in turn]
    return first, repeated


def _hit_ratio(product: Product) -> str:
    lines = product.client.get("/metrics").text.splitlines()
    return next(line for line in lines if line.startswith("footnote_embedding_cache_hit_ratio"))


if __name__ == "__main__":
    main()

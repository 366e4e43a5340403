"""`python -m bench.squad`: SQuAD passages found by the local model, each variant against fp32."""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.llm.base import FloatMatrix
from app.llm.wordpiece import WordPieceTokenizer
from bench.variants import CHOSEN, embed_ids, open_variants

CUTS = (1, 5, 10)
PASSAGES, QUESTIONS = "squad_passages.jsonl", "squad_dev.jsonl"

Ranking = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Task:
    """Texts, and for each question the index of the passage that answers it."""

    passages: list[str]
    questions: list[str]
    answers: NDArray[np.intp]


def load_task(data: Path, every: int) -> Task:
    """Read the passages and every n-th question. Exits with a message when they are not there."""
    missing = [name for name in (PASSAGES, QUESTIONS) if not (data / name).is_file()]
    if missing:
        sys.exit(f"not measured: {', '.join(missing)} not found in {data}; give --data FOLDER")
    passages = list(_rows(data / PASSAGES))
    questions = list(_rows(data / QUESTIONS))[::every]
    index = {row["passage_id"]: number for number, row in enumerate(passages)}
    return Task(
        passages=[row["text"] for row in passages],
        questions=[row["question"] for row in questions],
        answers=np.array([index[row["passage_id"]] for row in questions]),
    )


def rank(queries: FloatMatrix, passages: FloatMatrix, depth: int = max(CUTS)) -> Ranking:
    """Exact search: the best passages of each query, best first, shape (queries, depth)."""
    return np.argsort(-(queries @ passages.T), axis=1, kind="stable")[:, :depth]


def hit_rate(ranking: Ranking, answers: NDArray[np.intp], k: int) -> float:
    return float((ranking[:, :k] == answers[:, np.newaxis]).any(axis=1).mean())


def overlap(ranking: Ranking, reference: Ranking) -> float:
    """Share of the reference's results that the ranking found too: recall@depth."""
    found = (ranking[:, :, np.newaxis] == reference[:, np.newaxis, :]).any(axis=1)
    return float(found.mean())


def _rows(path: Path) -> Iterator[dict[str, str]]:
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/eval"))
    parser.add_argument("--every", type=int, default=1, help="use every n-th question")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    task = load_task(arguments.data, arguments.every)
    tokenizer = WordPieceTokenizer()
    passage_ids = [tokenizer.ids(text) for text in task.passages]
    question_ids = [tokenizer.ids(text) for text in task.questions]
    print(f"SQuAD: {len(task.passages)} passages, {len(task.questions)} questions, exact search")
    header = "cos min  cos mean  recall@10" + "".join(f"  hit@{k:<3}" for k in CUTS)
    print(f"{'documents / queries':22} {header}")
    reference: tuple[FloatMatrix, FloatMatrix] | None = None
    for name, session in open_variants().items():
        passages = embed_ids(session, passage_ids, threads=arguments.threads)
        questions = embed_ids(session, question_ids, threads=arguments.threads)
        reference = reference or (passages, questions)
        _print_row(f"{name} / {name}", passages, questions, reference, task)
        if name == CHOSEN:
            _print_row(f"{name} / fp32", passages, reference[1], reference, task)


def _print_row(
    label: str,
    passages: FloatMatrix,
    questions: FloatMatrix,
    reference: tuple[FloatMatrix, FloatMatrix],
    task: Task,
) -> None:
    cosines = (passages * reference[0]).sum(axis=1)
    ranking = rank(questions, passages)
    recall = overlap(ranking, rank(reference[1], reference[0]))
    hits = "".join(f"  {hit_rate(ranking, task.answers, k):.4f} " for k in CUTS)
    print(
        f"{label:22} {cosines.min():.4f}   {cosines.mean():.4f}    {recall:.4f}  {hits}", flush=True
    )


if __name__ == "__main__":
    main()

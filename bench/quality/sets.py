"""The sets: what is uploaded, what is asked, and what would be right."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

FILES = {
    "financebench": ("financebench_dev.jsonl", "pdfs"),
    "squad": ("squad_passages.jsonl", "squad_dev.jsonl"),
    "squad2": ("squad_passages.jsonl", "squad_dev.jsonl", "squad2_unanswerable_dev.jsonl"),
    "xquad": ("xquad_passages.jsonl", "xquad_dev.jsonl"),
    "cranfield": ("cranfield_docs.jsonl", "cranfield_queries_dev.jsonl"),
}


class Unit(StrEnum):
    """What a rank counts: chunks, or documents, each at its first chunk."""

    CHUNK = "chunk"
    DOCUMENT = "document"


@dataclass(frozen=True, slots=True)
class Target:
    """One relevant item: a document, or a page of it, or what holds some words of it."""

    document: str
    page: int | None = None
    words: str | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """`within` names the one document to search; None is all of them."""

    id: str
    text: str
    targets: tuple[Target, ...]
    within: str | None = None


@dataclass(frozen=True, slots=True)
class QuestionSet:
    """Questions that are asked and judged in one way, of `top_k` chunks each."""

    name: str
    questions: tuple[Question, ...]
    unit: Unit = Unit.CHUNK
    top_k: int = 10


@dataclass(frozen=True, slots=True)
class Upload:
    """A document: `content` is a file, or the text itself."""

    filename: str
    content: Path | str

    def read(self) -> bytes:
        return self.content.encode() if isinstance(self.content, str) else self.content.read_bytes()


@dataclass(frozen=True, slots=True)
class Corpus:
    """Documents by name, for an organization of their own, and what is asked of them."""

    name: str
    documents: dict[str, Upload]
    sets: tuple[QuestionSet, ...]

    @property
    def fingerprint(self) -> str:
        """Changes with the documents, but not with the questions."""
        digest = hashlib.sha256()
        for name, upload in self.documents.items():
            digest.update(f"{name}\0{upload.filename}\0".encode() + upload.read())
        return f"{self.name}:{digest.hexdigest()[:16]}"


def read_corpora(data: Path, names: Sequence[str], *, every: int = 1) -> list[Corpus]:
    """Read the sets of these names; `every` takes every n-th question of SQuAD and XQuAD."""
    corpora = []
    if "financebench" in names:
        corpora.append(_financebench(data))
    if "squad" in names or "squad2" in names:
        corpora.append(_squad(data, every=every, unanswerable="squad2" in names))
    if "xquad" in names:
        corpora += _xquad(data, every=every)
    if "cranfield" in names:
        corpora.append(_cranfield(data))
    return corpora


def _financebench(data: Path) -> Corpus:
    rows = read_lines(data / "financebench_dev.jsonl")
    files = sorted({row["file"] for row in rows})

    def questions(*, within: bool) -> tuple[Question, ...]:
        return tuple(
            Question(
                row["id"],
                row["question"],
                tuple(Target(row["file"], page) for page in row["evidence_pages_1based"]),
                row["file"] if within else None,
            )
            for row in rows
        )

    return Corpus(
        "financebench",
        {file: Upload(Path(file).name, data / file) for file in files},
        (
            QuestionSet("financebench/filing", questions(within=True)),
            QuestionSet("financebench/all", questions(within=False)),
        ),
    )


def _squad(data: Path, *, every: int, unanswerable: bool) -> Corpus:
    questions = _passage_questions(read_lines(data / "squad_dev.jsonl")[::every])
    sets = [QuestionSet("squad", questions)]
    if unanswerable:
        rows = read_lines(data / "squad2_unanswerable_dev.jsonl")[::every]
        none = tuple(Question(row["id"], row["question"], ()) for row in rows)
        sets.append(QuestionSet("squad2", none))
    return Corpus("squad", _passages(read_lines(data / "squad_passages.jsonl")), tuple(sets))


def _xquad(data: Path, *, every: int) -> list[Corpus]:
    passages = read_lines(data / "xquad_passages.jsonl")
    questions = read_lines(data / "xquad_dev.jsonl")
    corpora = []
    for language in sorted({row["lang"] for row in passages}):
        name = f"xquad/{language}"
        asked = [row for row in questions if row["lang"] == language]
        asked.sort(key=lambda row: str(row["id"]))  # so that every language has the same ones
        corpora.append(
            Corpus(
                name,
                _passages([row for row in passages if row["lang"] == language]),
                (QuestionSet(name, _passage_questions(asked[::every])),),
            )
        )
    return corpora


def _cranfield(data: Path) -> Corpus:
    documents = {
        row["doc_id"]: _text(row["text"])
        for row in read_lines(data / "cranfield_docs.jsonl")
        if row["text"].strip()  # two of them are empty
    }
    questions = tuple(
        Question(row["query_id"], row["query"], tuple(Target(i) for i in row["relevant_doc_ids"]))
        for row in read_lines(data / "cranfield_queries_dev.jsonl")
    )
    # Some abstracts are two chunks: ten documents need more than ten of them.
    asked = QuestionSet("cranfield", questions, unit=Unit.DOCUMENT, top_k=30)
    return Corpus("cranfield", documents, (asked,))


def _passages(rows: list[dict[str, Any]]) -> dict[str, Upload]:
    return {row["passage_id"]: _text(row["text"]) for row in rows}


def _passage_questions(rows: list[dict[str, Any]]) -> tuple[Question, ...]:
    return tuple(Question(row["id"], row["question"], (Target(row["passage_id"]),)) for row in rows)


def _text(content: str) -> Upload:
    # One name for all: an identifier of a set is no name that a user would give.
    return Upload("passage.txt", content)


def read_lines(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]

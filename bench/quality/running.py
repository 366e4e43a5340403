"""Ask every question of a corpus through the real product."""

import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2

from bench.quality.asking import Goal, judge
from bench.quality.library import CONNECTIONS, Library, Session, chunks_of, open_library
from bench.quality.records import Asked, Record
from bench.quality.sets import Corpus, Question, QuestionSet, Target


def run(client: httpx2.Client, corpora: Sequence[Corpus], *, kept: Path | None) -> Record:
    """Fill a library for each corpus, ask all of its sets, and return what was found."""
    record = Record()
    for corpus in corpora:
        session, library = open_library(client, corpus, kept)
        words = words_by_document(corpus)
        chunks = {name: list(chunks_of(session, library.documents[name])) for name in words}
        for asked in corpus.sets:
            record.sets[asked.name] = _ask_all(session, library, asked, chunks)
    return record


def words_by_document(corpus: Corpus) -> set[str]:
    """Return the names of the documents whose targets are words: their chunks have to be read."""
    return {
        target.document
        for asked in corpus.sets
        for question in asked.questions
        for target in question.targets
        if target.words is not None
    }


def resolve(
    target: Target, documents: Mapping[str, str], chunks: Mapping[str, Iterable[Mapping[str, Any]]]
) -> Goal:
    """Name a target in the product's ids. Raises ValueError where no chunk has its words.

    A document that could not be uploaded is a goal that nothing meets: it counts as not found.
    """
    document_id = documents.get(target.document, "")
    if target.words is None:
        return Goal(document_id, target.page)
    words = _spaced(target.words)
    holding = frozenset(
        str(chunk["chunk_id"])
        for chunk in chunks[target.document]
        if words in _spaced(chunk["text"])
    )
    if not holding:
        raise ValueError(f"no chunk of {target.document} has the words {target.words!r}")
    return Goal(document_id, chunk_ids=holding)


def _ask_all(
    session: Session,
    library: Library,
    asked: QuestionSet,
    chunks: Mapping[str, Sequence[Mapping[str, Any]]],
) -> dict[str, Asked]:
    started = time.perf_counter()

    def ask(question: Question) -> Asked:
        goals = [resolve(target, library.documents, chunks) for target in question.targets]
        within = [library.documents[question.within]] if question.within else []
        body = {
            "query": question.text,
            "top_k": asked.top_k,
            "document_ids": within,
            "explain": True,
        }
        return judge(session.call("POST", "/api/v1/search", json=body), goals, asked.unit)

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        found = list(pool.map(ask, asked.questions))
    elapsed_s = time.perf_counter() - started
    print(f"{asked.name}: {len(found)} questions asked in {elapsed_s:.0f} s", flush=True)
    return {question.id: one for question, one in zip(asked.questions, found, strict=True)}


def _spaced(text: str) -> str:
    return " ".join(text.split())

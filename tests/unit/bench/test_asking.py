"""From answers of the product to ranks; from the sets' files to questions."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from bench.quality.asking import Goal, judge
from bench.quality.figures import values_of
from bench.quality.own import read_own
from bench.quality.plot import plot_svg
from bench.quality.records import FINAL, Asked, Record
from bench.quality.report import (
    answerability_lines,
    area_lines,
    calibration_lines,
    figures_by_set,
    goal_lines,
    markdown_table,
    stage_lines,
)
from bench.quality.running import resolve
from bench.quality.sets import Target, Unit, read_corpora


def chunk(chunk_id: str, document_id: str, page: int, **places: int) -> dict[str, Any]:
    """A candidate of the trace, of one page."""
    return {
        "chunk_id": chunk_id,
        "document_id": document_id,
        "page_start": page,
        "page_end": page,
        "score": 0.5,
        "places": {stage: {"rank": rank, "score": 1.0} for stage, rank in places.items()},
    }


def response(candidates: list[dict[str, Any]], results: list[dict[str, Any]]) -> dict[str, Any]:
    trace = {"candidates": candidates, "answerability": 0.7, "is_answerable": True}
    return {"results": results, "trace": trace}


CANDIDATES = [
    chunk("c1", "a", 4, dense=3, fused=1),
    chunk("c2", "a", 5, dense=1, fulltext=2, fused=2),
    chunk("c3", "b", 5, dense=2, fulltext=1, fused=3),
]


def test_ranks_come_from_each_stage_and_from_the_results() -> None:
    asked = judge(response(CANDIDATES, CANDIDATES[1:]), [Goal("a", 5)], Unit.CHUNK)
    assert asked.ranks == {"dense": (1,), "fulltext": (2,), "fused": (2,), FINAL: (1,)}
    assert (asked.relevant, asked.answerability, asked.is_answerable) == (1, 0.7, True)
    assert asked.score == 0.5


def test_a_page_of_another_document_is_no_hit() -> None:
    asked = judge(response(CANDIDATES, CANDIDATES), [Goal("b", 4)], Unit.CHUNK)
    assert set(asked.ranks.values()) == {()}


def test_a_chunk_over_several_pages_finds_each_of_them() -> None:
    wide = chunk("c", "a", 4, dense=2) | {"page_end": 6}
    asked = judge(response([wide], [wide]), [Goal("a", 4), Goal("a", 6), Goal("a", 7)], Unit.CHUNK)
    assert asked.ranks["dense"] == (2, 2)
    assert asked.relevant == 3


def test_with_documents_as_unit_a_document_counts_once() -> None:
    asked = judge(response(CANDIDATES, CANDIDATES), [Goal("b")], Unit.DOCUMENT)
    assert asked.ranks["dense"] == (2,)
    assert asked.ranks[FINAL] == (2,)  # the third chunk, of the second document


def test_a_stage_that_found_nothing_has_no_ranks_and_a_skipped_one_is_left_out() -> None:
    asked = judge(response([], []), [Goal("a")], Unit.CHUNK)
    assert asked.ranks == {"dense": (), "fulltext": (), "fused": (), FINAL: ()}
    assert asked.score is None


def test_words_are_looked_for_in_chunks_across_line_breaks() -> None:
    chunks = {"d": [{"chunk_id": "1", "text": "nine red"}, {"chunk_id": "2", "text": "red\nboats"}]}
    target = Target("d", words="red boats")
    assert resolve(target, {"d": "id"}, chunks) == Goal("id", chunk_ids=frozenset({"2"}))
    with pytest.raises(ValueError, match="green boats"):
        resolve(Target("d", words="green boats"), {"d": "id"}, chunks)


def test_a_document_that_was_not_uploaded_is_never_found() -> None:
    goal = resolve(Target("gone"), {}, {})
    asked = judge(response(CANDIDATES, CANDIDATES), [goal], Unit.CHUNK)
    assert (asked.ranks[FINAL], asked.relevant) == ((), 1)


def write_lines(path: Path, *rows: dict[str, Any]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The sets' files, in small."""
    filing = {"id": "f", "question": "?", "file": "pdfs/a.pdf", "evidence_pages_1based": [3, 4]}
    write_lines(tmp_path / "financebench_dev.jsonl", filing)
    (tmp_path / "pdfs").mkdir()
    (tmp_path / "pdfs/a.pdf").write_bytes(b"%PDF-")
    passages = [{"passage_id": f"p{n}", "text": f"text {n}"} for n in range(2)]
    questions = [{"id": f"q{n}", "question": "?", "passage_id": f"p{n % 2}"} for n in range(4)]
    write_lines(tmp_path / "squad_passages.jsonl", *passages)
    write_lines(tmp_path / "squad_dev.jsonl", *questions)
    write_lines(
        tmp_path / "squad2_unanswerable_dev.jsonl", {"id": "u", "question": "?", "title": "t"}
    )
    languages = ("de", "th")
    write_lines(
        tmp_path / "xquad_passages.jsonl",
        *(
            {**one, "passage_id": f"{lang}:{one['passage_id']}", "lang": lang}
            for lang in languages
            for one in passages
        ),
    )
    write_lines(
        tmp_path / "xquad_dev.jsonl",
        *(
            {
                "id": f"{lang}:{one['id']}",
                "question": "?",
                "lang": lang,
                "passage_id": f"{lang}:{one['passage_id']}",
            }
            for lang in languages
            for one in questions
        ),
    )
    write_lines(
        tmp_path / "cranfield_docs.jsonl",
        {"doc_id": "1", "text": "wing"},
        {"doc_id": "2", "text": " "},
    )
    write_lines(
        tmp_path / "cranfield_queries_dev.jsonl",
        {"query_id": "1", "query": "wing?", "relevant_doc_ids": ["1", "2"]},
    )
    return tmp_path


def test_every_set_is_read(folder: Path) -> None:
    names = ["financebench", "squad", "squad2", "xquad", "cranfield"]
    corpora = {corpus.name: corpus for corpus in read_corpora(folder, names, every=2)}
    assert list(corpora) == ["financebench", "squad", "xquad/de", "xquad/th", "cranfield"]
    filing, everywhere = corpora["financebench"].sets
    assert filing.questions[0].within == "pdfs/a.pdf"
    assert everywhere.questions[0].within is None
    assert filing.questions[0].targets == (Target("pdfs/a.pdf", 3), Target("pdfs/a.pdf", 4))
    squad, squad2 = corpora["squad"].sets
    assert [question.id for question in squad.questions] == ["q0", "q2"]
    assert [question.targets for question in squad2.questions] == [()]
    assert list(corpora["xquad/th"].documents) == ["th:p0", "th:p1"]
    (cranfield,) = corpora["cranfield"].sets
    assert cranfield.unit is Unit.DOCUMENT
    # The empty abstract can't be uploaded, but stays among what should be found.
    assert list(corpora["cranfield"].documents) == ["1"]
    assert len(cranfield.questions[0].targets) == 2


def test_a_fingerprint_changes_with_the_documents_only(folder: Path) -> None:
    def fingerprint(*, every: int) -> str:
        return read_corpora(folder, ["squad"], every=every)[0].fingerprint

    before = fingerprint(every=1)
    assert before == fingerprint(every=2)
    write_lines(folder / "squad_passages.jsonl", {"passage_id": "p0", "text": "another"})
    assert before != fingerprint(every=1)


def test_our_own_set_has_questions_with_and_without_an_answer() -> None:
    answerable, unanswerable = read_own().sets
    assert len(answerable.questions) >= 100
    assert len(unanswerable.questions) >= 25
    ids = [question.id for asked in read_own().sets for question in asked.questions]
    assert len(set(ids)) == len(ids)


@pytest.fixture
def record() -> Record:
    def asked(rank: int, score: float) -> Asked:
        ranks = {"dense": (rank + 1,), "fulltext": (), "fused": (rank,), FINAL: (rank,)}
        return Asked(ranks, 1, score, score > 0.4, score)

    return Record(
        {
            "squad": {"a": asked(1, 0.9), "b": asked(2, 0.5)},
            "squad2": {"u": Asked({FINAL: ()}, 0, 0.1, False, 0.2)},
            "xquad/de": {"de:a": asked(1, 0.9)},
        }
    )


def test_the_report_has_stages_goals_and_answerability(record: Record) -> None:
    figures = figures_by_set(record)
    stages = "\n".join(stage_lines(record, figures))
    assert "squad (n=2)" in stages
    assert "xquad (mean of the languages)" in stages
    assert "fulltext" in stages
    goals = list(goal_lines(figures))
    assert [line.split()[0] for line in goals[1:]] == ["SQuAD,", "SQuAD,", "XQuAD,"]
    assert "0.500" in goals[1]
    assert goals[2].endswith("reached")
    lines = "\n".join(answerability_lines(record))
    assert "AUC 1.000" in lines
    assert "refuses 100.0% of the unanswerable, 0.0% of the answerable" in lines
    (areas,) = area_lines(record, record)
    assert areas.split() == ["squad", "AUC", "2", "1.000", "1.000"]
    # Mean score 0.7, half of them right: 0.1 / 2 and 0.5 / 2 apart in two bins.
    assert list(calibration_lines(record))[1].split() == [
        "squad", "0.700", "0.500", "0.300", "0.130",
    ]  # fmt: skip


def test_the_table_and_the_plot_hold_what_was_seen(record: Record) -> None:
    figures = figures_by_set(record)
    table = markdown_table(record, figures)
    assert "| SQuAD, hit@1 | 0.76 | 0.83 | 0.500 (0.00-1.00) |" in table
    assert "| squad | 2 | fused | 0.500 |" in table
    drawn = ElementTree.fromstring(plot_svg(record, figures))  # noqa: S314  # our own
    texts = {element.text for element in drawn.iter() if element.text}
    assert {"SQuAD, hit@1", "0.500", "fulltext"} <= texts
    assert "Is there an answer? (squad) AUC 1.000" in texts
    assert "reranked" not in texts
    assert values_of(record).keys() == {"squad", "xquad/de", "xquad"}

"""The set of our own making: invented documents and questions, small enough for every test run."""

from pathlib import Path

from bench.quality.sets import Corpus, Question, QuestionSet, Target, Upload, read_lines

OWN = "own"
UNANSWERABLE = f"{OWN}/unanswerable"
FOLDER = Path(__file__).parents[2] / "tests/data/quality"


def read_own(folder: Path = FOLDER) -> Corpus:
    """Read `documents/` and `questions.jsonl`: id, question, and, unless it is unanswerable,
    `document` and `words` that only the right passage has."""
    rows = read_lines(folder / "questions.jsonl")
    answerable = [row for row in rows if "document" in row]
    return Corpus(
        OWN,
        {path.name: Upload(path.name, path) for path in sorted((folder / "documents").iterdir())},
        (
            QuestionSet(
                OWN,
                tuple(Question(row["id"], row["question"], (_target(row),)) for row in answerable),
            ),
            QuestionSet(
                UNANSWERABLE,
                tuple(
                    Question(row["id"], row["question"], ())
                    for row in rows
                    if "document" not in row
                ),
            ),
        ),
    )


def _target(row: dict[str, str]) -> Target:
    return Target(row["document"], words=row["words"])

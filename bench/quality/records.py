"""What a run has seen, question by question, as a file: ids, ranks and figures, never texts."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FORMAT = 1
FINAL = "results"
# Stages in the order of the pipeline; others keep theirs and stand before the results.
STAGES = ("dense", "fulltext", "fused", "reranked")


@dataclass(frozen=True, slots=True)
class Asked:
    """What one question found: for each stage the ranks, from 1, of its relevant items.

    `relevant` counts them; 0 is a question without an answer. `answerability`, `is_answerable`
    (what the product makes of it) and `score` (of the first result) are the product's, or None.
    """

    ranks: Mapping[str, tuple[int, ...]]
    relevant: int
    answerability: float | None = None
    is_answerable: bool | None = None
    score: float | None = None


@dataclass(slots=True)
class Record:
    """Sets by name; in each the questions by id."""

    sets: dict[str, dict[str, Asked]] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Write it as JSON, a question a line, so that two records can be read side by side."""
        lines = [f'{{"format": {FORMAT}, "sets": {{']
        for number, (name, asked) in enumerate(sorted(self.sets.items()), start=1):
            stages = stages_of(asked)
            lines.append(f'{json.dumps(name)}: {{"stages": {json.dumps(stages)}, "questions": {{')
            rows = [
                f"{json.dumps(question_id)}: {_dumps(_to_json(asked[question_id], stages))}"
                for question_id in sorted(asked)
            ]
            lines.append(",\n".join(rows))
            lines.append("}}" + ("," if number < len(self.sets) else ""))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join([*lines, "}}"]) + "\n", encoding="utf-8")


def read_record(path: Path) -> Record:
    """Read a record. Raises ValueError when the file is of another format."""
    content = json.loads(path.read_text(encoding="utf-8"))
    if content.get("format") != FORMAT:
        raise ValueError(f"{path} is no record of format {FORMAT}: record it anew")
    return Record(
        {
            name: {
                question_id: _from_json(row, recorded["stages"])
                for question_id, row in recorded["questions"].items()
            }
            for name, recorded in content["sets"].items()
        }
    )


def update_record(path: Path, record: Record) -> None:
    """Write a record; sets of the file that it has not measured stay there."""
    earlier = read_record(path).sets if path.exists() else {}
    Record(earlier | record.sets).write(path)


def stages_of(asked: Mapping[str, Asked]) -> list[str]:
    """Return the stages that any of the questions went through, in order, the results last."""
    seen = dict.fromkeys(stage for one in asked.values() for stage in one.ranks)
    known = [stage for stage in STAGES if stage in seen]
    others = [stage for stage in seen if stage not in (*STAGES, FINAL)]
    return known + others + [FINAL] * (FINAL in seen)


def _to_json(asked: Asked, stages: list[str]) -> list[Any]:
    ranks = [asked.ranks.get(stage) for stage in stages]
    verdict = None if asked.is_answerable is None else int(asked.is_answerable)
    return [asked.relevant, ranks, _rounded(asked.answerability), verdict, _rounded(asked.score)]


def _from_json(row: list[Any], stages: list[str]) -> Asked:
    relevant, ranks, answerability, verdict, score = row
    found = {stage: tuple(at) for stage, at in zip(stages, ranks, strict=True) if at is not None}
    is_answerable = None if verdict is None else bool(verdict)
    return Asked(found, relevant, answerability, is_answerable, score)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


def _dumps(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))

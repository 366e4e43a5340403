"""From ranks to figures: one row of values a question, then means with intervals."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bench.quality.measures import MEASURES
from bench.quality.records import FINAL, Asked, Record, stages_of
from bench.quality.significance import Values, bootstrap_intervals

XQUAD = "xquad"
NAMES = tuple(MEASURES)


@dataclass(frozen=True, slots=True)
class Figure:
    """A mean over questions and its 95 % interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} ({self.low:.2f}-{self.high:.2f})"


@dataclass(frozen=True, slots=True)
class SetValues:
    """One set: question ids, and for each stage values of shape (questions, measures)."""

    question_ids: tuple[str, ...]
    stages: Mapping[str, Values]


def values_of(record: Record) -> dict[str, SetValues]:
    """Return the values of every set with relevant items, and of `xquad`: each question's mean
    over the languages, so that translations of one question don't count as many."""
    values = {
        name: _values(asked)
        for name, asked in record.sets.items()
        if any(one.relevant for one in asked.values())
    }
    languages = [one for name, one in values.items() if name.startswith(f"{XQUAD}/")]
    if languages:
        values[XQUAD] = _mean_of(languages)
    return values


def figures_of(values: SetValues) -> dict[str, dict[str, Figure]]:
    """Return stage -> measure -> figure. All of them share the same draws of questions."""
    stages = list(values.stages)
    columns = np.concatenate([values.stages[stage] for stage in stages], axis=1)
    bounds = bootstrap_intervals(columns)
    means = columns.mean(axis=0)
    figures = [
        Figure(float(m), float(low), float(high))
        for m, (low, high) in zip(means, bounds, strict=True)
    ]
    return {
        stage: dict(zip(NAMES, figures[number * len(NAMES) :], strict=False))
        for number, stage in enumerate(stages)
    }


def _values(asked: Mapping[str, Asked]) -> SetValues:
    question_ids = tuple(sorted(name for name, one in asked.items() if one.relevant))
    stages = {}
    for stage in stages_of(asked):
        rows = [_row(asked[question_id], stage) for question_id in question_ids]
        stages[stage] = np.array(rows, dtype=float)
    return SetValues(question_ids, stages)


def _row(asked: Asked, stage: str) -> list[float]:
    # A stage that was left out for this question changed nothing: the final ranks hold.
    ranks = asked.ranks.get(stage, asked.ranks.get(FINAL, ()))
    return [measure(ranks, asked.relevant) for measure in MEASURES.values()]


def _mean_of(languages: list[SetValues]) -> SetValues:
    rows: dict[str, dict[str, list[Values]]] = {}
    for values in languages:
        for stage, matrix in values.stages.items():
            for question_id, row in zip(values.question_ids, matrix, strict=True):
                original = question_id.partition(":")[2]
                rows.setdefault(stage, {}).setdefault(original, []).append(row)
    question_ids = tuple(sorted(set.intersection(*(set(by_id) for by_id in rows.values()))))
    return SetValues(
        question_ids,
        {
            stage: np.array([np.mean(by_id[question_id], axis=0) for question_id in question_ids])
            for stage, by_id in rows.items()
        },
    )

"""Two runs, question by question: what got better, what got worse, and whether that is noise."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from bench.quality.figures import NAMES, SetValues, values_of
from bench.quality.records import FINAL, Record
from bench.quality.significance import Values, bootstrap_intervals, sign_test, worse_test

SIGNIFICANT = 0.05


@dataclass(frozen=True, slots=True)
class Comparison:
    """One measure of one set, before and after, over the questions that both runs asked.

    `low` and `high` bound the mean difference (paired bootstrap, 95 %); `p` is two-sided, of the
    sign test, and `p_worse` one-sided.
    """

    set_name: str
    measure: str
    questions: int
    before: float
    after: float
    low: float
    high: float
    wins: int
    losses: int
    p: float
    p_worse: float

    @property
    def ties(self) -> int:
        return self.questions - self.wins - self.losses

    @property
    def difference(self) -> float:
        return self.after - self.before

    @property
    def is_worse(self) -> bool:
        return self.p < SIGNIFICANT and self.high < 0

    @property
    def is_better(self) -> bool:
        return self.p < SIGNIFICANT and self.low > 0


def compare(before: Record, after: Record, *, stage: str = FINAL) -> list[Comparison]:
    """Compare a stage in every set that both records have; questions of one alone are left out."""
    old, new = values_of(before), values_of(after)
    comparisons = []
    for name in old:
        if name in new and stage in old[name].stages and stage in new[name].stages:
            comparisons += _compare_set(name, old[name], new[name], stage)
    return comparisons


def regressions(
    before: Record, after: Record, *, tolerances: Mapping[str, float]
) -> list[Comparison]:
    """Return what got worse in the results, of the measures named in `tolerances`.

    Worse is: the losses are no chance (one-sided sign test, p < 0.05 divided by the number of
    measures, after Bonferroni), or the mean fell by more than the measure's tolerance.
    """
    significant = SIGNIFICANT / max(len(tolerances), 1)
    return [
        one
        for one in compare(before, after)
        if one.measure in tolerances
        and (
            (one.p_worse < significant and one.difference < 0)
            or one.difference < -tolerances[one.measure]
        )
    ]


def changes(
    before: Record, after: Record, *, stage: str = FINAL
) -> Iterator[tuple[str, str, tuple[int, ...], tuple[int, ...]]]:
    """Yield set, question id, ranks before and after, of the questions whose ranks differ."""
    for name, old in before.sets.items():
        new = after.sets.get(name, {})
        for question_id in sorted(old.keys() & new.keys()):
            ranks = [one[question_id].ranks.get(stage, ()) for one in (old, new)]
            if ranks[0] != ranks[1]:
                yield name, question_id, ranks[0], ranks[1]


def _compare_set(name: str, old: SetValues, new: SetValues, stage: str) -> list[Comparison]:
    shared = sorted(set(old.question_ids) & set(new.question_ids))
    if not shared:
        return []
    before, after = _rows(old, shared, stage), _rows(new, shared, stage)
    difference = after - before
    bounds = bootstrap_intervals(difference)
    comparisons = []
    for column, measure in enumerate(NAMES):
        wins = int((difference[:, column] > 1e-9).sum())
        losses = int((difference[:, column] < -1e-9).sum())
        comparisons.append(
            Comparison(
                set_name=name,
                measure=measure,
                questions=len(shared),
                before=float(before[:, column].mean()),
                after=float(after[:, column].mean()),
                low=float(bounds[column, 0]),
                high=float(bounds[column, 1]),
                wins=wins,
                losses=losses,
                p=sign_test(wins, losses),
                p_worse=worse_test(wins, losses),
            )
        )
    return comparisons


def _rows(values: SetValues, question_ids: list[str], stage: str) -> Values:
    index = {question_id: number for number, question_id in enumerate(values.question_ids)}
    rows: Values = values.stages[stage][np.array([index[one] for one in question_ids])]
    return rows

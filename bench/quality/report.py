"""Figures as text: per stage, beside the goals, compared, and as a Markdown table."""

from collections.abc import Iterator, Mapping, Sequence

from bench.quality.calibration import brier_score, calibration_error
from bench.quality.comparing import Comparison
from bench.quality.figures import NAMES, Figure, figures_of, values_of
from bench.quality.goals import GOALS, WRONGLY_REFUSED
from bench.quality.measures import hit
from bench.quality.records import FINAL, Record
from bench.quality.roc import OperatingPoint, area_under_roc, strictest_point

# Sets of answerable questions, and unanswerable ones over the same documents.
ANSWERABILITY = {"squad": "squad2", "own": "own/unanswerable"}
Figures = Mapping[str, Mapping[str, Mapping[str, Figure]]]


def figures_by_set(record: Record) -> Figures:
    """Return set -> stage -> measure -> figure."""
    return {name: figures_of(values) for name, values in values_of(record).items()}


def stage_lines(record: Record, figures: Figures) -> Iterator[str]:
    """Yield a table of every set: a line a stage."""
    for name, stages in figures.items():
        count = len(record.sets[name]) if name in record.sets else None
        yield f"\n{name}" + (f" (n={count})" if count else " (mean of the languages)")
        yield f"  {'':10}" + "".join(f"{measure:>20}" for measure in NAMES)
        for stage, row in stages.items():
            yield f"  {stage:10}" + "".join(f"{row[measure]!s:>20}" for measure in NAMES)


def goal_rows(figures: Figures) -> list[tuple[str, float, float, Figure]]:
    """Return label, plain, goal and what was seen, for the goals whose set was measured."""
    return [
        (goal.label, goal.plain, goal.goal, figures[goal.set_name][FINAL][goal.measure])
        for goal in GOALS
        if goal.set_name in figures
    ]


def goal_lines(figures: Figures) -> Iterator[str]:
    yield f"{'':40}{'plain':>7}{'goal':>7}  seen"
    for label, plain, goal, seen in goal_rows(figures):
        mark = "reached" if seen.mean >= goal else ""
        yield f"{label:40}{plain:>7}{goal:>7}  {seen} {mark}"


def answerability_lines(record: Record) -> Iterator[str]:
    """Yield AUC and operating points of the product's `answerability`."""
    for name, (answerable, unanswerable) in scores_of(record).items():
        area = area_under_roc(answerable, unanswerable)
        yield (
            f"{name}: {len(answerable)} answerable, {len(unanswerable)} unanswerable questions,"
            f" AUC {area:.3f}"
        )
        strictest = strictest_point(answerable, unanswerable, wrongly_refused=WRONGLY_REFUSED)
        yield f"  at most {WRONGLY_REFUSED:.0%} wrongly refused: {_point(strictest)}"
        refused = [_refused(record, each) for each in (name, ANSWERABILITY[name])]
        if None not in refused:
            yield (
                f"  the product's own verdict refuses {refused[1]:.1%} of the unanswerable,"
                f" {refused[0]:.1%} of the answerable"
            )


def area_lines(before: Record, after: Record) -> Iterator[str]:
    """Yield the AUC of answerability in both, for the sets that both measured."""
    old, new = scores_of(before), scores_of(after)
    for name in old.keys() & new.keys():
        areas = area_under_roc(*old[name]), area_under_roc(*new[name])
        yield f"{name:22}{'AUC':9}{len(new[name][0]):6}{areas[0]:8.3f}{areas[1]:8.3f}"


def calibration_lines(record: Record) -> Iterator[str]:
    """Yield how far the first result's `score` is from a probability."""
    yield f"{'score of the first result':26}{'mean':>7}{'hit@1':>7}{'ECE':>7}{'Brier':>7}"
    for name, asked in record.sets.items():
        pairs = [
            (one.score, hit(one.ranks.get(FINAL, ()), 1))
            for one in asked.values()
            if one.score is not None and one.relevant
        ]
        if pairs:
            scores, hits = zip(*pairs, strict=True)
            error, brier = calibration_error(scores, hits), brier_score(scores, hits)
            mean, rate = sum(scores) / len(scores), sum(hits) / len(hits)
            yield f"{name:26}{mean:7.3f}{rate:7.3f}{error:7.3f}{brier:7.3f}"


def scores_of(record: Record) -> dict[str, tuple[list[float], list[float]]]:
    """Return, by set, the answerability of its questions and of the unanswerable ones."""
    scores = {}
    for name, other in ANSWERABILITY.items():
        pair = [
            [one.answerability for one in record.sets.get(each, {}).values()]
            for each in (name, other)
        ]
        known = [[score for score in scored if score is not None] for scored in pair]
        if all(known):
            scores[name] = (known[0], known[1])
    return scores


def comparison_lines(comparisons: Sequence[Comparison]) -> Iterator[str]:
    yield (
        f"{'set':22}{'measure':9}{'n':>6}{'before':>8}{'after':>8}{'diff':>8}"
        f"{'95 % interval':>18}{'won':>6}{'lost':>6}{'tied':>6}{'p':>8}"
    )
    for one in comparisons:
        verdict = "  WORSE" if one.is_worse else "  better" if one.is_better else ""
        yield (
            f"{one.set_name:22}{one.measure:9}{one.questions:6}{one.before:8.3f}{one.after:8.3f}"
            f"{one.difference:+8.3f}{f'{one.low:+.3f}..{one.high:+.3f}':>18}"
            f"{one.wins:6}{one.losses:6}{one.ties:6}{one.p:8.4f}{verdict}"
        )


def markdown_table(record: Record, figures: Figures) -> str:
    """Return the goals and every set's final figures, as tables for a README."""
    lines = ["| what | plain | goal | seen (95 % interval) |", "|---|---|---|---|"]
    for label, plain, goal, seen in goal_rows(figures):
        lines.append(f"| {label} | {plain} | {goal} | {seen} |")
    lines += ["", f"| set | n | stage | {' | '.join(NAMES)} |", "|---" * (3 + len(NAMES)) + "|"]
    for name, stages in figures.items():
        count = len(record.sets[name]) if name in record.sets else ""
        shown = (FINAL,) if name.startswith("xquad/") else tuple(stages)
        for stage, row in ((stage, stages[stage]) for stage in shown):
            cells = " | ".join(f"{row[measure].mean:.3f}" for measure in NAMES)
            lines.append(f"| {name} | {count} | {stage} | {cells} |")
    for name, (answerable, unanswerable) in scores_of(record).items():
        point = strictest_point(answerable, unanswerable, wrongly_refused=WRONGLY_REFUSED)
        area = area_under_roc(answerable, unanswerable)
        lines += ["", f"Unanswerable questions ({name}): AUC {area:.3f}; {_point(point)}."]
    return "\n".join(lines) + "\n"


def _refused(record: Record, name: str) -> float | None:
    verdicts = [one.is_answerable for one in record.sets[name].values()]
    return None if None in verdicts else verdicts.count(False) / len(verdicts)


def _point(point: OperatingPoint) -> str:
    return (
        f"threshold {point.threshold:.4f} refuses {point.unanswerable_refused:.1%} of the"
        f" unanswerable, {point.answerable_refused:.1%} of the answerable"
    )

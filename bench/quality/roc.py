"""How well one score tells answerable questions from unanswerable ones."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """Refusing what scores below `threshold`: which share of each kind is refused."""

    threshold: float
    answerable_refused: float
    unanswerable_refused: float


def area_under_roc(answerable: Sequence[float], unanswerable: Sequence[float]) -> float:
    """Return the chance that an answerable question scores above an unanswerable one; a tie is
    half (Hanley and McNeil, Radiology 143, 1982: the Mann-Whitney statistic over both sizes)."""
    others = np.sort(np.asarray(unanswerable, dtype=float))
    scores = np.asarray(answerable, dtype=float)
    below = np.searchsorted(others, scores, side="left")
    not_above = np.searchsorted(others, scores, side="right")
    return float((below + not_above).mean() / (2 * len(others)))


def point_at(
    threshold: float, answerable: Sequence[float], unanswerable: Sequence[float]
) -> OperatingPoint:
    return OperatingPoint(
        threshold,
        float((np.asarray(answerable) < threshold).mean()),
        float((np.asarray(unanswerable) < threshold).mean()),
    )


def strictest_point(
    answerable: Sequence[float], unanswerable: Sequence[float], *, wrongly_refused: float
) -> OperatingPoint:
    """Return the highest threshold that refuses at most this share of the answerable questions.

    It is one of their scores, and that one is answered.
    """
    ordered = np.sort(np.asarray(answerable, dtype=float))
    allowed = int(np.floor(wrongly_refused * len(ordered) + 1e-9))
    threshold = float(ordered[min(allowed, len(ordered) - 1)])
    return point_at(threshold, answerable, unanswerable)


def roc_curve(
    answerable: Sequence[float], unanswerable: Sequence[float], *, points: int = 100
) -> list[tuple[float, float]]:
    """Return (share of unanswerable answered, share of answerable answered), from (0, 0) to
    (1, 1), at evenly spaced quantiles of all scores."""
    everything = np.concatenate([answerable, unanswerable])
    thresholds = np.unique(np.quantile(everything, np.linspace(1, 0, points)))[::-1]
    curve = [(0.0, 0.0)]
    for threshold in thresholds:
        point = point_at(float(threshold), answerable, unanswerable)
        curve.append((1 - point.unanswerable_refused, 1 - point.answerable_refused))
    return [*curve, (1.0, 1.0)]

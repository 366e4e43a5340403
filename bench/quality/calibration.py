"""How far a score is from the probability that it claims to be."""

from collections.abc import Sequence

import numpy as np

BINS = 10


def calibration_error(scores: Sequence[float], hits: Sequence[float]) -> float:
    """Return the expected calibration error over ten even bins of the score.

    The sum over bins of share * |mean score - share of hits| (Guo et al., ICML 2017, eq. 3).
    """
    claimed, right = np.asarray(scores, dtype=float), np.asarray(hits, dtype=float)
    bins = np.minimum((claimed * BINS).astype(int), BINS - 1)
    gaps = [abs((claimed - right)[bins == number].sum()) for number in range(BINS)]
    return float(sum(gaps) / len(claimed))


def brier_score(scores: Sequence[float], hits: Sequence[float]) -> float:
    """Return the mean of (score - hit) squared (Brier, Monthly Weather Review 78, 1950)."""
    return float(((np.asarray(scores) - np.asarray(hits)) ** 2).mean())

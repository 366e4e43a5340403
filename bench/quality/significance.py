"""How sure a figure is: bootstrap intervals over questions, and the exact sign test."""

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2_000
_SEED = 20_240
_RESAMPLES_AT_ONCE = 200

Values = NDArray[np.float64]


def bootstrap_intervals(values: Values, *, confidence: float = 0.95) -> Values:
    """Return low and high of each column's mean, shape (columns, 2), for values of shape
    (questions, columns).

    The percentile interval (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, ch. 13):
    questions are drawn with replacement, whole rows at a time, so columns stay paired. The draws
    are the same in every run. With differences as values it is the paired bootstrap.
    """
    questions = len(values)
    if not questions:
        return np.zeros((values.shape[1], 2))
    random = np.random.default_rng(_SEED)
    even = np.full(questions, 1 / questions)
    means = [
        random.multinomial(questions, even, size=_RESAMPLES_AT_ONCE) @ values / questions
        for _ in range(RESAMPLES // _RESAMPLES_AT_ONCE)
    ]
    tail = (1 - confidence) / 2
    bounds: Values = np.quantile(np.concatenate(means), [tail, 1 - tail], axis=0).T
    return bounds


def sign_test(wins: int, losses: int) -> float:
    """Return the two-sided p-value of the exact sign test; ties are left out.

    min(1, 2 P(X <= min(wins, losses))) for X ~ Binomial(wins + losses, 1/2) (Conover, Practical
    Nonparametric Statistics, 3.4). For values of 0 and 1 this is McNemar's exact test.
    """
    return min(1.0, 2 * _lower_tail(min(wins, losses), wins + losses))


def worse_test(wins: int, losses: int) -> float:
    """Return the one-sided p-value: how likely so many losses are where nothing got worse."""
    return _lower_tail(wins, wins + losses)


def _lower_tail(successes: int, trials: int) -> float:
    """Return P(X <= successes) for X ~ Binomial(trials, 1/2), in whole numbers until the end."""
    ways, total = 1, 0
    for count in range(successes + 1):
        total += ways
        ways = ways * (trials - count) // (count + 1)
    return float(total / 2**trials)

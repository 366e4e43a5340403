"""Measures and their certainty, against values worked out by hand."""

from math import log2

import numpy as np
import pytest

from bench.quality.calibration import brier_score, calibration_error
from bench.quality.measures import hit, ndcg, reciprocal_rank
from bench.quality.roc import area_under_roc, point_at, roc_curve, strictest_point
from bench.quality.significance import bootstrap_intervals, sign_test, worse_test


def test_a_hit_counts_up_to_its_rank() -> None:
    assert [hit((4, 9), k) for k in (1, 3, 4, 10)] == [0, 0, 1, 1]
    assert hit((), 10) == 0


def test_reciprocal_rank_ends_at_the_depth() -> None:
    assert reciprocal_rank((4, 2)) == 0.5
    assert reciprocal_rank((10,)) == 0.1
    assert reciprocal_rank((11,)) == 0
    assert reciprocal_rank(()) == 0


def test_ndcg_divides_by_the_best_ranking() -> None:
    assert ndcg((1, 2, 3), 3) == 1
    # Found at 1 and 4 of two: (1 + 1/log2 5) / (1 + 1/log2 3) = 1.4307 / 1.6309.
    assert ndcg((1, 4), 2) == pytest.approx(0.8772, abs=1e-4)
    assert ndcg((2, 11), 2) == pytest.approx((1 / log2(3)) / (1 + 1 / log2(3)))
    assert ndcg((), 5) == 0


def test_ndcg_of_more_relevant_items_than_places_can_be_one() -> None:
    assert ndcg(tuple(range(1, 29)), 28) == pytest.approx(1)


def test_two_items_at_one_rank_are_no_better_than_the_best() -> None:
    assert ndcg((1, 1), 2) == 1


def test_sign_test_of_small_counts() -> None:
    # 2 * (1 + 5) / 2**5 and 2 * 1 / 2**5
    assert sign_test(4, 1) == pytest.approx(0.375)
    assert sign_test(0, 5) == pytest.approx(0.0625)
    assert sign_test(3, 3) == 1
    assert sign_test(0, 0) == 1


def test_one_sided_test_sees_losses_only() -> None:
    assert worse_test(0, 5) == pytest.approx(1 / 32)
    assert worse_test(1, 4) == pytest.approx(6 / 32)
    assert worse_test(5, 0) == 1
    assert worse_test(0, 0) == 1


def test_sign_test_of_thousands_is_a_number() -> None:
    assert sign_test(2600, 2400) == pytest.approx(0.00490, abs=5e-5)
    assert worse_test(2600, 2400) > 0.99


def test_bootstrap_interval_of_a_share_is_near_the_normal_one() -> None:
    values = np.repeat([[1.0], [0.0]], [300, 100], axis=0)
    low, high = bootstrap_intervals(values)[0]
    # 0.75 +- 1.96 * sqrt(0.75 * 0.25 / 400) = 0.75 +- 0.0424
    assert low == pytest.approx(0.7076, abs=0.006)
    assert high == pytest.approx(0.7924, abs=0.006)


def test_bootstrap_is_the_same_in_every_run_and_keeps_columns_together() -> None:
    column = np.random.default_rng(1).normal(size=50)
    bounds = bootstrap_intervals(np.stack([column, column + 1], axis=1))
    assert np.allclose(bounds[0] + 1, bounds[1])
    assert np.array_equal(bounds, bootstrap_intervals(np.stack([column, column + 1], axis=1)))


def test_area_under_roc_counts_pairs_and_half_of_the_ties() -> None:
    # 0.9 is above both; 0.5 is above 0.1 and ties with 0.5: 3.5 of 4 pairs.
    assert area_under_roc([0.9, 0.5], [0.5, 0.1]) == pytest.approx(3.5 / 4)
    assert area_under_roc([0.1], [0.9]) == 0
    assert area_under_roc([0.4, 0.4], [0.4]) == 0.5


def test_the_strictest_threshold_refuses_no_more_than_allowed() -> None:
    answerable = [number / 100 for number in range(1, 101)]
    point = strictest_point(answerable, [0.01, 0.03, 0.06, 0.9], wrongly_refused=0.05)
    assert point.threshold == pytest.approx(0.06)
    assert point.answerable_refused == pytest.approx(0.05)
    assert point.unanswerable_refused == pytest.approx(0.5)  # 0.06 itself is answered
    stricter = point_at(0.061, answerable, [0.5])
    assert stricter.answerable_refused > 0.05


def test_with_ties_the_strictest_threshold_refuses_fewer() -> None:
    answerable = [0.2] * 10 + [0.8] * 90
    point = strictest_point(answerable, [0.1], wrongly_refused=0.05)
    assert (point.threshold, point.answerable_refused) == (0.2, 0)


def test_a_roc_curve_goes_from_corner_to_corner_and_never_back() -> None:
    curve = roc_curve([0.9, 0.5], [0.5, 0.1])
    assert curve[0] == (0, 0)
    assert curve[-1] == (1, 1)
    assert (0, 0.5) in curve  # above 0.9 there is one answerable question of two
    assert curve == sorted(curve)


def test_calibration_error_adds_the_gaps_of_bins() -> None:
    # Bin 0.2: two scores of 0.25, one hit: gap 0.25. Bin 0.9: 0.95 and a hit: gap 0.05.
    error = calibration_error([0.25, 0.25, 0.95], [1, 0, 1])
    assert error == pytest.approx(2 / 3 * 0.25 + 1 / 3 * 0.05)
    assert calibration_error([1.0, 0.0], [1, 0]) == 0


def test_brier_score_is_the_mean_square() -> None:
    assert brier_score([0.5, 1.0], [1, 1]) == pytest.approx(0.125)

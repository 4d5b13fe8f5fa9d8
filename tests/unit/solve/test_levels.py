"""Threshold levels."""

from __future__ import annotations

import numpy as np
import pytest

from eesearch.core.errors import PolicyError
from eesearch.solve.levels import threshold_levels


def test_few_distinct_scores_give_every_midpoint():
    np.testing.assert_array_equal(threshold_levels(np.float32([0.5, 0.25, 0.75, 0.5]), 5), [0.375, 0.625])


def test_many_scores_are_split_into_equal_shares():
    levels = threshold_levels(np.random.default_rng(0).permutation(100) / 128.0, 4)
    assert [(np.arange(100) / 128.0 < level).sum() for level in levels] == [20, 40, 60, 80]


def test_equal_scores_are_never_split_and_a_gap_is_taken_once():
    scores = np.float32([0.1] * 2 + [0.5] * 90 + [0.6] * 4 + [0.9] * 4)  # 90 % tie: most quantiles fall into them
    levels = threshold_levels(scores, 2)
    np.testing.assert_allclose(levels, [0.3, 0.55], rtol=1e-6)  # a third is nearer to 2 below than to 92


def test_two_quantiles_in_one_tie_share_a_level():
    scores = np.float32([0.1] * 5 + [0.2] * 95 + [0.8] + [0.9])  # a third and two thirds fall into the 95
    np.testing.assert_allclose(threshold_levels(scores, 2), [0.15, 0.5], rtol=1e-6)
    np.testing.assert_allclose(threshold_levels(scores, 1), [0.15], rtol=1e-6)
    middle = np.float32([0.1] * 4 + [0.2] * 4 + [0.3] * 40 + [0.4] * 4)
    np.testing.assert_allclose(threshold_levels(middle, 2), [0.25, 0.35], rtol=1e-6)


def test_levels_rise_and_are_at_most_as_many_as_asked_for():
    scores = np.random.default_rng(1).random(1000).astype(np.float32).round(2)
    for count in range(1, 150, 7):
        levels = threshold_levels(scores, count)
        assert (np.diff(levels) > 0).all()
        assert len(levels) <= count
        assert not np.isin(levels, scores.astype(np.float64)).any()


def test_neighbouring_float32_scores_have_a_threshold_between_them():
    low = np.float32(0.99999994)
    scores = np.array([low, np.nextafter(low, np.float32(2))], np.float32)
    (level,) = threshold_levels(scores, 3)
    assert float(scores[0]) < level < float(scores[1])


def test_constant_scores_have_no_level():
    assert threshold_levels(np.ones(4, np.float32), 3).shape == (0,)


def test_scores_that_are_not_numbers_are_ignored():
    np.testing.assert_array_equal(threshold_levels(np.float32([0.0, np.nan, 1.0]), 3), [0.5])


def test_refuses_fewer_than_one_level():
    with pytest.raises(PolicyError, match="got 0"):
        threshold_levels(np.zeros(3), 0)

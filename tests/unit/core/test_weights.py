"""Class weights: whole numbers in the right ratio, weighted shares, and how surely these are known."""

from __future__ import annotations

from math import inf, nan

import numpy as np
import pytest

from eesearch.core.errors import DataError
from eesearch.core.paired import Paired, wilson
from eesearch.core.weights import CLOSE, MOST, class_units, effective_samples, mean_right

NAMES = ("cat", "dog", "eel")
LABELS = np.repeat([0, 1, 2], [60, 30, 10])


@pytest.mark.parametrize(
    ("weights", "units"),
    [
        ({"dog": 5}, [1, 5, 1]),
        ({"cat": 0.5, "dog": 0.5, "eel": 0.5}, [1, 1, 1]),
        ({"cat": 1, "dog": 1.5, "eel": 2}, [2, 3, 4]),
        ({"cat": 0.1, "eel": 0.25}, [2, 20, 5]),
        ("balanced", [1, 2, 6]),
    ],
)
def test_weights_become_whole_numbers_in_their_ratio(weights, units):
    assert class_units(weights, NAMES, LABELS).tolist() == units


def test_a_ratio_that_no_small_numbers_have_is_met_closely():
    units = class_units({"dog": np.pi, "eel": np.e}, NAMES, LABELS)
    assert units[1] / units[0] == pytest.approx(np.pi, rel=CLOSE)
    assert units[2] / units[0] == pytest.approx(np.e, rel=CLOSE)


def test_there_is_a_limit_to_what_all_samples_count():
    labels = np.repeat([0, 1, 2], 20_000)
    units = class_units({"dog": np.pi, "eel": np.e}, NAMES, labels)
    assert MOST < np.bincount(labels) @ units <= 16 * len(labels)
    assert units[1] / units[0] == pytest.approx(np.pi, rel=0.1)


def test_balanced_is_the_mean_recall():
    rng = np.random.default_rng(0)
    right = rng.random(100) < 0.7
    weights = class_units("balanced", NAMES, LABELS)[LABELS]
    recalls = [right[c == LABELS].mean() for c in range(3)]
    assert mean_right(right, weights) == pytest.approx(np.mean(recalls))
    assert mean_right(np.stack([right, ~right]), weights).tolist() == pytest.approx(
        [np.mean(recalls), 1 - np.mean(recalls)]
    )
    assert mean_right(right, None) == right.mean()


@pytest.mark.parametrize("weight", [0.0, -1.0, nan, inf])
def test_a_weight_is_a_number_above_0(weight):
    with pytest.raises(DataError, match="the weight of class dog is not a number above 0"):
        class_units({"dog": weight}, NAMES, LABELS)


def test_an_unknown_class_is_told_with_those_that_there_are():
    with pytest.raises(DataError, match="that the data do not have; got cow; expected cat, dog, eel"):
        class_units({"cow": 2.0}, NAMES, LABELS)


@pytest.mark.parametrize(
    ("weights", "sizes"), [({"0": 1e9}, (60, 30)), ({"0": 100}, (5000, 5000)), ("balanced", (100_000, *[9] * 39))]
)
def test_weights_for_which_there_is_no_room_are_refused(weights, sizes):
    names, labels = [str(c) for c in range(len(sizes))], np.repeat(np.arange(len(sizes)), sizes)
    with pytest.raises(
        DataError, match=r"too far apart for so many samples; got 1 to .* together .*; expected at most"
    ):
        class_units(weights, names, labels)


@pytest.mark.parametrize("rates", [(0.9, 0.9, 0.9), (0.97, 0.9, 0.6)])
def test_intervals_of_weighted_shares_hold_the_truth_as_often_as_they_say(rates):
    """2,000 made-up splits, a rare class that counts 20 times; 95 % is promised."""
    rng, labels = np.random.default_rng(1), np.repeat([0, 1, 2], [600, 300, 100])
    weights = np.array([1, 3, 20])[labels]
    truth, held, held_paired = float(np.array(rates)[labels] @ weights / weights.sum()), 0, 0
    for _ in range(2000):
        right = rng.random(1000) < np.array(rates)[labels]
        other = right ^ (rng.random(1000) < 0.04)
        # who flips is as often lost as gained only at 50 %: the true drop follows from the rates
        drop = 0.04 * float((2 * np.array(rates) - 1)[labels] @ weights / weights.sum())
        low, high = wilson(float(mean_right(right, weights)), effective_samples(~right, weights))
        held += low <= truth <= high
        low, high = Paired.of(other, right, weights).interval()
        held_paired += low <= drop <= high
    assert held / 2000 >= 0.94
    assert held_paired / 2000 >= 0.94


def test_equal_weights_change_nothing():
    rng = np.random.default_rng(2)
    right, other = rng.random((2, 500)) < 0.8
    seven = np.full(500, 7)
    plain, weighed = Paired.of(right, other), Paired.of(right, other, seven)
    assert weighed.model_dump() == pytest.approx(plain.model_dump())
    assert effective_samples(right, seven) == pytest.approx(500)
    assert isinstance(plain.lost, int)

"""The built-in criteria against figures worked out by hand."""

from __future__ import annotations

from math import log

import numpy as np
import pytest

from eesearch.core.registry import CRITERIA
from eesearch.exits.criteria import entropy_score, margin_score, max_prob_score, probabilities

HALVES = np.array([[0.5, 0.25, 0.25, 0.0]])


def test_entropy_of_a_half_and_two_quarters():
    assert entropy_score(HALVES)[0] == pytest.approx(1.0 - 1.5 * log(2) / log(4))


def test_max_prob_and_margin_of_a_half_and_two_quarters():
    assert max_prob_score(HALVES)[0] == 0.5
    assert margin_score(HALVES)[0] == 0.25


def test_margin_is_0_when_two_classes_tie_at_the_top():
    assert margin_score(np.array([[0.1, 0.45, 0.45]]))[0] == 0.0


def test_margin_of_two_classes_is_their_difference():
    assert margin_score(np.array([[0.3, 0.7]]))[0] == pytest.approx(0.4)


def test_temperature_divides_the_logits():
    hot = probabilities(np.array([[0.0, 2.0 * log(3.0)]]), np.array([[2.0]]))
    np.testing.assert_allclose(hot, [[0.25, 0.75]])


def test_huge_logits_do_not_overflow():
    sure = probabilities(np.array([[1e38, -1e38]], np.float32), np.ones((1, 1), np.float32))
    np.testing.assert_array_equal(sure, [[1.0, 0.0]])


def test_the_registry_holds_all_three_with_memory_last():
    assert {name: CRITERIA[name].memory for name in ("entropy", "max_prob", "margin")} == dict.fromkeys(
        ("entropy", "max_prob", "margin"), "last"
    )

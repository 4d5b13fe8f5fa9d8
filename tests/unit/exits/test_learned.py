"""Learned criteria against figures worked out by hand."""

from __future__ import annotations

from math import exp, log

import numpy as np
import pytest

from eesearch.core.policy import decision_named
from eesearch.core.registry import CRITERIA
from eesearch.exits.gates import features
from eesearch.exits.learned import EARLIER, FITTED, parameter_widths, path_features, sigmoid

# Probabilities of three exits about one sample: they say class 0, class 1, class 1.
SAID = np.array([[[0.6, 0.3, 0.1]], [[0.2, 0.7, 0.1]], [[0.1, 0.8, 0.1]]], np.float32)
LOGITS = np.log(SAID)
WARM = np.ones((3, 1), np.float32)


def test_the_sigmoid_of_large_numbers_does_not_overflow():
    x = np.array([-1e4, -log(3.0), 0.0, log(3.0), 1e4], np.float32)
    np.testing.assert_allclose(sigmoid(x), [0.0, 0.25, 0.5, 0.75, 1.0], rtol=1e-6)


def test_the_summary_of_earlier_exits_by_hand():
    seen = path_features(LOGITS, WARM)
    np.testing.assert_allclose(seen[:, :6], features(SAID[2]), rtol=1e-6)
    # there are some; their mean probability of class 1; one of two says it; the second's probability of it; how sure
    # the second is, and the surer of both
    np.testing.assert_allclose(seen[0, 6:], [1.0, 0.5, 0.5, 0.7, 0.7, 0.7], rtol=1e-6)
    np.testing.assert_allclose(path_features(LOGITS[[1, 0, 2]], WARM)[0, 6:], [1.0, 0.5, 0.5, 0.3, 0.6, 0.7], rtol=1e-6)


def test_at_the_first_stop_there_is_nothing_to_sum_up():
    assert path_features(LOGITS[:1], WARM[:1])[0, 6:].tolist() == [0.0] * EARLIER


def test_earlier_exits_are_tempered_too():
    heat = np.array([[1.0], [2.0], [1.0]], np.float32)
    cooled = np.sqrt(SAID[1, 0]) / np.sqrt(SAID[1, 0]).sum()
    assert path_features(LOGITS, heat)[0, 9] == pytest.approx(cooled[1], rel=1e-6)


def test_own_gate_is_the_mean_of_the_raw_logits():
    logits = np.array([[[9.0, 9.0]], [[2.0, -2.0 + 2.0 * log(3.0)]]], np.float32)
    answer, score = CRITERIA["own_gate"].function(logits, {"temperature": np.array([[1.0], [7.0]], np.float32)})
    assert score[0] == pytest.approx(0.75)
    assert answer[0].sum() == pytest.approx(1.0)


def test_learned_is_a_logistic_regression_on_the_features():
    row = np.array([[0.0] * 7, [-1.0, 2.0, 0.0, 0.0, 0.5, 0.0, 0.0]], np.float32)
    parameters = {"temperature": WARM[:2], "learned": row}
    _, score = CRITERIA["learned"].function(LOGITS[:2], parameters)
    assert score[0] == pytest.approx(1.0 / (1.0 + exp(-(-1.0 + 2.0 * 0.7 + 0.5 * 0.2))), rel=1e-5)


def test_learned_path_weighs_what_earlier_exits_say():
    row = np.zeros((3, 13), np.float32)
    row[2, [0, 8, 9]] = [-0.5, 3.0, 2.0]  # intercept, mean probability of this class, share that agrees
    answer, score = CRITERIA["learned_path"].function(LOGITS, {"temperature": WARM, "learned_path": row})
    assert score[0] == pytest.approx(1.0 / (1.0 + exp(-(-0.5 + 3.0 * 0.5 + 2.0 * 0.5))), rel=1e-5)
    np.testing.assert_allclose(answer, SAID[2], rtol=1e-5)


def test_every_fit_that_a_built_in_decision_needs_has_a_width():
    needs = {kind for name in CRITERIA for kind in CRITERIA[name].needs} | set(decision_named("margin/combined").needs)
    assert needs | {*FITTED, "temperature"} == set(parameter_widths(3))
    assert parameter_widths(3)["learned"] == 1 + features(SAID[0]).shape[1]
    assert parameter_widths(3)["learned_path"] == 1 + path_features(LOGITS, WARM).shape[1]

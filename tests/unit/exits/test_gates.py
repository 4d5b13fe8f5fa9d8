"""The arithmetic of a gate: a linear part and a small tree on what an exit says."""

from __future__ import annotations

from math import log

import numpy as np
import pytest
import torch

from eesearch.core.design import ExitId
from eesearch.core.policy import Fit, Scoring
from eesearch.core.registry import CRITERIA
from eesearch.core.tables import ExitTable
from eesearch.exits.criteria import probabilities
from eesearch.exits.gates import (
    DEPTH,
    LEAVES,
    NEVER,
    NODES,
    features,
    figures,
    gate_score,
    gate_width,
    linear_gate,
    tree_gate,
)
from eesearch.exits.routing import score_table


def answers(samples=200, classes=3, seed=0):
    """Random probabilities. [N, C]"""
    logits = np.random.default_rng(seed).normal(size=(samples, classes)).astype(np.float32) * 3
    return probabilities(logits, np.ones(1, np.float32))


def random_tree(classes, seed=0):
    rng = np.random.default_rng(seed)
    return tree_gate(rng.integers(0, 3 + classes, NODES), rng.random(NODES), rng.uniform(-1, 1, LEAVES), classes)


def leaf_by_hand(seen, feature, threshold):
    """Walk the heap as one reads it. `seen` [P]"""
    node = 0
    for _ in range(DEPTH):
        node = 2 * node + (1 if seen[feature[node]] <= threshold[node] else 2)
    return node - NODES


def test_features_are_the_figures_then_the_probabilities():
    seen = features(np.float32([[0.5, 0.25, 0.25], [0.0, 1.0, 0.0]]))
    entropy = 0.5 * log(2) + 0.5 * log(4)
    np.testing.assert_allclose(seen[0], [0.5, 0.25, 1 - entropy / log(3), 0.5, 0.25, 0.25], rtol=1e-6)
    np.testing.assert_allclose(seen[1], [1, 1, 1, 0, 1, 0])


def test_zeros_score_nothing():
    assert (gate_score(features(answers()), np.zeros(gate_width(3), np.float32)) == 0.0).all()


def test_a_linear_gate_is_its_formula():
    seen, slopes = features(answers()), np.array([1.0, -2.0, 0.5, 3.0, 0.0, -1.0])
    score = gate_score(seen, linear_gate(0.25, slopes, 3))
    np.testing.assert_allclose(score, 0.25 + seen.astype(np.float64) @ slopes, rtol=0, atol=1e-6)


def test_a_tree_is_walked_from_its_root_equal_values_to_the_left():
    rng = np.random.default_rng(1)
    seen = features(answers(500))
    feature, threshold, leaf = rng.integers(0, 6, NODES), rng.random(NODES), np.arange(LEAVES) / 16 - 0.5
    threshold[:7] = seen[:7, feature[:7]].diagonal()  # some lie on a sample
    expected = [leaf[leaf_by_hand(row, feature, threshold)] for row in seen]
    assert gate_score(seen, tree_gate(feature, threshold, leaf, 3)).tolist() == expected
    assert len(set(expected)) > 8


def test_both_parts_add_up():
    seen, slopes = features(answers()), [1.0, 2.0]
    both = linear_gate(-1.0, slopes, 3) + random_tree(3)
    parts = gate_score(seen, linear_gate(-1.0, slopes, 3)) + gate_score(seen, random_tree(3))
    np.testing.assert_allclose(gate_score(seen, both), parts, rtol=0, atol=1e-6)


def test_a_threshold_between_two_floats_keeps_them_apart():
    """In float32 the nearest number to such a threshold may be the upper one, which must go right."""
    low = np.float32(0.5)
    high = np.nextafter(low, np.float32(1))
    row = tree_gate(np.zeros(NODES), np.full(NODES, float(low) * 0.25 + float(high) * 0.75), np.arange(LEAVES), 2)
    seen = np.array([[low, 0, 0, 0, 0], [high, 0, 0, 0, 0]], np.float32)
    assert gate_score(seen, row).tolist() == [0.0, LEAVES - 1.0]


@pytest.mark.parametrize("classes", [2, 10])
def test_numpy_and_torch_take_the_same_leaf(classes):
    seen, row = features(answers(2000, classes)), random_tree(classes, seed=2)
    score = gate_score(torch.from_numpy(seen), torch.from_numpy(row))
    assert np.array_equal(score.numpy(), gate_score(seen, row))
    linear = linear_gate(0.1, np.linspace(-1, 1, 3 + classes), classes)
    score = gate_score(torch.from_numpy(seen), torch.from_numpy(row + linear))
    np.testing.assert_allclose(score.numpy(), gate_score(seen, row + linear), rtol=0, atol=1e-6)


def test_a_gate_that_ignores_the_classes_needs_the_figures_only():
    answer = answers()
    row = linear_gate(0.3, [1.0, -2.0, 0.5], 3) + tree_gate(np.arange(NODES) % 3, np.full(NODES, 0.6), np.ones(16), 3)
    np.testing.assert_allclose(gate_score(figures(answer), row), gate_score(features(answer), row), rtol=0, atol=1e-6)


def test_never_is_never():
    slopes = np.full(6, 100.0)
    assert (gate_score(features(answers()), linear_gate(NEVER, slopes, 3) + random_tree(3)) < 0.0).all()


def test_the_criterion_reads_the_last_exit_only_and_its_temperature():
    logits = np.random.default_rng(0).normal(size=(2, 50, 3)).astype(np.float32)
    rows = np.stack([random_tree(3), linear_gate(0.0, [1.0], 3)])
    heat = np.float32([[1.0], [2.0]])
    answer, score = CRITERIA["gate"].function(logits, {"temperature": heat, "gate": rows})
    expected = probabilities(logits[1], np.float32([2.0]))
    np.testing.assert_array_equal(answer, expected)
    np.testing.assert_array_equal(score, expected.max(-1))


def test_on_calibration_each_fold_has_its_own_gates():
    exits = (ExitId(network="n", cut="a", head="h"),)
    fold = np.int16([0, 1, 0, 1])
    rows = np.stack([linear_gate(value, [], 2) for value in (1.0, 2.0, 3.0)])[:, None]  # [1 + F, E, D]
    scoring = Scoring("gate", fits=(Fit("gate", exits, rows, fold),))
    for split, expected in (("cal", [2, 3, 2, 3]), ("test", [1, 1, 1, 1])):
        table = ExitTable(np.zeros((1, 4, 2), np.float32), np.zeros(4, np.int64), exits, split, "s")
        assert score_table(table, scoring)[0].tolist() == expected

"""Expected cost against sums by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from eesearch.exits.expected import expected_cost, incremental, pass_ratio, soft_cost, stop_probabilities


def test_expected_cost_charges_rejected_heads():
    # segments 10 and 10, head 2: a quarter leaves at 12, the others pay the head as well as both segments: 22
    assert expected_cost(np.array([0.25, 0.75]), np.array([12.0, 22.0])) == 0.25 * 12 + 0.75 * 22


def test_incremental_undoes_cumulative():
    np.testing.assert_array_equal(incremental(np.array([3.0, 5.0, 9.0])), [3.0, 2.0, 4.0])


def test_pass_ratio_is_1_where_nobody_arrives():
    np.testing.assert_allclose(pass_ratio(np.array([1.0, 0.5, 0.0, 0.0])), [0.5, 0.0, 1.0])


def test_stop_probabilities_take_the_last_gate_as_1():
    got = stop_probabilities(np.array([[0.5, 1.0], [0.5, 0.2], [0.1, 0.1]]))
    np.testing.assert_allclose(got, [[0.5, 1.0], [0.25, 0.0], [0.25, 0.0]])


def test_soft_cost_is_stop_probability_times_cumulative():
    assert soft_cost(np.array([[0.5], [0.0]]), np.array([2.0, 10.0]))[0] == 0.5 * 2 + 0.5 * 10


def test_gradients_flow_through_the_gates():
    gates = torch.tensor([[0.5], [0.5], [0.3]], requires_grad=True)
    soft_cost(gates, torch.tensor([1.0, 2.0, 4.0])).sum().backward()
    # d/dg0 [g0 + (1-g0) (2 g1 + 4 (1-g1))] = 1 - 3; d/dg1 = (1-g0) (2 - 4)
    assert gates.grad.flatten().tolist() == pytest.approx([-2.0, -1.0, 0.0])

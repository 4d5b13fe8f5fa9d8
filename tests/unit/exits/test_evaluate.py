"""Evaluating policies on a table."""

from __future__ import annotations

from math import inf

import numpy as np
import pytest

from eesearch.core.costs import StageCosts
from eesearch.core.design import OUTPUT, OWN, ExitId
from eesearch.core.errors import CostError, PolicyError
from eesearch.core.policy import Fit, Policy, Stop
from eesearch.core.tables import ExitTable
from eesearch.exits.evaluate import backbone_evaluation, evaluate

A, B, END = (
    ExitId(network="n", cut="a", head="linear-avg1"),
    ExitId(network="n", cut="b", head="linear-avg1"),
    ExitId(network="n", cut=OUTPUT, head=OWN),
)
EXITS = (A, B, END)
STEP = np.array([[3.0, 6.0, 9.0], [inf, 4.0, 7.0], [inf, inf, 4.0], [inf, inf, inf]])
MACS = StageCosts(STEP, EXITS, "macs", 9.0)


@pytest.fixture
def table():
    """Exit a is sure of samples 0 to 2 and wrong about 2; exit b is sure of 3; the own classifier is right but on 0."""
    gap = np.array([[4.0, 4.0, -4.0, 0.1, 0.1], [1.0, 1.0, 1.0, 5.0, -1.0], [-3.0, 3.0, 3.0, 3.0, 3.0]])
    logits = np.stack([np.zeros_like(gap), gap], -1).astype(np.float32)
    return ExitTable(logits, np.ones(5, np.int64), EXITS, "cal", "s")


def policy(*stops, **fields):
    return Policy(stops=[Stop(exit=e, threshold=t) for e, t in stops], criterion="max_prob", **fields)


def test_accuracy_rates_and_costs_by_hand(table):
    got = evaluate(policy((A, 0.95), (B, 0.95), (END, -inf)), table, [MACS])
    assert got.exit_rate == (0.6, 0.2, 0.2)
    assert got.accuracy == 0.8
    assert got.samples == 5
    macs = got.costs["macs"]
    assert (macs.mean, macs.p95, macs.worst) == (pytest.approx((3 * 3 + 7 + 11) / 5), 11.0, 11.0)


def test_p95_is_a_cost_that_some_sample_pays(table):
    mostly = ExitTable(np.repeat(table.logits[:, [0]], 40, 1), np.ones(40, np.int64), EXITS, "cal", "s")
    mostly.logits[0, 0] = 0.0  # one sample of 40 goes on
    cost = evaluate(policy((A, 0.95), (END, -inf)), mostly, [MACS]).costs["macs"]
    assert (cost.p95, cost.worst) == (3.0, 10.0)


def test_worst_counts_the_last_stop_even_if_nobody_gets_there(table):
    got = evaluate(policy((A, 0.0), (END, -inf)), table, [MACS])
    assert got.exit_rate == (1.0, 0.0)
    assert (got.costs["macs"].p95, got.costs["macs"].worst) == (3.0, 10.0)


def test_an_infinite_threshold_pays_the_head_for_nothing(table):
    got = evaluate(policy((A, inf), (END, -inf)), table, [MACS])
    assert got.accuracy == table.accuracy[2]
    assert got.costs["macs"].mean == 10.0


def test_the_last_stop_may_be_an_early_exit(table):
    got = evaluate(policy((B, -inf)), table, [MACS])
    assert got.accuracy == table.accuracy[1]
    assert got.costs["macs"].worst == 6.0


def test_every_axis_lands_in_the_costs(table):
    latency = StageCosts(2.0 * STEP, EXITS, "latency_ms", 18.0)
    got = evaluate(policy((B, -inf)), table, [MACS, latency])
    assert {axis: cost.mean for axis, cost in got.costs.items()} == {"macs": 6.0, "latency_ms": 12.0}


def test_uses_the_fit_of_the_policy(table):
    cold = Fit("temperature", EXITS, np.full((1, 3, 1), 0.01, np.float32), np.empty(0, np.int16))
    got = evaluate(policy((A, 0.95), (END, -inf), fits=(cold.key,)), table, [MACS], [cold])
    assert got.exit_rate == (1.0, 0.0)


def test_refuses_a_policy_without_its_fit_and_a_fit_without_its_policy(table):
    fit = Fit("temperature", EXITS, np.ones((1, 3, 1), np.float32), np.empty(0, np.int16))
    with pytest.raises(PolicyError, match="do not belong together"):
        evaluate(policy((END, -inf), fits=("k",)), table, [MACS])
    with pytest.raises(PolicyError, match="do not belong together"):
        evaluate(policy((END, -inf)), table, [MACS], [fit])
    with pytest.raises(PolicyError, match="do not belong together"):
        evaluate(policy((END, -inf), fits=("k",)), table, [MACS], [fit])


def test_refuses_exits_in_an_order_that_no_sample_can_meet(table):
    with pytest.raises(CostError, match="cannot meet these exits in this order"):
        evaluate(policy((B, 0.5), (A, -inf)), table, [MACS])


def test_refuses_an_exit_that_is_not_in_the_table(table):
    with pytest.raises(PolicyError, match="does not hold exit n:b"):
        evaluate(policy((B, -inf)), table.select([A, END]), [MACS])


def test_backbone_is_its_own_classifier_at_the_cost_without_heads(table):
    got = backbone_evaluation(table, [StageCosts(STEP, EXITS, "macs", 8.5)], END)
    cost = got.costs["macs"]
    assert (cost.mean, cost.p95, cost.worst) == (8.5, 8.5, 8.5)
    assert (got.accuracy, got.exit_rate, got.strategy, got.design) == (0.8, (1.0,), "backbone", "")
    assert got.policy.exits == (END,)

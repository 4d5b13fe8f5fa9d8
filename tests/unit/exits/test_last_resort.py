"""The priced last resort."""

from __future__ import annotations

from math import inf

import numpy as np
import pytest

from eesearch.core.costs import StageCosts
from eesearch.core.design import ASK, OUTPUT, OWN, ExitId
from eesearch.core.errors import CostError
from eesearch.core.policy import Fit, Policy, Scoring, Stop
from eesearch.core.tables import ExitTable
from eesearch.exits.evaluate import evaluate
from eesearch.exits.last_resort import with_last_resort
from eesearch.exits.routing import path_outputs

A, END = ExitId(network="n", cut="a", head="h"), ExitId(network="n", cut=OUTPUT, head=OWN)


@pytest.fixture
def table():
    """The own classifier is sure of samples 0 and 1 and right about 0 and 2."""
    logits = np.array([[[1, 0], [1, 0], [1, 0]], [[9, 0], [9, 0], [0, 0.1]]], np.float32)
    return ExitTable(logits, np.array([0, 1, 1]), (A, END), "cal", "s")


@pytest.fixture
def costs():
    return StageCosts(np.array([[2.0, 5.0], [inf, 4.0], [inf, inf]]), (A, END), "macs", 5.0)


def test_it_is_right_about_everything_and_costs_its_price_on_top(table, costs):
    asked, (priced,) = with_last_resort(table, [costs], {"macs": 100.0})
    assert asked.correct[-1].all()
    np.testing.assert_array_equal(asked.correct[:-1], table.correct)
    stops = (Stop(exit=A, threshold=inf), Stop(exit=END, threshold=0.9), Stop(exit=ASK, threshold=-inf))
    got = evaluate(Policy(stops=stops, criterion="max_prob"), asked, [priced])
    assert got.exit_rate == pytest.approx((0.0, 2 / 3, 1 / 3))
    assert got.accuracy == pytest.approx(2 / 3)  # sample 1 left with a wrong answer
    assert got.costs["macs"].mean == pytest.approx(6.0 + 100.0 / 3)
    assert got.costs["macs"].worst == 106.0


def test_nothing_follows_it_and_anything_may_lead_there(table, costs):
    _, (priced,) = with_last_resort(table, [costs], {"macs": 7.0})
    assert priced.exits == (A, END, ASK)
    np.testing.assert_array_equal(priced.step[:, -1], [7.0, 7.0, 7.0, inf])
    assert np.isinf(priced.step[-1]).all()
    np.testing.assert_array_equal(priced.step[:-1, :-1], costs.step)
    assert priced.backbone == costs.backbone


@pytest.mark.parametrize("price", [{}, {"latency_ms": 1.0}, {"macs": -1.0}, {"macs": float("nan")}])
def test_refuses_an_axis_without_a_price(table, costs, price):
    with pytest.raises(CostError, match="last resort has no price in macs"):
        with_last_resort(table, [costs], price)


def test_whoever_answers_before_it_is_not_heard(table, costs):
    asked, _ = with_last_resort(table, [costs], {"macs": 1.0})
    fit = Fit("ensemble", (A, END), np.ones((1, 2, 1), np.float32), np.empty(0, np.int16))
    for scoring in (Scoring("margin", "mean", (fit,)), Scoring("max_prob", "most_confident"), Scoring("patience")):
        scores, correct = path_outputs(asked, [0, 1, 2], scoring)
        assert correct[2].all()
        assert (scores[2] == inf).all()
        np.testing.assert_array_equal(scores[:2], path_outputs(table, [0, 1], scoring)[0])

"""Temperatures, score tables and where samples leave."""

from __future__ import annotations

from math import inf, nan

import numpy as np
import pytest

from eesearch.core.design import OUTPUT, OWN, ExitId
from eesearch.core.errors import InputError, PolicyError
from eesearch.core.policy import Criterion, Fit
from eesearch.core.registry import CRITERIA
from eesearch.core.tables import ExitTable
from eesearch.exits.routing import exit_rate, reach, route, score_table, temperatures

EXITS = (
    ExitId(network="n", cut="a", head="linear-avg1"),
    ExitId(network="n", cut="b", head="linear-avg1"),
    ExitId(network="n", cut=OUTPUT, head=OWN),
)


@pytest.fixture
def table():
    logits = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
    return ExitTable(logits, np.array([0, 1, 2, 3]), EXITS, "cal", "s")


@pytest.fixture
def fit():
    """Its exits are in another order than the table's."""
    deployed = np.array([3.0, 1.0, 2.0], np.float32)
    return Fit("temperature", (EXITS[2], EXITS[0], EXITS[1]), deployed, np.arange(1.0, 13.0).reshape(3, 4))


def on(split, table):
    return ExitTable(table.logits, table.labels, table.exits, split, table.samples)


def test_temperatures_are_1_without_a_fit(table):
    np.testing.assert_array_equal(temperatures(None, table), np.ones((3, 1)))


def test_temperatures_on_calibration_are_out_of_fold(table, fit):
    np.testing.assert_array_equal(temperatures(fit, table), fit.calibration[[1, 2, 0]])


def test_temperatures_elsewhere_are_the_deployed_ones(table, fit):
    np.testing.assert_array_equal(temperatures(fit, on("test", table)), [[1.0], [2.0], [3.0]])


def test_temperatures_refuse_another_calibration_split(table, fit):
    short = ExitTable(table.logits[:, :3], table.labels[:3], EXITS, "cal", "other")
    with pytest.raises(PolicyError, match="another calibration split; got 4 samples; expected 3"):
        temperatures(fit, short)


def test_temperatures_refuse_an_unknown_exit(table, fit):
    with pytest.raises(PolicyError, match="knows nothing of exit"):
        temperatures(Fit("temperature", EXITS[:2], fit.deployed[:2], fit.calibration[:2]), table)


def test_score_table_scores_each_exit_by_itself(table, fit):
    scores = score_table(table, "margin", fit)
    for row in range(3):
        heat = temperatures(fit, table)[row : row + 1]
        expected = CRITERIA["margin"].function(table.logits[row : row + 1], heat)[1]
        np.testing.assert_array_equal(scores[row], expected)
    assert scores.dtype == np.float32


def test_score_table_refuses_an_unknown_criterion(table):
    with pytest.raises(InputError, match="there is no criterion 'vibes'"):
        score_table(table, "vibes")


def test_score_table_refuses_a_criterion_of_paths(table, monkeypatch):
    path_criterion = Criterion(CRITERIA["margin"].function, memory="all")
    monkeypatch.setitem(CRITERIA._entries, "path", path_criterion)
    with pytest.raises(PolicyError, match="has no score per exit"):
        score_table(table, "path")


def test_route_leaves_at_the_first_score_that_reaches_its_threshold():
    scores = np.float32([[0.9, 0.5, 0.1, 0.5], [0.9, 0.9, 0.2, 0.7], [0.0, 0.0, 0.0, 0.0]])
    np.testing.assert_array_equal(route(scores, [0.75, 0.7, -inf]), [0, 1, 2, 2])  # float32(0.7) < 0.7


def test_route_leaves_on_an_equal_score():
    np.testing.assert_array_equal(route(np.float32([[0.5, 0.25], [0, 0]]), [0.5, -inf]), [0, 1])


def test_route_keeps_neighbouring_float32_scores_apart():
    low = np.float32(0.7)
    high = np.nextafter(low, np.float32(1))
    middle = (float(low) + float(high)) / 2
    np.testing.assert_array_equal(route(np.array([[low, high], [0, 0]], np.float32), [middle, -inf]), [1, 0])


def test_route_never_lets_a_nan_leave_early_nor_stay_at_the_end():
    np.testing.assert_array_equal(route(np.float32([[nan], [nan]]), [0.0, -inf]), [1])


@pytest.mark.parametrize("thresholds", [[0.5], [0.5, 0.5], [0.5, 0.5, -inf]])
def test_route_refuses_thresholds_that_do_not_fit(thresholds):
    with pytest.raises(PolicyError, match="the last -inf"):
        route(np.zeros((2, 3), np.float32), thresholds)


def test_reach_and_exit_rate_count_stops_where_nobody_leaves():
    stop = np.array([0, 2, 2, 0, 2])
    np.testing.assert_allclose(exit_rate(stop, 4), [0.4, 0.0, 0.6, 0.0])
    np.testing.assert_allclose(reach(stop, 4), [1.0, 0.6, 0.6, 0.0])

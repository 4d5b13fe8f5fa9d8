"""Temperatures, score tables and where samples leave."""

from __future__ import annotations

from math import inf, nan

import numpy as np
import pytest

from eesearch.core.design import OUTPUT, OWN, ExitId
from eesearch.core.errors import InputError, PolicyError
from eesearch.core.policy import Fit, Scoring
from eesearch.core.tables import ExitTable
from eesearch.exits.routing import exit_rate, path_outputs, reach, route, score_table, stop_output

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
    """Its exits are in another order than the table's; its two folds are two and three times as hot."""
    deployed = np.array([3.0, 1.0, 2.0], np.float32)[:, None]
    parameters = np.stack([deployed, 2 * deployed, 3 * deployed])
    return Fit("temperature", (EXITS[2], EXITS[0], EXITS[1]), parameters, np.array([0, 1, 1, 0], np.int16))


def on(split, table):
    return ExitTable(table.logits, table.labels, table.exits, split, table.samples)


def margins(table, heat):
    """Scores of the margin criterion under these temperatures. [E, N]"""
    scaled = table.logits / np.asarray(heat, np.float32)[:, :, None]
    p = np.sort(np.exp(scaled) / np.exp(scaled).sum(-1, keepdims=True))
    return p[..., -1] - p[..., -2]


def test_scores_are_untempered_without_a_fit(table):
    np.testing.assert_allclose(score_table(table, Scoring("margin")), margins(table, np.ones((3, 1))), atol=1e-6)


def test_scores_on_calibration_are_out_of_fold(table, fit):
    heat = np.array([[1.0], [2.0], [3.0]]) * [2.0, 3.0, 3.0, 2.0]
    got = score_table(table, Scoring("margin", fits=(fit,)))
    np.testing.assert_allclose(got, margins(table, heat), atol=1e-6)
    assert got.dtype == np.float32


def test_scores_elsewhere_are_the_deployed_ones(table, fit):
    got = score_table(on("test", table), Scoring("margin", fits=(fit,)))
    np.testing.assert_allclose(got, margins(table, [[1.0], [2.0], [3.0]]), atol=1e-6)


def test_scores_refuse_another_calibration_split(table, fit):
    short = ExitTable(table.logits[:, :3], table.labels[:3], EXITS, "cal", "other")
    with pytest.raises(PolicyError, match="another calibration split; got 4 samples; expected 3"):
        score_table(short, Scoring(fits=(fit,)))


def test_scores_refuse_an_unknown_exit(table, fit):
    with pytest.raises(PolicyError, match="knows nothing of exit"):
        score_table(table, Scoring(fits=(Fit("temperature", EXITS[:2], fit.parameters[:, :2], fit.fold),)))


def test_score_table_refuses_an_unknown_criterion(table):
    with pytest.raises(InputError, match="there is no criterion 'vibes'"):
        score_table(table, Scoring("vibes"))


@pytest.mark.parametrize("scoring", [Scoring("patience"), Scoring("margin", "most_confident")])
def test_score_table_refuses_scores_of_paths(table, scoring):
    with pytest.raises(PolicyError, match="has no score per exit"):
        score_table(table, scoring)


def test_stops_of_one_exit_say_what_the_table_says(table, fit):
    scoring = Scoring("margin", fits=(fit,))
    score, correct = stop_output(table, [0, 2], scoring)
    np.testing.assert_array_equal(score, score_table(table, scoring)[2])
    np.testing.assert_array_equal(correct, table.correct[2])


def test_patience_counts_equal_answers_in_a_row():
    says = np.eye(3, dtype=np.float32)[[[0, 0, 1, 2], [0, 1, 1, 0], [0, 1, 0, 2]]]  # [E, N, C]
    table = ExitTable(says, np.array([0, 1, 1, 2]), EXITS, "test", "s")
    scores, correct = path_outputs(table, [0, 1, 2], Scoring("patience"))
    assert scores.tolist() == [[1, 1, 1, 1], [2, 1, 2, 1], [3, 2, 1, 1]]
    np.testing.assert_array_equal(correct, table.correct)


def test_the_most_confident_exit_so_far_answers():
    gaps = np.array([[3.0, 1.0], [2.0, 2.0], [1.0, 4.0]], np.float32)
    logits = np.stack([gaps, np.zeros((3, 2))], -1).astype(np.float32)
    logits[2] = logits[2, :, ::-1]  # the last exit says the other class
    table = ExitTable(logits, np.array([0, 1]), EXITS, "test", "s")
    scores, correct = path_outputs(table, [0, 1, 2], Scoring("max_prob", "most_confident"))
    own = score_table(table, Scoring())
    np.testing.assert_array_equal(scores, np.maximum.accumulate(own))
    assert correct.tolist() == [[True, False], [True, False], [True, True]]


def test_the_mean_answer_weighs_log_probabilities(table):
    weights = np.array([1.0, 3.0, 0.5], np.float32)[None, :, None]
    scoring = Scoring("max_prob", "mean", (Fit("ensemble", EXITS, weights, np.empty(0, np.int16)),))
    scores, correct = path_outputs(table, [0, 1, 2], scoring)
    log_p = table.logits - np.log(np.exp(table.logits).sum(-1, keepdims=True))
    for k in range(3):
        mean = np.exp(np.average(log_p[: k + 1], axis=0, weights=weights[0, : k + 1, 0]))
        mean /= mean.sum(-1, keepdims=True)
        np.testing.assert_allclose(scores[k], mean.max(-1), atol=1e-6)
        np.testing.assert_array_equal(correct[k], mean.argmax(-1) == table.labels)


def test_weights_that_all_vanish_leave_the_last_exit_alone(table):
    nothing = Fit("ensemble", EXITS, np.zeros((1, 3, 1), np.float32), np.empty(0, np.int16))
    scores, _ = path_outputs(table, [0, 2], Scoring("max_prob", "mean", (nothing,)))
    np.testing.assert_allclose(scores, score_table(table, Scoring())[[0, 2]], atol=1e-6)


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


def test_a_score_that_is_not_a_number_is_the_least_sure():
    logits = np.array([[[np.nan, 0.0]], [[0.0, 1.0]], [[1.0, 0.0]]], np.float32)
    table = ExitTable(logits, np.array([1]), EXITS, "test", "s")
    scores, correct = path_outputs(table, [0, 1, 2], Scoring("max_prob", "most_confident"))
    assert np.isnan(scores[0, 0])
    assert scores[1, 0] == scores[2, 0] > 0.5
    assert correct[1:, 0].tolist() == [True, True]


def test_what_an_exit_says_is_worked_out_once_for_every_scoring(table, fit):
    plain, fitted = Scoring("margin"), Scoring("margin", fits=(fit,))
    first = stop_output(table, [0, 1], plain)
    assert stop_output(table, [1], Scoring("margin")) is first, "who came before does not matter"
    assert not first[0].flags.writeable
    for other in (fitted, Scoring("max_prob")):
        fresh = ExitTable(table.logits, table.labels, table.exits, "cal", "s")
        got, wanted = stop_output(table, [1], other), stop_output(fresh, [1], other)
        assert (got[0] == wanted[0]).all()
        assert (got[0] != first[0]).any()
    everybody = Scoring("patience")
    assert (stop_output(table, [0, 1], everybody)[0] == stop_output(on("test", table), [0, 1], everybody)[0]).all()
    assert stop_output(table, [0, 1], everybody) is not stop_output(table, [0, 1], everybody), "paths are too many"

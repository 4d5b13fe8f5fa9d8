"""Placing exits on a table, and cutting thresholds between scores."""

from __future__ import annotations

from math import inf, nan

import numpy as np
import pytest

from eesearch.core.costs import StageCosts
from eesearch.core.design import ASK, OUTPUT, OWN, ExitId
from eesearch.core.errors import PolicyError
from eesearch.core.policy import Policy, Scoring, Stop
from eesearch.core.steps import Parts, call_steps
from eesearch.core.tables import ExitTable
from eesearch.exits.evaluate import evaluate
from eesearch.solve.placed import Placed, cuts_of, near_shares, one_per_cut, thresholded

OUT = ExitId(network="n", cut=OUTPUT, head=OWN)


def exit_at(cut, head="h"):
    return ExitId(network="n", cut=cut, head=head)


def table_of(scores, correct, exits):
    """Two classes; each exit gives the class that makes it right or wrong a probability of `score` > 0.5."""
    scores, correct = np.asarray(scores, float), np.asarray(correct, bool)
    right = np.where(correct, scores, 1.0 - scores)
    logits = np.log(np.stack([right, 1.0 - right], -1)).astype(np.float32)
    return ExitTable(logits, np.zeros(scores.shape[1], np.int64), tuple(exits), "cal", "s")


def steps(depths, prefix, own):
    step = np.full((len(depths) + 1, len(depths)), np.inf)
    for j, depth in enumerate(depths):
        step[0, j] = prefix[depth] + own[j]
        for i, earlier in enumerate(depths):
            if earlier < depth:
                step[i + 1, j] = prefix[depth] - prefix[earlier] + own[j]
    return step


def test_the_most_accurate_head_stands_for_its_cut_and_nobody_is_asked():
    exits = (exit_at("a", "x"), exit_at("a", "y"), exit_at("b", "x"), exit_at("b", "y"), OUT, ASK)
    correct = [[1, 0, 0], [1, 1, 0], [1, 0, 0], [0, 1, 0], [1, 1, 1], [1, 1, 1]]
    assert one_per_cut(table_of(np.full((6, 3), 0.8), correct, exits)) == [1, 2, 4]


@pytest.mark.parametrize("exits", [(OUT,), (exit_at("a"),), (OUT, ASK)])
def test_a_table_without_exits_or_own_classifier_is_refused(exits):
    with pytest.raises(PolicyError, match="literature"):
        one_per_cut(table_of(np.full((len(exits), 2), 0.8), np.ones((len(exits), 2)), exits))


def test_exits_lie_where_the_prefix_says_whatever_their_heads_cost():
    exits = (*map(exit_at, "abcd"), OUT)
    table = table_of(np.full((5, 2), 0.8), np.ones((5, 2)), exits)
    prefix, depths = [10.0, 30.0, 50.0, 90.0, 100.0], list(range(5))
    for heads in ([0.0] * 5, [25.0, 0.0, 60.0, 3.0, 0.0]):
        costs = StageCosts(steps(depths, prefix, heads), exits, "macs", 100.0)
        assert near_shares(table, costs, [0.15, 0.3, 0.45, 0.6, 0.75, 0.9]) == [0, 1, 2, 3, 4]
        assert near_shares(table, costs, [1 / 3, 2 / 3]) == [1, 2, 4]
        assert near_shares(table, costs, [0.0, 0.01, 0.02]) == [0, 4]


def test_exits_lie_where_the_prefix_says_whatever_deciding_costs():
    exits = (*map(exit_at, "abcd"), OUT)
    table = table_of(np.full((5, 2), 0.8), np.ones((5, 2)), exits)
    parts = Parts((1.0, 3.0, 5.0, 9.0, 10.0), {cut: {"h": 0.1} for cut in "abcd"}, {"max_prob": 2.0})
    costs = StageCosts(call_steps("abcd", parts, exits, "max_prob", "latency_ms"), exits, "latency_ms", 10.0)
    assert near_shares(table, costs, [0.1, 0.3, 0.5, 0.9]) == [0, 1, 2, 3, 4]
    assert near_shares(table, costs, [0.35]) == [1, 4]


def test_a_policy_ends_where_everybody_leaves():
    exits = [exit_at("a"), exit_at("b"), OUT]
    scoring = Scoring("margin", answer="most_confident")
    stops = (Stop(exit=exits[0], threshold=0.7), Stop(exit=exits[1], threshold=-inf))
    assert thresholded(exits, [0.7, -inf], scoring) == Policy(stops=stops, criterion="margin", answer="most_confident")
    assert [s.exit for s in thresholded(exits, [inf, 0.6], scoring).stops] == exits


def test_equal_scores_are_never_split():
    counts, thresholds = cuts_of(np.array([0.9, 0.9, 0.7, 0.6, 0.6, 0.6]))
    assert counts.tolist() == [0, 2, 3, 6]
    assert thresholds.tolist() == [inf, pytest.approx(0.8), pytest.approx(0.65), -inf]
    counts, thresholds = cuts_of(np.array([]))
    assert (counts.tolist(), thresholds.tolist()) == ([0], [inf])


def test_shared_thresholds_are_those_that_matter():
    exits = (exit_at("a"), exit_at("b"), OUT)
    table = table_of([[0.9, 0.6], [0.8, 0.7], [0.99, 0.99]], np.ones((3, 2)), exits)
    costs = StageCosts(steps([0, 1, 2], [1.0, 2.0, 3.0], [0.0] * 3), exits, "macs", 3.0)
    placed = Placed.of(table, costs, [0, 1, 2], Scoring())
    # 0.8 never matters: whoever says it has said 0.9 before, and the own classifier is not asked.
    assert placed.shared_thresholds().tolist() == pytest.approx([-inf, 0.65, 0.8, inf])
    assert placed.cumulative.tolist() == [1.0, 2.0, 3.0]


def test_a_score_that_is_no_number_leaves_at_the_end_only():
    exits = (exit_at("a"), OUT)
    table = table_of([[0.9, nan, 0.6], [0.8, 0.8, 0.8]], np.ones((2, 3)), exits)
    costs = StageCosts(steps([0, 1], [1.0, 2.0], [0.0] * 2), exits, "macs", 2.0)
    placed = Placed.of(table, costs, [0, 1], Scoring())
    lowest = placed.shared_thresholds()[1]
    assert lowest < 0.6
    assert evaluate(placed.policy([lowest]), table, [costs]).exit_rate == pytest.approx((2 / 3, 1 / 3))

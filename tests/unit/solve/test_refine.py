"""Refinement against routing every single position, which shares no code with the sweep."""

from __future__ import annotations

from math import inf, nan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eesearch.core.costs import StageCosts
from eesearch.core.design import OUTPUT, OWN, ExitId
from eesearch.core.policy import Policy, Scoring, Stop
from eesearch.core.tables import ExitTable
from eesearch.exits.evaluate import evaluate
from eesearch.exits.routing import route, score_table, stop_output
from eesearch.solve.refine import refine, refine_front, stops_of, sweep

SCORES = [nan, -0.5, 0.0, 0.25, 0.5, 0.75, 1.0]


@st.composite
def policies(draw):
    """Scores, correctness and costs of the stops of a path, and thresholds; few values, so that many are equal."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    k, samples = draw(st.integers(1, 4)), draw(st.integers(1, 14))
    scores = rng.choice(SCORES, (k, samples), p=[0.1, *[0.15] * 6]).astype(np.float32)
    cumulative = np.cumsum(rng.integers(0, 5, k)).astype(float)
    thresholds = np.append(rng.choice([-1.0, -0.1, 0.1, 0.3, 0.6, 0.9, 2.0, inf], k - 1), -inf)
    weights = rng.integers(1, draw(st.sampled_from([2, 5])), samples)
    return (scores, rng.random((k, samples)) < 0.6, cumulative, weights), thresholds


def value(scores, correct, cumulative, weights, thresholds):
    """Errors by weight and summed cost, by routing."""
    stop = route(scores, thresholds)
    return int(~correct[stop, np.arange(len(stop))] @ weights), float(cumulative[stop].sum())


def midpoints(score):
    """Falling."""
    distinct = np.unique(score[~np.isnan(score)].astype(np.float64))
    return ((distinct[:-1] + distinct[1:]) / 2.0)[::-1]


def with_threshold(thresholds, at, threshold):
    changed = np.array(thresholds)
    changed[at] = threshold
    return changed


@settings(max_examples=300, deadline=None)
@given(policies())
def test_a_sweep_tells_what_routing_says_of_every_midpoint(case):
    path, thresholds = case
    scores = path[0]
    for at in range(len(scores) - 1):
        found = sweep(stops_of(*path), thresholds, at)
        np.testing.assert_array_equal(found.thresholds, midpoints(scores[at]))
        expected = [value(*path, with_threshold(thresholds, at, t)) for t in found.thresholds]
        assert list(zip(found.errors.tolist(), found.cost.tolist(), strict=True)) == expected
        assert (found.errors_now, found.cost_now) == value(*path, thresholds)


@settings(max_examples=300, deadline=None)
@given(policies())
def test_no_move_of_one_threshold_improves_what_is_refined_and_nothing_got_worse(case):
    path, thresholds = case
    scores, refined = path[0], refine(stops_of(*path), thresholds)
    errors, cost = value(*path, refined)
    errors_before, cost_before = value(*path, thresholds)
    assert errors <= errors_before
    assert cost <= cost_before
    for at in range(len(scores) - 1):
        for threshold in midpoints(scores[at]):
            rival = value(*path, with_threshold(refined, at, threshold))
            assert rival == (errors, cost) or rival[0] > errors or rival[1] > cost


@settings(max_examples=200, deadline=None)
@given(policies())
def test_thresholds_stay_or_come_to_lie_between_distinct_scores(case):
    path, thresholds = case
    scores, refined = path[0], refine(stops_of(*path), thresholds)
    for before, after, score in zip(thresholds, refined, scores, strict=True):
        assert after == before or after in midpoints(score)


def test_neighbouring_floats_are_kept_apart():
    low = np.float32(0.9)
    scores = np.array([[low, np.nextafter(low, np.float32(1.0))], [0.0, 0.0]], np.float32)
    correct = np.array([[False, True], [True, True]])
    refined = refine(stops_of(scores, correct, np.array([1.0, 3.0])), [0.95, -inf])
    assert low < refined[0] < float(scores[0, 1])
    assert value(scores, correct, np.array([1.0, 3.0]), np.ones(2, np.int64), refined) == (0, 4.0)


def test_of_thresholds_that_come_to_the_same_it_takes_the_middle_one():
    # Only samples 0 and 1 arrive at the second exit, which is wrong about 0; between their scores lie those of others.
    scores = np.array([[0, 0, 1, 1, 1], [0.1, 0.5, 0.2, 0.3, 0.4], [0] * 5], np.float32)
    correct = np.array([[True] * 5, [False, True, True, True, True], [True] * 5])
    refined = refine(stops_of(scores, correct, np.array([1.0, 2.0, 3.0])), [0.5, inf, -inf])
    assert refined.tolist() == [0.5, pytest.approx(0.25), -inf]


def test_infinite_scores_cannot_be_told_from_minus_infinity_by_a_midpoint():
    scores = np.array([[inf, 0.5, -inf], [0.0, 0.0, 0.0]], np.float32)
    found = sweep(stops_of(scores, np.ones((2, 3), np.bool_), np.array([1.0, 2.0])), np.array([0.7, -inf]), 0)
    assert found.thresholds.tolist() == []
    assert (found.errors_now, found.cost_now) == (0, 5.0)


# refine_front


class ByExit:
    """Outputs of a table where a score belongs to an exit."""

    by_exit = True

    def __init__(self, table, scoring=Scoring()):
        self.scores, self.correct = score_table(table, scoring), table.correct

    def at(self, path):
        return self.scores[path[-1]], self.correct[path[-1]]


class ByPath:
    """Outputs of a table where a score belongs to a path."""

    by_exit = False

    def __init__(self, table, scoring):
        self.table, self.scoring = table, scoring

    def at(self, path):
        return stop_output(self.table, path, self.scoring)


@pytest.fixture
def table():
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 4, 150)
    clarity = rng.exponential(1.0, 150) * (1.0 + np.arange(5)[:, None] / 2.0)
    logits = rng.normal(size=(5, 150, 4))
    logits[:, np.arange(150), labels] += clarity
    heads = [ExitId(network="n", cut=f"cut{d}", head="h") for d in range(4)]
    return ExitTable(logits.astype(np.float32), labels, (*heads, ExitId(network="n", cut=OUTPUT, head=OWN)), "cal", "s")


def costs_of(table, axis="macs"):
    count = len(table.exits)
    depth = np.arange(-1.0, count)
    step = depth[None, 1:] - depth[:, None] + 0.1
    step[depth[:, None] >= depth[None, 1:]] = inf
    return StageCosts(step, table.exits, axis, float(count))


def evaluated(table, rows, thresholds, scoring=Scoring()):
    stops = tuple(Stop(exit=table.exits[r], threshold=t) for r, t in zip(rows, (*thresholds, -inf), strict=True))
    policy = Policy(stops=stops, criterion=scoring.criterion, answer=scoring.answer, fits=scoring.keys)
    return evaluate(policy, table, [costs_of(table), costs_of(table, "latency_ms")], scoring.fits)


@pytest.fixture
def points(table):
    chosen = [((4,), ()), ((0, 4), (0.7,)), ((0, 2, 4), (0.8, 0.6)), ((1, 2, 3), (0.5, 0.9)), ((0, 2, 4), (0.5, 0.5))]
    return [evaluated(table, rows, thresholds) for rows, thresholds in chosen]


def both(table):
    return [costs_of(table), costs_of(table, "latency_ms")]


def dominates(a, b):
    """Weakly."""
    return a.error <= b.error and a.costs["macs"].mean <= b.costs["macs"].mean


def test_points_keep_their_order_their_paths_and_designs_and_never_get_worse(table, points):
    marked = [p.model_copy(update={"design": f"d{i}", "strategy": "joint"}) for i, p in enumerate(points)]
    refined = refine_front(marked, table, ByExit(table), both(table))[: len(points)]
    assert all(dominates(after, before) for after, before in zip(refined, marked, strict=True))
    cheaper = [a.costs["macs"].mean < b.costs["macs"].mean for a, b in zip(refined, marked, strict=True)]
    assert sum(cheaper) >= 3
    assert [(p.design, p.policy.exits) for p in refined] == [(p.design, p.policy.exits) for p in marked]
    assert refined[0] == marked[0]


def test_what_was_met_on_the_way_is_new_undominated_and_true(table, points):
    found = refine_front(points, table, ByExit(table), both(table))
    others = found[len(points) :]
    assert len(others) > 20
    assert not any(other in found[: len(points)] for other in others)
    assert [e.costs["macs"].mean for e in others] == sorted(e.costs["macs"].mean for e in others)
    for other in others:
        assert not any(dominates(e, other) for e in found if e is not other)
        assert other == evaluate(other.policy, table, both(table))


def test_no_single_threshold_of_a_refined_point_leads_to_anything_better(table, points):
    found = refine_front(points, table, ByExit(table), both(table))
    front = np.array([(e.error, e.costs["macs"].mean) for e in found])
    scores = score_table(table, Scoring())
    for point in found[: len(points)]:
        rows = [table.row(e) for e in point.policy.exits]
        stops = stops_of(scores[rows], table.correct[rows], costs_of(table).cumulative(point.policy.exits))
        for at in range(len(rows) - 1):
            positions = sweep(stops, np.array(point.policy.thresholds), at)
            met = np.column_stack([positions.errors, positions.cost]) / 150
            assert (front[:, None] <= met[None] + 1e-12).all(-1).any(0).all()


def test_policies_that_are_refused_are_never_taken(table, points):
    before = {p.policy.thresholds for p in points}

    def few_leave_first(policy, scores, correct):
        assert scores.shape == correct.shape == (len(policy.stops), 150)
        return (scores[0] >= policy.thresholds[0]).mean() <= 0.4

    found = refine_front(points, table, ByExit(table), both(table), few_leave_first)
    taken = [e for e in found if e.policy.thresholds not in before]
    assert taken
    assert all(e.exit_rate[0] <= 0.4 for e in taken)
    free = refine_front(points, table, ByExit(table), both(table))
    assert any(e.exit_rate[0] > 0.4 for e in free if e.policy.thresholds not in before)


@pytest.mark.parametrize("answer", ["own", "most_confident"])
def test_answers_that_depend_on_the_path_are_refined_on_their_path(table, answer):
    scoring = Scoring(answer=answer)
    point = evaluated(table, (0, 2, 4), (0.8, 0.6), scoring)
    outputs = ByPath(table, scoring)
    refined, *others = refine_front([point], table, outputs, both(table))
    assert dominates(refined, point)
    assert refined.costs["macs"].mean < point.costs["macs"].mean
    assert all(e == evaluate(e.policy, table, both(table)) for e in (refined, *others))


def test_out_of_time_the_rest_stay_as_they_are(table, points):
    told = []
    found = refine_front(
        points,
        table,
        ByExit(table),
        both(table),
        stop=lambda: len(told) == 2,
        progress=lambda *call: told.append(call),
    )
    assert told == [("refine", 1, 5), ("refine", 2, 5)]
    assert sum(after != before for after, before in zip(found, points, strict=False)) <= 2


@pytest.mark.parametrize("asked", range(0, 40, 3))
def test_time_may_run_out_within_a_point_too(table, points, asked):
    calls = []
    tried = []
    found = refine_front(
        points,
        table,
        ByExit(table),
        both(table),
        lambda *candidate: tried.append(len(calls)) is None,
        stop=lambda: calls.append(0) is None and len(calls) > asked,
    )
    assert all(number <= asked for number in tried), "nothing is tried once the time is up"
    for after, before in zip(found, points, strict=False):
        assert after == before or dominates(after, before)


def test_nothing_to_refine(table):
    assert refine_front([], table, ByExit(table), both(table)) == []

"""The exact solver against brute force that shares no code with it but the threshold levels."""

from __future__ import annotations

from itertools import combinations, product
from math import inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eesearch.core.costs import StageCosts
from eesearch.core.design import OUTPUT, OWN, ExitId
from eesearch.core.errors import CostError, PolicyError
from eesearch.core.policy import Fit
from eesearch.core.tables import ExitTable
from eesearch.exits.evaluate import evaluate
from eesearch.exits.routing import score_table
from eesearch.solve.exact import solve_front
from eesearch.solve.levels import threshold_levels


def exit_ids(depths):
    """One exit per entry; the last is the network's own classifier."""
    heads = [ExitId(network="n", cut=f"cut{d}", head=f"head{row}") for row, d in enumerate(depths[:-1])]
    return (*heads, ExitId(network="n", cut=OUTPUT, head=OWN))


def steps_of(depths, prefix, own):
    """Steps as a profile makes them: the prefix up to each depth once, and every active head."""
    step = np.full((len(depths) + 1, len(depths)), np.inf)
    for j, depth in enumerate(depths):
        step[0, j] = prefix[depth] + own[j]
        for i, earlier in enumerate(depths):
            if earlier < depth:
                step[i + 1, j] = prefix[depth] - prefix[earlier] + own[j]
    return step


@st.composite
def problems(draw, odd_costs=False):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    exits, samples, classes = draw(st.integers(2, 5)), draw(st.integers(1, 12)), draw(st.integers(2, 3))
    depths = [*sorted(rng.integers(0, 4, exits - 1).tolist()), 4]
    logits = rng.integers(-2, 3, (exits, samples, classes)).astype(np.float32)  # few values: many equal scores
    labels = rng.integers(0, classes, samples)
    step = steps_of(depths, np.cumsum(rng.integers(0, 9, 5)), [*rng.integers(0, 4, exits - 1), 0]).astype(float)
    if odd_costs:  # no triangle inequality: a way through an exit that nobody leaves at may be the cheaper one
        step = np.where(np.isfinite(step), rng.integers(0, 20, step.shape), step)
    ids = exit_ids(depths)
    return ExitTable(logits, labels, ids, "cal", "s"), StageCosts(step, ids, "macs", float(step[0, -1]) + 1.0)


def brute_force(table, costs, max_exits, levels, criterion="max_prob"):
    """Non-dominated (errors, total cost) by trying everything, sample by sample."""
    scores = score_table(table, criterion).astype(np.float64)
    choices = [[*threshold_levels(row, levels), inf] for row in scores]
    found = set()
    for k in range(max_exits + 1):
        for path in combinations(range(len(scores)), k + 1):
            legs = [costs.step[i, j] for i, j in zip([0, *(e + 1 for e in path)], path, strict=False)]
            if not np.isfinite(legs).all():
                continue
            for thresholds in product(*(choices[e] for e in path[:-1])):
                errors, cost = 0, 0.0
                for n in range(scores.shape[1]):
                    for stop, row in enumerate(path):
                        cost += legs[stop]
                        if stop == k or scores[row, n] >= thresholds[stop]:
                            errors += not table.correct[row, n]
                            break
                found.add((errors, cost))
    return sorted(p for p in found if not any(q != p and q[0] <= p[0] and q[1] <= p[1] for q in found))


def solved(front, samples):
    return sorted((round(e.error * samples), e.costs["macs"].mean * samples) for e in front.points)


@settings(max_examples=150, deadline=None)
@given(problems(), st.integers(0, 3), st.integers(1, 3))
def test_finds_what_brute_force_finds(problem, max_exits, levels):
    table, costs = problem
    front = solve_front(table, costs, max_exits=max_exits, levels=levels)
    expected = brute_force(table, costs, max_exits, levels)
    assert np.allclose(solved(front, len(table.labels)), expected, rtol=0.0, atol=1e-9)


@settings(max_examples=150, deadline=None)
@given(problems(odd_costs=True), st.integers(1, 3))
def test_is_exact_for_costs_without_triangle_inequality(problem, max_exits):
    table, costs = problem
    front = solve_front(table, costs, max_exits=max_exits, levels=2, criterion="margin")
    expected = brute_force(table, costs, max_exits, 2, "margin")
    assert np.allclose(solved(front, len(table.labels)), expected, rtol=0.0, atol=1e-9)


@pytest.fixture
def larger():
    """Three words of samples, five cuts with two heads each; deeper heads are better, sure ones too."""
    rng = np.random.default_rng(3)
    depths = [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5]
    labels = rng.integers(0, 4, 150)
    clarity = rng.exponential(1.0, 150) * (1.0 + np.arange(11)[:, None] / 4.0)
    logits = rng.normal(size=(11, 150, 4))
    logits[:, np.arange(150), labels] += clarity
    own = np.tile([0.03, 0.11], 6)[:11] * (np.arange(11) < 10)
    ids = exit_ids(depths)
    costs = StageCosts(steps_of(depths, np.linspace(0.2, 1.2, 6), own), ids, "macs", 1.2)
    return ExitTable(logits.astype(np.float32), labels, ids, "cal", "s"), costs


def test_every_point_is_what_evaluate_says_of_its_policy(larger):
    table, costs = larger
    front = solve_front(table, costs, max_exits=3, levels=6, criterion="entropy")
    assert len(front) > 10
    for point in front.points:
        assert point == evaluate(point.policy, table, [costs])
    assert front.backbone.accuracy == table.accuracy[-1]
    assert front.backbone.costs["macs"].mean == 1.2


def test_more_exits_never_make_the_front_worse(larger):
    table, costs = larger
    volumes = [solve_front(table, costs, max_exits=k, levels=5).hypervolume() for k in range(4)]
    assert volumes == sorted(volumes)
    assert volumes[0] < volumes[1] < volumes[2]


def test_two_exits_on_a_larger_table_are_brute_force(larger):
    table, costs = larger
    front = solve_front(table, costs, max_exits=2, levels=3)
    expected = np.array(brute_force(table, costs, 2, 3))
    got = np.array(solved(front, 150))
    covered = (got[:, None, :] <= expected[None] + 1e-9).all(-1).any(0)  # costs are sums of floats here
    assert covered.all()
    assert len(got) <= len(expected)


def test_without_early_exits_each_point_is_one_classifier(larger):
    table, costs = larger
    front = solve_front(table, costs, max_exits=0)
    assert all(point.policy.thresholds == (-inf,) for point in front.points)
    assert [p.accuracy for p in front.points] == sorted(p.accuracy for p in front.points)


def test_solves_again_the_same_way(larger):
    table, costs = larger
    first, second = (solve_front(table, costs, max_exits=2, levels=5).points for _ in range(2))
    assert first == second


def test_of_equal_policies_the_one_with_fewer_stops_stays():
    logits = np.array([[[0, 0.1], [0, 0.2], [0, 0.3]]] * 3, np.float32)  # all exits right, none needs another
    ids = exit_ids([0, 1, 2])
    costs = StageCosts(np.full((4, 3), np.inf), ids, "macs", 1.0)
    costs.step[0], costs.step[1, 1:], costs.step[2, 2] = 1.0, 0.0, 0.0
    front = solve_front(ExitTable(logits, np.array([1, 1, 1]), ids, "cal", "s"), costs)
    assert [p.policy.exits for p in front.points] == [ids[:1]]


def test_uses_the_fit_and_names_it(larger):
    table, costs = larger
    heat = np.linspace(0.5, 3.0, 11).astype(np.float32)
    fit = Fit("temperature", table.exits, heat, np.tile(heat[:, None], (1, 150)))
    front = solve_front(table, costs, max_exits=2, levels=4, fit=fit)
    assert {p.policy.fits for p in front.points} == {(fit.key,)}
    assert front[1] == evaluate(front[1].policy, table, [costs], fit)


def test_tells_its_progress(larger):
    table, costs = larger
    calls = []
    solve_front(table, costs, max_exits=2, levels=2, progress=lambda *call: calls.append(call))
    assert [call[1:] for call in calls] == [(done, 11) for _ in range(2) for done in range(1, 12)]


def test_refuses_a_table_without_the_backbone(larger):
    table, costs = larger
    with pytest.raises(PolicyError, match="needs its backbone"):
        solve_front(table.select(table.exits[:-1]), costs)


def test_refuses_negative_steps_and_options_out_of_range(larger):
    table, costs = larger
    with pytest.raises(CostError, match="less than nothing"):
        solve_front(table, StageCosts(costs.step - 1.0, costs.exits, "macs", 1.2))
    with pytest.raises(PolicyError, match="fewer than no early exits"):
        solve_front(table, costs, max_exits=-1)
    with pytest.raises(PolicyError, match="levels"):
        solve_front(table, costs, levels=0)

"""Two cost axes against brute force."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations, product
from math import inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eesearch.core.constraints import Constraints, Limit
from eesearch.core.costs import StageCosts
from eesearch.core.design import OUTPUT, OWN, ExitId
from eesearch.core.errors import PolicyError
from eesearch.core.policy import Scoring
from eesearch.core.tables import ExitTable
from eesearch.exits.routing import path_outputs
from eesearch.solve.axes import solve_axes
from eesearch.solve.family import Family
from eesearch.solve.levels import threshold_levels


def steps_of(prefix, own):
    """Steps between exits in a row: the prefix once, and every active head."""
    step = np.full((len(own) + 1, len(own)), inf)
    for j in range(len(own)):
        step[0, j] = prefix[j] + own[j]
        step[1 : j + 1, j] = prefix[j] - prefix[:j] + own[j]
    return step


@st.composite
def problems(draw, most=9):
    """Two to four exits; what is cheap on one axis need not be on the other."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    exits, samples = draw(st.integers(2, 4)), draw(st.integers(1, 10))
    ids = (*(ExitId(network="n", cut=f"c{i}", head="h") for i in range(exits - 1)),)
    ids = (*ids, ExitId(network="n", cut=OUTPUT, head=OWN))
    logits = rng.integers(-2, 3, (exits, samples, 2)).astype(np.float32)
    weights = rng.integers(1, most, samples) if draw(st.booleans()) else None
    table = ExitTable(logits, rng.integers(0, 2, samples), ids, "cal", "s", weights)
    axes = []
    for axis in ("macs", "latency_ms"):
        step = steps_of(np.cumsum(rng.integers(0, 9, exits)), [*rng.integers(0, 9, exits - 1), 0]).astype(float)
        axes.append(StageCosts(step + 1.0, ids, axis, float(step[0, -1]) + 1.0))
    return table, axes


def brute_force(table, axes, family, scoring):
    """(errors, total cost, total cost) of every policy."""
    found = set()
    for k in range(1, len(table.exits) + 1):
        for path in combinations(range(len(table.exits)), k):
            if sum(not table.exits[e].is_output for e in path) > family.max_exits:
                continue
            scores, correct = path_outputs(table, path, scoring)
            scores = scores.astype(np.float64)
            legs = list(zip([0, *(e + 1 for e in path)], path, strict=False))
            paid = [np.cumsum([cost.step[i, j] for i, j in legs]) for cost in axes]
            for thresholds in product(*([*threshold_levels(row, family.levels or 99), inf] for row in scores[:-1])):
                stop = np.array([next((s for s, t in enumerate(thresholds) if v[s] >= t), k - 1) for v in scores.T])
                errors = int(~correct[stop, np.arange(len(stop))] @ table.weight)
                found.add((errors, *(round(float(p[stop].sum()), 9) for p in paid)))
    return found


def undominated(found):
    return {p for p in found if not any(q != p and all(a <= b for a, b in zip(q, p, strict=True)) for q in found)}


def values(points, table):
    total, samples = table.weight.sum(), len(table.labels)
    return {(round(p.error * total), *(round(c.mean * samples, 9) for c in p.costs.values())) for p in points}


@settings(max_examples=150, deadline=None)
@given(
    problems() | problems(most=1 << 24),
    st.integers(0, 2),
    st.integers(1, 3),
    st.sampled_from([Scoring(), Scoring("patience")]),
)
def test_up_to_two_early_exits_nothing_is_left_out(problem, max_exits, levels, scoring):
    table, axes = problem
    family = Family(max_exits, levels)
    found = values(solve_axes(table, axes, scoring=scoring, family=family), table)
    assert found == undominated(brute_force(table, axes, family, scoring))


@settings(max_examples=40, deadline=None)
@given(problems(), st.sampled_from([0.05, 0.5]))
def test_beyond_it_every_policy_has_a_point_within_epsilon(problem, epsilon):
    table, axes = problem
    family = Family(3, None)
    points = solve_axes(table, axes, family=family, epsilon=epsilon)
    mine = values(points, table)
    for error, first, second in brute_force(table, axes, family, Scoring()):
        assert any(e <= error and a <= first + 1e-6 and b <= second * (1.0 + epsilon) + 1e-6 for e, a, b in mine)


def test_points_keep_the_constraints_and_rise_in_the_first_axis():
    table, axes = _problem()
    dearest = float(np.median([p.costs["latency_ms"].mean for p in solve_axes(table, axes, family=Family(2, 3))]))
    limited = Family(2, 3, Constraints(limits=(Limit(axis="latency_ms", at_most=dearest),)))
    points = solve_axes(table, axes, family=limited)
    assert points
    assert max(p.costs["latency_ms"].mean for p in points) <= dearest
    first = [p.costs["macs"].mean for p in points]
    assert first == sorted(first)
    assert len(points) < len(solve_axes(table, axes, family=replace(limited, constraints=Constraints())))


def _problem():
    rng = np.random.default_rng(1)
    ids = (*(ExitId(network="n", cut=f"c{i}", head="h") for i in range(3)), ExitId(network="n", cut=OUTPUT, head=OWN))
    labels = rng.integers(0, 3, 90)
    logits = rng.normal(size=(4, 90, 3))
    logits[:, np.arange(90), labels] += np.arange(1, 5)[:, None] / 2
    table = ExitTable(logits.astype(np.float32), labels, ids, "cal", "s")
    macs = steps_of(np.array([1.0, 2.0, 3.0, 4.0]), [0.5, 0.1, 0.4, 0.0])
    ms = steps_of(np.array([3.0, 3.2, 3.4, 4.0]), [0.1, 0.8, 0.2, 0.0])
    return table, [StageCosts(macs, ids, "macs", 4.0), StageCosts(ms, ids, "latency_ms", 4.0)]


def test_refuses_anything_but_two_axes():
    table, axes = _problem()
    for given_axes in (axes[:1], [axes[0], axes[0]]):
        with pytest.raises(PolicyError, match="two axes with a mean over samples"):
            solve_axes(table, given_axes)

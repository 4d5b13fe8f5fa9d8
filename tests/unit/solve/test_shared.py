"""Policies with one threshold for many exits, beside the complete search of paths with few."""

from dataclasses import replace

import numpy as np
import pytest

from eesearch.core.constraints import Constraints
from eesearch.core.errors import PolicyError
from eesearch.core.policy import Scoring
from eesearch.exits.evaluate import evaluate
from eesearch.solve.baselines import deebert, sdn
from eesearch.solve.exact import solve_front
from eesearch.solve.family import Effort, Family
from eesearch.solve.shared import spread_placements
from eesearch.solve.stream import ScoreTable
from tests.unit.solve.test_baselines import chain_costs, random_table

QUICK = Effort(method="exact", refine=False)


@pytest.fixture(scope="module")
def table():
    return random_table(4, cuts=19, samples=200, ties=False)


def solved(table, *, shared, max_exits=1, scoring=Scoring(), constraints=Constraints()):
    family = Family(max_exits, 8, constraints, shared_threshold=shared)
    return solve_front(table, chain_costs(table.exits), scoring=scoring, family=family, effort=QUICK)


def test_exits_lie_on_every_cut_then_on_every_second_one(table):
    costs = chain_costs(table.exits)
    assert [len(rows) - 1 for rows in spread_placements(table, costs)] == [19, 10, 5, 3, 2]
    assert all(list(rows) == sorted(set(rows)) for rows in spread_placements(table, costs))


def test_policies_of_more_exits_than_paths_may_have_join_the_front(table):
    few, many = solved(table, shared=False), solved(table, shared=True)
    assert max(len(p.policy.stops) for p in few.points) == 2
    joined = [p for p in many.points if len(p.policy.stops) > 2]
    assert joined
    assert all(len(set(p.policy.thresholds[:-1])) == 1 for p in joined)
    assert many.hypervolume() > few.hypervolume()
    assert many.merge(few).points == many.points  # what the complete search finds stays, unless it is beaten


@pytest.mark.parametrize(("baseline", "criterion"), [(sdn, "max_prob"), (deebert, "entropy")])
def test_they_are_no_worse_than_those_of_the_literature_with_an_exit_on_every_cut(table, baseline, criterion):
    costs, front = chain_costs(table.exits), solved(table, shared=True, scoring=Scoring(criterion))
    everywhere = [p for p in baseline(table, costs) if len(p.stops) == 20]
    for policy in everywhere:
        said = evaluate(policy, table, [costs])
        assert any(
            p.error <= said.error + 1e-12 and p.costs["macs"].mean <= said.costs["macs"].mean + 1e-9
            for p in front.points
        )


def test_they_keep_the_constraints(table):
    loose = solved(table, shared=True)
    deepest = loose.backbone.accuracy - np.median([p.accuracy for p in loose.points])
    strict = solved(table, shared=True, constraints=Constraints(max_drop=float(deepest)))
    assert any(len(p.policy.stops) > 2 for p in strict.points)
    assert all(p.accuracy >= strict.backbone.accuracy - deepest - 1e-12 for p in strict.points)


def test_samples_of_different_weights_are_counted_as_evaluation_does(table):
    weighed = replace(table, weights=np.arange(200) % 5 + 1)
    front = solved(weighed, shared=True)
    assert any(len(p.policy.stops) > 2 for p in front.points)
    for point in front.points:
        assert point == evaluate(point.policy, weighed, [chain_costs(table.exits)])


def test_a_table_of_scores_alone_is_refused(table):
    scores = ScoreTable(np.ones((20, 9), np.float32), np.ones((20, 9), bool), table.exits)
    with pytest.raises(PolicyError, match="logits"):
        solved(scores, shared=True)

"""Fronts where batches share calls: against every policy of small tables, and the bound that the certificate gives."""

from itertools import combinations, product
from math import inf

import numpy as np
import pytest

from eesearch.core.constraints import Constraints, Limit
from eesearch.core.costs import StageCosts
from eesearch.core.design import OUTPUT, OWN, ExitId
from eesearch.core.errors import PolicyError
from eesearch.core.front import Front
from eesearch.core.policy import Policy, Scoring, Stop
from eesearch.core.tables import ExitTable
from eesearch.exits.evaluate import evaluate
from eesearch.exits.routing import score_table
from eesearch.solve.axes import solve_axes
from eesearch.solve.batched import linear_steps
from eesearch.solve.exact import own_classifier, solve_front
from eesearch.solve.family import Effort, Family
from eesearch.solve.levels import threshold_levels

BATCH, SIZES = 8, (1, 2, 4, 8)
EXITS = (*(ExitId(network="n", cut=f"cut{k}", head="h") for k in range(3)), ExitId(network="n", cut=OUTPUT, head=OWN))


@pytest.fixture(params=range(6))
def table(request):
    rng = np.random.default_rng(request.param)
    labels = rng.integers(0, 3, 40)
    truth = np.eye(3)[labels]
    logits = np.stack([(1 + k) * truth + 2.0 * rng.normal(size=(40, 3)) for k in range(4)]).astype(np.float32)
    return ExitTable(logits, labels, EXITS, "cal", "s")


def costs_of(fixed, each):
    """A call with n samples costs `fixed + n * each` for every segment that it runs through."""
    step = np.full((5, 4), inf)
    for i, j in combinations(range(-1, 4), 2):
        step[i + 1, j] = j - i
    calls = np.stack([np.where(np.isfinite(step), step * (fixed + n * each), inf) for n in SIZES])
    return StageCosts(calls[-1] / BATCH, EXITS, "latency_ms", 4 * (fixed + BATCH * each) / BATCH, BATCH, SIZES, calls)


def every_policy(table, costs, levels):
    scores = score_table(table, Scoring())
    for count in range(1, 5):
        for rows in combinations(range(4), count):
            if sum(row < 3 for row in rows) > 2:
                continue
            choices = [threshold_levels(scores[row], levels) for row in rows[:-1]]
            for chosen in product(*choices):
                stops = zip(rows, (*chosen, -inf), strict=True)
                policy = Policy(stops=tuple(Stop(exit=EXITS[r], threshold=t) for r, t in stops), criterion="max_prob")
                yield evaluate(policy, table, [costs])


def test_front_is_near_that_of_every_policy_and_above_the_bound(table):
    costs = costs_of(fixed=3.0, each=1.0)
    found = solve_front(table, costs, family=Family(max_exits=2, levels=6), effort=Effort("exact", refine=False))
    everyone = list(every_policy(table, costs, 6))
    best = Front(everyone, backbone=found.backbone, axis="latency_ms", device="d")
    certificate = found.certificate
    assert not certificate.exact
    assert found.hypervolume() <= best.hypervolume() + 1e-12
    assert best.hypervolume() <= found.hypervolume() + certificate.gain + 1e-9
    assert found.hypervolume(max_drop=0.5) >= 0.97 * best.hypervolume(max_drop=0.5)
    for error, cost in best.values:  # nothing that there is lies below the floor
        bounds = [floor for most, floor in certificate.floor if most <= error + 1e-12]
        assert cost >= min(bounds) - 1e-9
    for point in found.points:  # told at its real cost
        assert point.costs["latency_ms"].mean == evaluate(point.policy, table, [costs]).costs["latency_ms"].mean


def test_batches_that_save_nothing_are_batches_of_one(table):
    costs = costs_of(fixed=0.0, each=1.0)
    single = StageCosts(costs.step, EXITS, "latency_ms", costs.backbone)
    effort, family = Effort("exact", refine=False), Family(max_exits=2, levels=6)
    shared, alone = (solve_front(table, each, family=family, effort=effort) for each in (costs, single))
    np.testing.assert_allclose(shared.values, alone.values, atol=1e-9)


def test_refinement_goes_by_the_real_cost(table):
    costs, family = costs_of(fixed=3.0, each=1.0), Family(max_exits=2, levels=4)
    rough = solve_front(table, costs, family=family, effort=Effort("exact", refine=False))
    fine = solve_front(table, costs, family=family, effort=Effort("exact"))
    assert fine.hypervolume(max_drop=0.5) >= rough.hypervolume(max_drop=0.5) - 1e-12
    for error, cost in rough.values:
        assert any(e <= error + 1e-12 and c <= cost + 1e-9 for e, c in fine.values)


def test_stand_ins_lie_between_the_bound_and_a_call_for_each(table):
    lowest, *others = linear_steps(costs_of(fixed=3.0, each=1.0))
    real = costs_of(fixed=3.0, each=1.0)
    allowed = np.isfinite(real.step)
    for step in others:
        assert (step[0] == real.step[0]).all()
        assert (step[1:][allowed[1:]] >= lowest[1:][allowed[1:]] - 1e-12).all()
        assert (step[1:][allowed[1:]] <= real.calls[0, 1:][allowed[1:]] + 1e-12).all()
        assert np.isinf(step[~allowed]).all()


def test_limits_are_kept_by_the_real_cost(table):
    costs = costs_of(fixed=3.0, each=1.0)
    own = own_classifier(table, [costs])
    limit = Limit(axis="latency_ms", at="mean", at_most=0.7 * own.costs["latency_ms"].mean)
    family = Family(max_exits=2, levels=6, constraints=Constraints(limits=(limit,)))
    front = solve_front(table, costs, family=family)
    assert len(front)
    assert all(point.costs["latency_ms"].mean <= limit.at_most + 1e-9 for point in front.points)


def test_limits_are_not_those_of_full_batches(table):
    """A batch that outgrows a cache is dearer per sample than the smaller calls behind the first exit."""
    costs = costs_of(fixed=0.0, each=1.0)
    calls = costs.calls.copy()
    calls[-1] *= 1.5
    costs = StageCosts(calls[-1] / BATCH, EXITS, "latency_ms", 1.5 * costs.backbone, BATCH, SIZES, calls)
    free = solve_front(table, costs, family=Family(max_exits=2, levels=None))
    for point in free.points[:: max(1, len(free) // 5)]:
        limit = Limit(axis="latency_ms", at="mean", at_most=point.costs["latency_ms"].mean * 1.02)
        both = Constraints(limits=(limit,), max_drop=max(0.0, free.backbone.accuracy - point.accuracy))
        front = solve_front(table, costs, family=Family(max_exits=2, levels=None, constraints=both))
        assert len(front)
        assert not any(both.broken(each, front.backbone) for each in front.points)


def test_two_axes_at_once_are_for_single_samples(table):
    costs = costs_of(fixed=3.0, each=1.0)
    macs = StageCosts(costs.step, EXITS, "macs", costs.backbone)
    with pytest.raises(PolicyError, match="batches of one sample only; got 8"):
        solve_axes(table, [costs, macs])

"""Optimism against what really happens on new samples, which made-up tables know."""

from math import inf

import numpy as np
import pytest

from eesearch.core.constraints import Constraints
from eesearch.core.costs import StageCosts
from eesearch.core.design import OUTPUT, OWN, ExitId
from eesearch.core.policy import Fit, Policy, Scoring, Stop
from eesearch.core.tables import ExitTable
from eesearch.exits.evaluate import outcomes
from eesearch.solve.exact import solve_front
from eesearch.solve.family import Family
from eesearch.solve.optimism import FoldPoints, fixed_points, fold_points, optimism

FOLDS = 5


def folds_of(lost, cost, fold):
    """What picking among fixed policies comes to, without each fold. `lost` [P, N], `cost` [P]"""
    found = []
    for v in range(FOLDS):
        inside = fold == v
        numbers = np.array([(~inside).sum(), inside.sum()])
        found.append(FoldPoints(cost, lost[:, ~inside].sum(1), lost[:, inside].sum(1), numbers))
    return [each.merge(()) for each in found]


def at(curve, drop):
    return float(np.interp(drop, *np.array(curve).T))


def test_is_what_picks_lose_on_new_samples():
    """Policies whose true drops are known: cheaper ones lose more, and each differs from the backbone by chance."""
    policies, samples, target = 300, 1000, 0.005
    rng = np.random.default_rng(0)
    cost = np.linspace(0.3, 1.0, policies)
    drop = 0.02 * (1.0 - cost)
    estimated, real = [], []
    for _ in range(120):
        lost = (rng.random((policies, samples)) < 0.02 + drop[:, None]).astype(np.int64)
        lost -= rng.random((policies, samples)) < 0.02
        picked = np.flatnonzero(lost.mean(1) <= target)[0]
        real.append(drop[picked] - lost[picked].mean())
        fold = rng.permutation(samples).astype(np.int16) % FOLDS
        estimated.append(at(optimism([folds_of(lost, cost, fold)]), target))
    assert np.mean(real) > 0.004  # there is something to correct
    assert np.mean(estimated) == pytest.approx(np.mean(real), rel=0.12)


def table_and_costs(samples=600, seed=0, weights=None):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, samples)
    exits = (
        *(ExitId(network="", cut=f"c{k}", head="linear") for k in range(3)),
        ExitId(network="", cut=OUTPUT, head=OWN),
    )
    logits = rng.normal(size=(4, samples, 3)).astype(np.float32)
    for k, strength in enumerate((0.8, 1.4, 2.0, 2.6)):
        logits[k, np.arange(samples), labels] += strength
    weights = None if weights is None else np.array(weights)[labels]
    table = ExitTable(logits, labels, exits, "cal", "made up", weights)
    prefix, head = np.array([1.0, 2.0, 3.0, 4.0]), np.array([0.1, 0.1, 0.1, 0.0])
    step = np.full((5, 4), np.inf)
    for start in range(5):
        for end in range(start, 4):
            step[start, end] = prefix[end] - (prefix[start - 1] if start else 0.0) + head[end]
    costs = StageCosts(axis="macs", exits=exits, step=step, backbone=4.0)
    return table, costs


class TestFixedPolicy:
    @pytest.mark.parametrize("weights", [None, [1, 40, 3]])
    def test_is_not_corrected_at_all(self, weights):
        table, costs = table_and_costs(weights=weights)
        stops = (Stop(exit=table.exits[1], threshold=0.7), Stop(exit=table.exits[3], threshold=-inf))
        fold = (np.random.default_rng(1).random(600) * FOLDS).astype(np.int16)  # of different sizes
        policy = Policy(stops=stops, criterion="max_prob")
        found = fixed_points(policy, table, costs, (), table.correct[-1], fold=fold)
        assert all(gap == pytest.approx(0.0, abs=1e-15) for _, gap in optimism([found]))

    def test_is_as_cheap_as_it_is(self):
        table, costs = table_and_costs()
        policy = Policy(stops=(Stop(exit=table.exits[3], threshold=-inf),), criterion="max_prob")
        fold = np.arange(600).astype(np.int16) % FOLDS
        found = fixed_points(policy, table, costs, (), table.correct[-1], fold=fold)
        assert [each.cost.tolist() for each in found] == [[4.0]] * FOLDS
        assert [each.lost.tolist() for each in found] == [[0]] * FOLDS


class TestFoldPoints:
    def test_are_the_fronts_of_the_other_folds(self):
        table, costs = table_and_costs()
        fold = np.arange(600).astype(np.int16) % FOLDS
        family = Family(max_exits=2, levels=8)
        found = fold_points(table, [costs], Scoring(), table.correct[-1], fold=fold, family=family)
        outside = fold != 3
        part = ExitTable(table.logits[:, outside], table.labels[outside], table.exits, "cal", "part")
        front = solve_front(part, costs, family=family)
        right = table.correct[-1][outside].sum()
        assert found[3].samples.tolist() == [480, 120]
        assert found[3].cost.tolist() == [p.costs["macs"].mean for p in front.points]
        assert found[3].lost.tolist() == [right - round(p.accuracy * 480) for p in front.points]

    def test_count_errors_by_the_weights_of_samples(self):
        table, costs = table_and_costs(weights=[1, 7, 3])
        fold = np.arange(600).astype(np.int16) % FOLDS
        found = fold_points(table, [costs], Scoring(), table.correct[-1], fold=fold, family=Family(2, 8))
        outside, inside = fold != 3, fold == 3
        weights = [table.weight[part] for part in (outside, inside)]
        sizes = [600 * each.sum() / table.weight.sum() for each in weights]
        part = ExitTable(
            table.logits[:, outside], table.labels[outside], table.exits, "cal", "part", table.weight[outside]
        )
        front = solve_front(part, costs, family=Family(2, 8))
        own = table.correct[-1]
        assert found[3].samples.tolist() == pytest.approx(sizes)
        wanted = [sizes[0] * (np.average(own[outside], weights=weights[0]) - p.accuracy) for p in front.points]
        assert found[3].lost.tolist() == pytest.approx(wanted)
        right = [outcomes(p.policy, table)[1][inside] for p in front.points]
        lost_in = [sizes[1] * np.average(own[inside].astype(int) - r, weights=weights[1]) for r in right]
        assert found[3].lost_in.tolist() == pytest.approx(lost_in)
        policy = front.points[len(front.points) // 2].policy
        fixed = fixed_points(policy, table, costs, (), own, fold=fold)[3]
        half = len(wanted) // 2
        assert (fixed.lost[0], fixed.lost_in[0]) == pytest.approx((wanted[half], lost_in[half]))

    def test_the_unit_of_weights_does_not_matter(self):
        told = []
        for weights in ([1, 7, 3], [10, 70, 30]):
            table, costs = table_and_costs(weights=weights)
            fold = np.arange(600).astype(np.int16) % FOLDS
            points = fold_points(table, [costs], Scoring(), table.correct[-1], fold=fold, family=Family(2, 8))
            told.append(np.array(optimism([points])))
        np.testing.assert_allclose(told[0], told[1], rtol=0, atol=1e-12)

    def test_what_they_lose_in_the_fold_is_told_by_replay(self):
        table, costs = table_and_costs()
        fold = np.arange(600).astype(np.int16) % FOLDS
        (own, *_) = fold_points(table, [costs], Scoring(), table.correct[-1], fold=fold, family=Family(0, 8))
        inside = fold == 0  # exits at which everybody leaves, and the own classifier
        lost = {int(table.correct[-1][inside].sum() - table.correct[k][inside].sum()) for k in range(4)}
        assert set(own.lost_in.tolist()) <= lost
        assert own.lost_in[-1] == 0

    def test_samples_are_scored_with_what_was_fitted_without_them(self):
        table, costs = table_and_costs()
        fold = np.arange(600).astype(np.int16) % FOLDS
        heat = np.ones((1 + FOLDS, 4, 1), np.float32)
        heat[1, :3] = 20.0  # in fold 0 nobody is sure at an early exit
        scoring = Scoring(fits=(Fit("temperature", table.exits, heat, fold),))
        found = fold_points(table, [costs], scoring, table.correct[-1], fold=fold, family=Family(1, 8))
        leaving_late = found[0].lost_in[found[0].cost > 1.2]
        assert (leaving_late[-1], found[0].samples.tolist()) == (0, [480, 120])

    def test_survive_the_store(self):
        table, costs = table_and_costs()
        fold = np.arange(600).astype(np.int16) % FOLDS
        found = fold_points(table, [costs], Scoring(), table.correct[-1], fold=fold, family=Family(1, 4))
        kept = FoldPoints.from_arrays(found[2].arrays(2), 2)
        assert all(np.array_equal(a, b) for a, b in zip(vars(kept).values(), vars(found[2]).values(), strict=True))


def test_the_best_of_several_tables_are_picked_from():
    one = FoldPoints(np.array([1.0, 3.0]), np.array([9, 1]), np.array([5, 0]), np.array([80, 20]))
    other = FoldPoints(np.array([2.0, 4.0]), np.array([4, 2]), np.array([1, 7]), np.array([80, 20]))
    merged = one.merge([other])
    assert (merged.cost.tolist(), merged.lost.tolist(), merged.lost_in.tolist()) == (
        [1.0, 2.0, 3.0],
        [9, 4, 1],
        [5, 1, 0],
    )
    assert merged.cheapest(np.array([0.0, 0.02, 0.05, 0.2])).tolist() == [2, 2, 1, 0]


def test_nothing_found_nothing_estimated():
    assert optimism([]) == ()


class TestConstraints:
    def test_what_breaks_them_is_no_pick(self):
        """Where none keeps them the solver can answer with the least violating policy; nobody would pick that."""
        table, costs = table_and_costs()
        fold = np.arange(600).astype(np.int16) % FOLDS
        never = Family(1, 4, Constraints(min_recall=0.999))
        found = fold_points(table, [costs], Scoring(), table.correct[-1], fold=fold, family=never)
        assert [len(each.cost) for each in found] == [0] * FOLDS
        assert optimism([found]) == ()

    def test_where_one_table_keeps_them_its_policies_are_picked_from(self):
        table, costs = table_and_costs()
        fold = np.arange(600).astype(np.int16) % FOLDS
        never = Family(1, 4, Constraints(min_recall=0.999))
        broken = fold_points(table, [costs], Scoring(), table.correct[-1], fold=fold, family=never)
        kept = fold_points(table, [costs], Scoring(), table.correct[-1], fold=fold, family=Family(1, 4))
        assert optimism([broken, kept]) == optimism([kept, broken]) == optimism([kept])

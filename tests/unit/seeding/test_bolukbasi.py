"""Gates learned backwards, against what can be worked out by hand."""

from __future__ import annotations

from itertools import combinations
from math import inf

import numpy as np
import pytest

from eesearch.core.costs import StageCosts
from eesearch.core.design import OUTPUT, OWN, ExitId
from eesearch.core.errors import CostError, InputError, PolicyError
from eesearch.core.policy import Fit, Scoring
from eesearch.core.tables import ExitTable
from eesearch.exits.evaluate import evaluate
from eesearch.exits.routing import score_table
from eesearch.seeding.bolukbasi import RELATIVE_MUS, Learning, bolukbasi, learn_gates, seeds

FOLDS = 3


def exit_at(cut, head="h"):
    return ExitId(network="n", cut=cut, head=OWN if cut == OUTPUT else head)


def chain(depth):
    return (*(exit_at(f"c{k}") for k in range(depth - 1)), exit_at(OUTPUT))


def steps(prefix, head):
    """Steps between exits of a chain. Prefixes [L], heads [L - 1]."""
    own = [*head, 0.0]
    step = np.full((len(prefix) + 1, len(prefix)), inf)
    for j in range(len(prefix)):
        step[0, j] = prefix[j] + own[j]
        for i in range(j):
            step[i + 1, j] = prefix[j] - prefix[i] + own[j]
    return StageCosts(step, chain(len(prefix)), "macs", float(prefix[-1]))


def table_of(right, sure, split="cal", labels=None):
    """Two classes: whether each exit is right [L, N], and the probability that it gives its answer [L, N]."""
    right, sure = np.asarray(right, bool), np.asarray(sure, float)
    labels = np.random.default_rng(9).integers(0, 2, right.shape[1]) if labels is None else labels
    said = np.where(right, labels, 1 - labels)
    gap = np.log(sure / (1 - sure))
    logits = np.where(said[..., None] == np.arange(2), gap[..., None], 0.0).astype(np.float32)
    return ExitTable(logits, labels.astype(np.int64), chain(len(right)), split, "s")


def grouped(right, sure, sizes, seed=0):
    """Groups of alike samples, in random order: columns of `right` and `sure` [L, G]."""
    group = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    return table_of(np.asarray(right)[:, group], np.asarray(sure)[:, group]), group


def noisy(depth=4, n=600, seed=0, split="cal"):
    """Exits that know more with depth, are wrong about hard samples, and have an idea which these are."""
    rng = np.random.default_rng(seed)
    ahead = np.linspace(0.5, 0.95, depth)[:, None] - rng.random(n) + rng.normal(size=(depth, n)) * 0.05
    sure = 0.51 + 0.48 / (1 + np.exp(-(ahead + rng.normal(size=(depth, n)) * 0.1) / 0.1))
    return table_of(ahead > 0, sure, split)


def folded(table, folds=FOLDS):
    """Temperatures of 1 with folds in turn."""
    fold = (np.arange(len(table.labels)) % folds).astype(np.int16)
    return Scoring(fits=(Fit("temperature", table.exits, np.ones((1 + folds, len(table.exits), 1), np.float32), fold),))


def learn(table, costs, mu, **options):
    return learn_gates(table, costs, mu, scoring=folded(table), **options)


def outcome(learned, table, costs):
    return evaluate(learned.policy, table, [costs], (*folded(table).fits, learned.fit))


def optimum(table, costs, mu, kept):
    """Least mean of cost and mu * excess loss, if each sample stops at the best for it of these exits. By hand."""
    excess = np.maximum(table.correct[-1].astype(float) - table.correct, 0.0)
    paid = costs.cumulative([table.exits[k] for k in kept])
    return np.min([p + mu * excess[k] for p, k in zip(paid, kept, strict=True)], axis=0).mean()


# Three exits and the own classifier; four groups, right from exit 0, 1, 2, 3 on, each exit surest where it is right.
RIGHT = [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]]
SURE = [[0.95, 0.8, 0.7, 0.6], [0.9, 0.95, 0.7, 0.6], [0.85, 0.9, 0.95, 0.6], [0.9, 0.9, 0.9, 0.9]]


@pytest.mark.parametrize(
    ("classifier", "mu"),
    # At 25 the first and the last group had better leave exit 0, the two between them not: no straight line does that.
    [(c, mu) for c in ("linear", "tree", "classes") for mu in (3.0, 25.0, 45.0, 1000.0) if c == "tree" or mu != 25.0],
)
def test_separable_samples_stop_where_it_costs_least(classifier, mu):
    table, _ = grouped(RIGHT, SURE, [60, 50, 40, 50])
    costs = steps([10, 20, 30, 40], [1, 1, 1])
    learned = learn(table, costs, mu, learning=Learning((classifier,)))
    every = [k for n in range(4) for k in combinations(range(3), n)]
    placements = [(*kept, 3) for kept in every] + [kept for kept in every if kept]
    assert learned.objective == pytest.approx(min(optimum(table, costs, mu, kept) for kept in placements))


def test_the_gates_are_what_the_groups_are():
    table, group = grouped(RIGHT, SURE, [60, 50, 40, 50])
    costs = steps([10, 20, 30, 40], [1, 1, 1])
    learned = learn(table, costs, 1000.0)
    found = outcome(learned, table, costs)
    assert learned.policy.thresholds == (0.0, 0.0, 0.0, -inf)
    assert len(learned.classifiers) == 3
    assert found.accuracy == 1.0
    np.testing.assert_allclose(found.exit_rate, np.bincount(group) / 200)
    np.testing.assert_allclose(found.costs["macs"].mean, np.array([11, 22, 33, 43]) @ np.bincount(group) / 200)


def test_a_head_that_costs_more_than_it_saves_is_left_out():
    table, _ = grouped(RIGHT, SURE, [60, 50, 40, 50])
    learned = learn(table, steps([10, 20, 30, 40], [1, 9, 1]), 1000.0)
    # for the 140 that get there, 50 would save 10 + 1 and all pay 9
    assert [e.cut for e in learned.policy.exits] == ["c0", "c2", OUTPUT]


def test_if_errors_cost_nothing_all_leave_at_once():
    table, _ = grouped(RIGHT, SURE, [60, 50, 40, 50])
    learned = learn(table, steps([10, 20, 30, 40], [1, 1, 1]), 0.0)
    assert [(s.exit.cut, s.threshold) for s in learned.policy.stops] == [("c0", -inf)]
    assert learned.classifiers == ()
    assert learned.objective == pytest.approx(11.0)


def test_what_is_behind_an_exit_that_lets_all_leave_is_cut_off():
    """Exit 1 is as good as the end; exit 0 is right, and sure, about some."""
    table, _ = grouped([[1, 0], [1, 1], [1, 1], [1, 1]], [[0.95, 0.6], [0.9] * 2, [0.9] * 2, [0.9] * 2], [100, 100])
    learned = learn(table, steps([10, 20, 30, 40], [1, 1, 1]), 1000.0)
    assert [(s.exit.cut, s.threshold) for s in learned.policy.stops] == [("c0", 0.0), ("c1", -inf)]


def test_exits_that_know_nothing_leave_the_bare_network():
    table, _ = grouped([[0, 0], [0, 0], [1, 1]], [[0.9, 0.6], [0.9, 0.6], [0.9, 0.9]], [50, 50])
    learned = learn(table, steps([10, 20, 30], [1, 1]), 1000.0)
    assert learned.policy.exits == (exit_at(OUTPUT),)
    assert learned.objective == pytest.approx(30.0)
    assert seeds([learned]) == []


def test_being_right_where_the_network_is_wrong_gains_nothing():
    """The second group leaves at once with a wrong answer, as the network is wrong about it too; exit 1 would know."""
    table, _ = grouped([[1, 0], [1, 1], [1, 0]], [[0.95, 0.6], [0.9] * 2, [0.9] * 2], [50, 50])
    learned = learn(table, steps([10, 20, 30], [1, 1]), 1000.0)
    assert [(s.exit.cut, s.threshold) for s in learned.policy.stops] == [("c0", -inf)]


def test_the_second_pass_learns_from_those_that_arrive():
    """At exit 1, A is wrong where B is right, and as sure; but A leaves at exit 0, which the first pass cannot know."""
    right = [[1, 0, 0, 0], [0, 1, 1, 0], [1, 1, 1, 1]]  # groups A, B, C, D
    sure = [[0.95, 0.6, 0.6, 0.6], [0.8, 0.8, 0.95, 0.55], [0.9] * 4]
    table, _ = grouped(right, sure, [80, 40, 40, 40])
    costs = steps([10, 20, 60], [1, 1])
    learned = learn(table, costs, 1000.0)
    found = outcome(learned, table, costs)
    assert found.accuracy == 1.0
    np.testing.assert_allclose(found.exit_rate, [0.4, 0.4, 0.2])


def test_cross_entropy_charges_being_less_sure():
    """Both exits are always right; exit 0 is much less sure of the second group, and cross-entropy minds."""
    table, _ = grouped([[1, 1], [1, 1]], [[0.95, 0.55], [0.95, 0.99]], [50, 50])
    costs = steps([10, 20], [1])
    learned = learn(table, costs, 100.0, learning=Learning(("linear",), "cross_entropy"))
    np.testing.assert_allclose(outcome(learned, table, costs).exit_rate, [0.5, 0.5])
    assert learned.objective == pytest.approx(0.5 * 11 + 0.5 * 21)
    assert learn(table, costs, 100.0).policy.exits == (exit_at("c0"),)


def simulate(learned, table, costs, scoring):
    """Sample by sample: (accuracy, mean cost, mean excess loss)."""
    gated = Scoring("gate", fits=(*scoring.fits, learned.fit))
    scores = score_table(table, gated)
    right, paid, excess = 0, 0.0, 0.0
    for n in range(len(table.labels)):
        before = 0
        for stop in learned.policy.stops:
            k = table.row(stop.exit)
            paid += costs.step[before, k]
            before = k + 1
            if scores[k, n] >= stop.threshold:
                break
        right += int(table.correct[k, n])
        excess += max(0, int(table.correct[-1, n]) - int(table.correct[k, n]))
    return np.array([right, paid, excess]) / len(table.labels)


@pytest.mark.parametrize("mu", [40.0, 80.0, 200.0])
def test_the_objective_is_what_becomes_of_every_sample(mu):
    table, costs = noisy(), steps([10, 20, 30, 40], [0.5, 0.5, 0.5])
    learned = learn(table, costs, mu)
    accuracy, paid, excess = simulate(learned, table, costs, folded(table))
    found = outcome(learned, table, costs)
    assert len(learned.policy.stops) > 1
    assert (found.accuracy, found.costs["macs"].mean) == pytest.approx((accuracy, paid))
    assert learned.objective == pytest.approx(paid + mu * excess)


def test_learned_gates_beat_every_policy_without_a_choice_on_unseen_samples():
    costs = steps([10, 20, 30, 40], [0.5, 0.5, 0.5])
    learned, unseen = learn(noisy(), costs, 80.0), noisy(n=2000, seed=1, split="test")
    _, paid, excess = simulate(learned, unseen, costs, folded(noisy()))
    fixed = [optimum(unseen, costs, 80.0, [k]) for k in range(4)]
    assert paid + 80.0 * excess < 0.9 * min(fixed)


def test_dearer_errors_make_fewer_of_them_and_cost_more():
    """Up to noise: gates are learned from other weights each time."""
    table, costs = noisy(depth=3), steps([10, 20, 30], [0.5, 0.5])
    mus = [20.0, 80.0, 200.0, 2000.0]
    learned = bolukbasi(table, costs, scoring=folded(table), learning=Learning(("linear",)), mus=mus)
    found = [outcome(one, table, costs) for one in learned]
    assert [one.mu for one in learned] == mus
    assert np.diff([f.accuracy for f in found]).min() > -0.02
    assert np.diff([f.costs["macs"].mean for f in found]).min() > -2.0
    assert found[-1].accuracy > found[0].accuracy + 0.05


def test_a_fold_never_sees_its_own_labels():
    table, costs = noisy(depth=3), steps([10, 20, 30], [0.5, 0.5])
    fold, labels = folded(table).fold, table.labels.copy()
    labels[fold == 2] = np.random.default_rng(0).permutation(labels[fold == 2])
    other = ExitTable(table.logits, labels, table.exits, "cal", "s")
    before, after = (learn(t, costs, 60.0, learning=Learning(("linear",))) for t in (table, other))
    assert before.policy.exits == after.policy.exits  # what the fold does decide: which candidates win
    assert len(before.policy.stops) == 3
    same = [np.array_equal(a, b) for a, b in zip(before.fit.parameters, after.fit.parameters, strict=True)]
    assert same == [False, False, False, True]  # 0 is deployed, 1 + f never saw fold f


def test_gates_see_answers_tempered_as_their_fold_is():
    """A fold's gates are learned, and judged, at the temperatures that have not seen the fold."""
    table, costs = noisy(depth=3), steps([10, 20, 30], [0.5, 0.5])
    fold = folded(table).fold
    heat = np.ones((1 + FOLDS, 3, 1), np.float32)
    heat[3] = 2.0
    scoring = Scoring(fits=(Fit("temperature", table.exits, heat, fold),))
    warm, cool = learn_gates(table, costs, 60.0, scoring=scoring), learn(table, costs, 60.0)
    same = [np.array_equal(a, b) for a, b in zip(warm.fit.parameters, cool.fit.parameters, strict=True)]
    assert same == [True, True, True, False]
    _, paid, excess = simulate(warm, table, costs, scoring)
    assert warm.objective == pytest.approx(paid + 60.0 * excess)


def test_the_best_head_stands_for_its_cut():
    two, costs = noisy(depth=3), steps([10, 20, 30], [0.5, 0.5])
    exits = (two.exits[0], exit_at("c1", "worse"), *two.exits[1:])
    logits = np.insert(two.logits, 1, -two.logits[1], axis=0)
    table = ExitTable(logits, two.labels, exits, "cal", "s")
    step = costs.step[np.ix_([0, 1, 2, 2, 3], [0, 1, 1, 2])]
    learned = learn(table, StageCosts(step, table.exits, "macs", 30.0), 60.0)
    assert learned.fit.exits == two.exits
    assert learned.policy.exits == learn(two, costs, 60.0).policy.exits


def test_prices_are_relative_to_the_backbone():
    table, costs = noisy(depth=2, n=60), steps([10, 20], [0.5])
    learned = bolukbasi(table, costs, scoring=folded(table), learning=Learning(("tree",)))
    np.testing.assert_allclose([one.mu for one in learned], 20.0 * np.array(RELATIVE_MUS))


def test_policy_and_fits_belong_together():
    table, costs = noisy(depth=3), steps([10, 20, 30], [0.5, 0.5])
    learned, scoring = learn(table, costs, 60.0), folded(table)
    assert learned.policy.fits == (*scoring.keys, learned.fit.key)
    assert learned.policy.criterion == "gate"
    assert learned.fit.kind == "gate"
    assert np.array_equal(learned.fit.fold, scoring.fold)
    assert np.isfinite(learned.fit.parameters).all()


def test_other_fits_lend_their_folds_only():
    table, costs = noisy(depth=3), steps([10, 20, 30], [0.5, 0.5])
    weights = Fit("ensemble", table.exits, np.ones((1 + FOLDS, 3, 1), np.float32), folded(table).fold)
    learned = learn_gates(table, costs, 60.0, scoring=Scoring(answer="mean", fits=(weights,)))
    assert learned.policy.fits == (learned.fit.key,)
    assert learned.fit.key == learn(table, costs, 60.0).fit.key


def test_gives_the_same_again():
    table, costs = noisy(depth=3, n=200), steps([10, 20, 30], [0.5, 0.5])
    first, second = (bolukbasi(table, costs, scoring=folded(table), mus=[20.0, 60.0]) for _ in range(2))
    assert [one.fit.key for one in first] == [one.fit.key for one in second]
    assert [one.policy for one in first] == [one.policy for one in second]


def test_seeds_are_distinct_and_name_their_mu():
    table, costs = noisy(depth=3, n=200), steps([10, 20, 30], [0.5, 0.5])
    told = []
    mus = [0.0, 0.001, 60.0, 60.0, 1e9]
    learned = bolukbasi(table, costs, scoring=folded(table), mus=mus, progress=lambda *t: told.append(t))
    found = seeds(learned)
    assert [seed.rule for seed in found][:2] == ["bolukbasi 0", "bolukbasi 60"]
    assert found[0].exits == (exit_at("c0"),)
    assert len({seed.exits for seed in found}) == len(found)
    assert not any(e.is_output for seed in found for e in seed.exits)
    assert told == [("learn gates", n, 5) for n in range(1, 6)]


@pytest.mark.parametrize("mu", [-1.0, inf, np.nan])
def test_refuses_a_price_that_is_none(mu):
    with pytest.raises(InputError, match="mu"):
        learn(noisy(depth=3, n=50), steps([10, 20, 30], [0.5, 0.5]), mu)


@pytest.mark.parametrize("classifiers", [(), ("forest",)])
def test_refuses_classifiers_that_are_none(classifiers):
    with pytest.raises(InputError, match="classifier"):
        learn(noisy(depth=3, n=50), steps([10, 20, 30], [0.5, 0.5]), 1.0, learning=Learning(classifiers))


def test_refuses_tables_that_do_not_do():
    table, costs = noisy(depth=3, n=50), steps([10, 20, 30], [0.5, 0.5])
    with pytest.raises(PolicyError, match="calibration"):
        learn(noisy(depth=3, n=50, split="test"), costs, 1.0)
    with pytest.raises(PolicyError, match="own classifier"):
        learn(table.select(table.exits[:2]), costs, 1.0)
    with pytest.raises(PolicyError, match="another calibration"):
        learn_gates(table, costs, 1.0, scoring=folded(noisy(depth=3, n=60)))
    with pytest.raises(InputError, match="folds"):
        learn_gates(table, costs, 1.0, scoring=Scoring())
    backwards = StageCosts(costs.step[:, ::-1], costs.exits, "macs", 30.0)
    with pytest.raises(CostError, match="in this order"):
        learn(table, backwards, 1.0)

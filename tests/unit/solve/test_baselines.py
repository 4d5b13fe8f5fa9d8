"""Named baselines on tables whose answers are known, and against brute force over their families."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations, product
from math import inf

import numpy as np
import pytest

from eesearch.core.costs import StageCosts
from eesearch.core.design import OUTPUT, OWN, ExitId
from eesearch.core.policy import Fit, Policy, Scoring, Stop
from eesearch.core.tables import ExitTable
from eesearch.exits.evaluate import evaluate
from eesearch.exits.routing import path_outputs, route
from eesearch.solve.baselines import (
    BASELINES,
    BRANCHY_LEVELS,
    branchynet,
    deebert,
    geometric_thresholds,
    msdnet,
    patience,
    sdn,
)
from eesearch.solve.placed import Placed, evaluations
from eesearch.solve.shared import non_dominated, shared_sweep


def exits_on(cuts):
    return (*(ExitId(network="n", cut=f"cut{k}", head="h") for k in range(cuts)),
            ExitId(network="n", cut=OUTPUT, head=OWN))  # fmt: skip


def chain_costs(exits, head=0.1):
    """Cuts at even shares of a cost of 1, and heads that cost a tenth of a block."""
    blocks = len(exits)
    own = np.append(np.full(blocks - 1, head / blocks), 0.0)
    prefix = np.arange(1, blocks + 1) / blocks
    step = np.full((blocks + 1, blocks), np.inf)
    step[0] = prefix + own
    for i in range(blocks):
        step[i + 1, i + 1 :] = prefix[i + 1 :] - prefix[i] + own[i + 1 :]
    return StageCosts(step, exits, "macs", 1.0)


def random_table(seed, cuts=3, samples=8, classes=3, ties=True):
    """Later exits are more often right; few distinct logits give many equal scores."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, samples)
    logits = rng.normal(size=(cuts + 1, samples, classes))
    logits[:, np.arange(samples), labels] += np.linspace(0.3, 2.0, cuts + 1)[:, None]
    logits = (np.round(logits) if ties else logits).astype(np.float32)
    return ExitTable(logits, labels, exits_on(cuts), "cal", "s")


def figures(evaluation):
    """(errors, cost summed over samples)"""
    n = evaluation.samples
    return round(evaluation.error * n), round(evaluation.costs["macs"].mean * n, 9)


def everything(table, costs, scoring):
    """(errors, cost) of every policy of a scoring: all paths, all thresholds at every stop."""
    found, last = set(), len(table.exits) - 1
    for k in range(last + 1):
        for early in combinations(range(last), k):
            for path in {(*early, last), early} - {()}:
                scores, correct = path_outputs(table, path, scoring)
                paid = costs.cumulative([table.exits[row] for row in path])
                levels = [np.unique(row) for row in scores[:-1].astype(np.float64)]
                choices = [[*((row[1:] + row[:-1]) / 2), inf] for row in levels]
                for thresholds in product(*choices):
                    stop = route(scores, [*thresholds, -inf])
                    errors = int((~correct[stop, np.arange(len(stop))]).sum())
                    found.add((errors, round(float(paid[stop].sum()), 9)))
    return found


@pytest.mark.parametrize("name", sorted(BASELINES))
@pytest.mark.parametrize("seed", range(4))
def test_a_baseline_is_a_policy_of_its_family_and_so_never_beats_the_exact_front(name, seed):
    table = random_table(seed, samples=6)
    costs = chain_costs(table.exits)
    candidates = BASELINES[name](table, costs, ())
    known = {}
    assert candidates
    for policy in candidates:
        scoring = Scoring(policy.criterion, policy.answer)
        family = known.setdefault((policy.criterion, policy.answer), everything(table, costs, scoring))
        assert figures(evaluate(policy, table, [costs])) in family


@pytest.mark.parametrize("name", sorted(BASELINES))
def test_candidates_are_distinct_and_found_again(name):
    table = random_table(7, cuts=4, samples=30)
    candidates = BASELINES[name](table, chain_costs(table.exits), ())
    assert len(set(candidates)) == len(candidates)
    assert candidates == BASELINES[name](table, chain_costs(table.exits), ())


def test_thresholds_are_chosen_with_the_fits_that_the_policies_name():
    table = random_table(1, samples=40, ties=False)
    heat = np.linspace(0.5, 3.0, 4, dtype=np.float32)[None, :, None]
    fit = Fit("temperature", table.exits, heat, np.empty(0, np.int16))
    for name, baseline in BASELINES.items():
        used = {policy.fits for policy in baseline(table, chain_costs(table.exits), (fit,))}
        assert used == ({()} if name == "patience" else {(fit.key,)})


def test_many_policies_are_evaluated_as_one_by_one():
    table = random_table(2, cuts=4, samples=30)
    costs = chain_costs(table.exits)
    policies = [p for name in ("sdn", "patience", "idk", "msdnet") for p in BASELINES[name](table, costs, ())]
    together = evaluations([(p, ()) for p in policies], table, [costs])
    assert together == [evaluate(p, table, [costs]) for p in policies]


@pytest.mark.parametrize("weighed", [True, False])
@pytest.mark.parametrize("ties", [True, False])
def test_the_sweep_is_what_routing_says_at_every_threshold(ties, weighed):
    table = random_table(3, cuts=4, samples=50, ties=ties)
    table = replace(table, weights=np.arange(50) % 4 + 1) if weighed else table
    costs = chain_costs(table.exits)
    placed = Placed.of(table, costs, range(5), Scoring())
    thresholds = placed.shared_thresholds()
    errors, cost = shared_sweep(placed, thresholds)
    for t, threshold in enumerate(thresholds):
        policy = placed.policy([threshold] * 4)
        found = evaluate(policy, table, [costs])
        assert round(found.error * table.weight.sum()) == errors[t]
        assert figures(found)[1] == round(float(cost[t]), 9)


def test_sdn_shares_one_threshold_and_none_is_better():
    table = random_table(4, cuts=19, samples=60, ties=False)
    costs = chain_costs(table.exits)
    candidates = sdn(table, costs)
    assert all(len(set(p.thresholds[:-1])) <= 1 for p in candidates)
    six = tuple(table.exits[k] for k in (2, 5, 8, 11, 14, 17))  # 5 % a block: behind 15, 30, 45, 60, 75 and 90 %
    assert {p.exits for p in candidates if len(p.stops) > 1} == {(*six, table.exits[-1])}
    found = {figures(e) for e in evaluations([(p, ()) for p in candidates], table, [costs])}
    rows = [table.row(e) for e in (*six, table.exits[-1])]
    placed = Placed.of(table, costs, rows, Scoring())
    swept = {
        figures(evaluate(placed.policy([t] * 6), table, [costs]))
        for t in [-inf, *(np.unique(placed.scores) + 1e-7), inf]
    }
    best = {p for p in swept if not any(q != p and q[0] <= p[0] and q[1] <= p[1] for q in swept)}
    assert found == best
    assert len(best) > 5


def test_deebert_shares_one_entropy_threshold_between_all_cuts():
    table = random_table(4, cuts=19, samples=60, ties=False)
    candidates = deebert(table, chain_costs(table.exits))
    assert {p.criterion for p in candidates} == {"entropy"}
    assert all(len(set(p.thresholds[:-1])) <= 1 for p in candidates)
    assert {len(p.stops) for p in candidates} == {1, 7, 20}  # all leave at once; six exits as SDN's; one on every cut


def test_non_dominated_keeps_the_first_of_equals():
    errors, cost = np.array([3, 2, 2, 5, 1, 1]), np.array([1.0, 2.0, 2.0, 0.5, 2.0, 9.0])
    assert non_dominated(errors, cost) == [3, 0, 4]


@pytest.mark.parametrize("ratio", [0.05, 0.5, 1.0, 1.5, 1.95])
def test_msdnet_meets_the_geometric_distribution(ratio):
    table = random_table(5, cuts=5, samples=400, ties=False)
    placed = Placed.of(table, chain_costs(table.exits), range(6), Scoring())
    stop = route(placed.scores.astype(np.float32), [*geometric_thresholds(placed, ratio), -inf])
    shares = ratio ** np.arange(1, 7)
    assert np.bincount(stop, minlength=6) == pytest.approx(400 * shares / shares.sum(), abs=1.0)


def test_msdnet_never_splits_ties_and_the_next_exit_makes_good():
    # Two of the four are equally sure at the first exit: one cannot leave alone. q = 1: a third each would be 1.33.
    exits = exits_on(2)
    sure = np.array([[3, 3, 1, 0], [9, 9, 5, 4], [1, 1, 1, 1]], np.float32)
    table = ExitTable(np.stack([sure, 0 * sure], -1), np.zeros(4, np.int64), exits, "cal", "s")
    placed = Placed.of(table, chain_costs(exits), range(3), Scoring())
    stop = route(placed.scores.astype(np.float32), [*geometric_thresholds(placed, 1.0), -inf])
    assert stop.tolist() == [0, 0, 1, 2]
    assert 1 < len(msdnet(table, chain_costs(exits))) < 39  # so few samples leave in few ways


def test_branchynet_screens_two_branches_at_both_places():
    table = random_table(6, cuts=11, samples=200, ties=False)
    candidates = branchynet(table, chain_costs(table.exits))
    paths = {tuple(table.row(e) for e in p.exits) for p in candidates}
    assert paths == {(0, 3, 11), (3, 7, 11)}  # 12 blocks: 2 and 34 %, then 33 and 67 %
    assert len(candidates) == 2 * (BRANCHY_LEVELS + 1) ** 2
    assert {p.criterion for p in candidates} == {"entropy"}
    assert {p.thresholds for p in candidates} >= {(inf, inf, -inf)}


def test_patience_waits_for_agreement():
    #                 sample   0  1  2  3
    said = np.array([[0, 1, 0, 0], [0, 1, 1, 1], [0, 0, 1, 0], [1, 0, 1, 1]])
    exits = exits_on(3)
    table = ExitTable(np.eye(2, dtype=np.float32)[said], np.zeros(4, np.int64), exits, "cal", "s")
    costs = chain_costs(exits, head=0.0)
    candidates = patience(table, costs)
    assert [p.thresholds for p in candidates] == [(1.5, 1.5, 1.5, -inf), (2.5, 2.5, 2.5, -inf)]
    one, two = evaluations([(p, ()) for p in candidates], table, [costs])
    # One more exit that agrees: samples 0 and 1 at the second exit, sample 2 at the third, sample 3 never does.
    assert one.exit_rate == (0.0, 0.5, 0.25, 0.25)
    assert one.accuracy == 0.25
    assert two.exit_rate == (0.0, 0.0, 0.25, 0.75)  # sample 0 alone agrees three times


def test_one_exit_has_nobody_to_agree_with():
    table = random_table(8, cuts=1)
    assert patience(table, chain_costs(table.exits)) == []


def test_the_best_head_of_each_cut_is_used():
    exits = (ExitId(network="n", cut="a", head="bad"), ExitId(network="n", cut="a", head="good"), exits_on(0)[0])
    logits = np.array([[[0, 1], [0, 1]], [[2, 0], [0, 1]], [[1, 0], [1, 0]]], np.float32)
    table = ExitTable(logits, np.zeros(2, np.int64), exits, "cal", "s")
    step = np.array([[0.5, 0.5, 1.0], [inf, inf, 0.5], [inf, inf, 0.5], [inf, inf, inf]])
    for name, baseline in BASELINES.items():
        used = {e.head for policy in baseline(table, StageCosts(step, exits, "macs", 1.0), ()) for e in policy.exits}
        assert "bad" not in used, name
    thresholds = sdn(table, StageCosts(step, exits, "macs", 1.0))
    assert Policy(stops=(Stop(exit=exits[1], threshold=-inf),), criterion="max_prob") in thresholds

"""The placement rules on a bank whose routing can be followed by hand."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import numpy as np
import pytest

from eesearch.core.costs import StageCosts
from eesearch.core.design import OUTPUT, OWN, ExitId
from eesearch.core.errors import PolicyError
from eesearch.core.steps import Parts, call_steps
from eesearch.core.tables import ExitTable, best_per_cut
from eesearch.seeding.bank import (
    Chain,
    fixed,
    keep_panda_chain,
    keep_panda_shared,
    propose,
    reference_thresholds,
    remeasured,
    th_star,
)


def exit_at(cut, head="linear-avg1"):
    return ExitId(network="n", cut=cut, head=OWN if cut == OUTPUT else head)


def table_of(correct, exits):
    """Two classes, all labels 1. [E, N]"""
    correct = np.asarray(correct, bool)
    logits = np.stack([~correct, correct], -1).astype(np.float32)
    return ExitTable(logits, np.ones(correct.shape[1], np.int64), exits, "cal", "s")


def steps(prefix, head, *, decision=0.0, resume=0.0):
    """Steps between one exit per cut. Prefixes [L], heads [L - 1]."""
    cuts = [chr(ord("a") + k) for k in range(len(head))]
    exits = (*map(exit_at, cuts), exit_at(OUTPUT))
    known = {cut: {"linear-avg1": float(cost)} for cut, cost in zip(cuts, head, strict=True)}
    parts = Parts(tuple(map(float, prefix)), known, {"max_prob": decision}, resume)
    return call_steps(cuts, parts, exits, "max_prob", "macs")


EXITS = (exit_at("a"), exit_at("b"), exit_at(OUTPUT))


@pytest.fixture
def chain():
    """Ten samples. Exit a lets 0-4 go, b lets 0-6 go; prefixes 10, 20, 30; heads 1 and 2."""
    scores = np.float32([[1] * 5 + [0] * 5, [1] * 7 + [0] * 3, [0] * 10])
    return Chain(EXITS, steps([10, 20, 30], [1, 2]), scores, np.array([0.5, 0.5, -inf]))


def test_reference_threshold_is_the_lowest_at_which_leaving_costs_no_accuracy():
    scores = np.float32([[0.9, 0.8, 0.7, 0.6, 0.5], [0] * 5])
    table = table_of([[1, 1, 0, 1, 0], [1, 0, 1, 1, 1]], EXITS[1:])
    # gains over the own classifier, by falling score: 0, +1, -1, 0, -1; sums 0, 1, 0, 0, -1
    np.testing.assert_allclose(reference_thresholds(table, scores), [0.55, -inf], rtol=1e-6)


def test_reference_threshold_goes_by_the_weights_of_samples():
    scores = np.float32([[0.9, 0.8, 0.7, 0.6, 0.5], [0] * 5])
    table = table_of([[1, 1, 0, 1, 0], [1, 0, 1, 1, 1]], EXITS[1:])
    # gains by falling score: 0, +1, -1, 0, -1
    for weights, threshold in (([1, 1, 2, 1, 1], 0.75), ([1, 2, 1, 1, 1], -inf), ([1, 3, 1, 1, 3], 0.55)):
        weighed = replace(table, weights=np.array(weights))
        np.testing.assert_allclose(reference_thresholds(weighed, scores), [threshold, -inf], rtol=1e-6)


def test_reference_threshold_never_splits_equal_scores():
    scores = np.float32([[0.9, 0.5, 0.5], [0] * 3])
    table = table_of([[1, 1, 0], [1, 1, 1]], EXITS[1:])
    np.testing.assert_allclose(reference_thresholds(table, scores), [0.7, -inf], rtol=1e-6)


def test_reference_threshold_is_infinite_when_leaving_always_costs():
    table = table_of([[0, 1], [1, 1]], EXITS[1:])
    assert reference_thresholds(table, np.float32([[0.9, 0.1], [0, 0]])).tolist() == [inf, -inf]


def test_reference_threshold_lets_all_leave_an_exit_as_good_as_the_end():
    table = table_of([[0, 1], [1, 0]], EXITS[1:])
    assert reference_thresholds(table, np.float32([[0.9, 0.9], [0, 0]])).tolist() == [-inf, -inf]


def test_reference_thresholds_need_the_own_classifier():
    with pytest.raises(PolicyError, match="not a network's own classifier"):
        reference_thresholds(table_of([[1]], EXITS[:1]), np.zeros((1, 1), np.float32))


def test_chain_recovers_prefixes_and_heads_from_the_steps(chain):
    np.testing.assert_allclose(chain.prefix, [10, 20, 30])
    np.testing.assert_allclose(chain.head, [1, 2, 0])


@pytest.mark.parametrize("cuts", [2, 3, 4])
def test_what_deciding_by_the_own_classifier_costs_is_no_part_of_an_exit(cuts):
    """It is paid once behind several exits, and moves neither a cut nor a placement by shares of the cost."""
    prefix, head = np.arange(1.0, cuts + 2.0), np.linspace(0.1, 0.4, cuts)
    chain = Chain((), steps(prefix, head, decision=0.5, resume=0.02), np.zeros((cuts + 1, 1)), np.zeros(cuts + 1))
    np.testing.assert_allclose(chain.head, [*(head + 0.5 + 0.02), 0.0])
    np.testing.assert_allclose(chain.prefix, [*(prefix[:-1] - 0.02), prefix[-1]])


def test_chain_measures_reach_between_active_exits(chain):
    np.testing.assert_allclose(chain.reach([0, 1, 2]), [1.0, 0.5, 0.3])
    np.testing.assert_allclose(chain.reach([1, 2]), [1.0, 0.3])


def test_chain_measures_what_leavers_would_still_have_paid(chain):
    assert chain.togo([0, 1, 2], 0) == 12.0  # from a's tap: block and head of b, where all five leave
    assert chain.togo([0, 1, 2], 1) == 10.0  # the last block
    assert chain.togo([0, 2], 0) == 20.0


def test_panda_shared_keeps_exactly_the_exits_that_lower_the_mean_cost():
    rng = np.random.default_rng(0)
    for _ in range(50):
        timed = {"decision": rng.uniform(0, 2), "resume": rng.uniform(0, 1)}
        step = steps(rng.uniform(1, 10, 5).cumsum(), rng.uniform(0, 4, 4), **timed)
        scores = rng.random((5, 30)).astype(np.float32)
        exits = (*map(exit_at, "abcd"), exit_at(OUTPUT))
        chain = Chain(exits, step, scores, np.array([*rng.random(4), -inf]))
        everything = [0, 1, 2, 3, 4]

        def mean_cost(active, chain=chain):
            return chain.cumulative(active)[chain.stop(active)].mean()

        cheaper = [i for i in range(4) if mean_cost(everything) < mean_cost([j for j in everything if j != i]) - 1e-9]
        assert fixed(chain, keep_panda_shared) == cheaper


def test_panda_chain_compares_with_the_next_exit(chain):
    # a: (22 + 1 - 11) (1 - 0.5) = 6 > 11 * 0.5 = 5.5 holds; b: (33 - 23) (0.5 - 0.3) = 2 > 23 * 0.3 does not
    assert fixed(chain, keep_panda_chain) == [0]


def test_th_star_by_hand(chain):
    # a: cm 0.5, f 10, next 10, c 1; b: cm 0.6, c 2
    np.testing.assert_allclose(th_star(chain, [0, 1, 2], "th_rule"), [15.5 / 20, (6 + 0.8 + 10) / 20])
    np.testing.assert_allclose(th_star(chain, [0, 1, 2], "th_paid"), [16 / 20, (6 + 2 + 10) / 20])


def test_remeasuring_gives_a_later_exit_the_samples_of_a_dropped_one(chain):
    """Both exits take the same five samples: with a active nobody is left for b; once a is dropped b takes them."""
    same = Chain(chain.exits, chain.step, chain.scores[[0, 0, 2]], chain.thresholds)

    def used(chain, active, at):
        reach = chain.reach(active)
        return active[at] != 0 and reach[at] > reach[at + 1]

    assert fixed(same, used) == []
    assert remeasured(same, used) == [1]


def test_remeasuring_merges_the_blocks_around_a_dropped_exit(chain):
    np.testing.assert_allclose(th_star(chain, [1, 2], "th_paid"), [(20 + 2 + 0.3 * 10) / 30])


def test_the_most_accurate_head_stands_for_its_cut():
    exits = (exit_at("a", "x"), exit_at("a", "y"), exit_at("b", "x"), exit_at("b", "y"), exit_at(OUTPUT))
    table = table_of([[1, 0, 0], [1, 1, 0], [1, 1, 0], [0, 1, 1], [1, 1, 1]], exits)
    assert best_per_cut(table.exits, table.accuracy) == [1, 2, 4]


@pytest.fixture
def bank():
    """Eight cuts with two heads each; later exits let more samples go, rightly."""
    rng = np.random.default_rng(1)
    exits = (*(exit_at(f"c{k}", h) for k in range(8) for h in ("x", "y")), exit_at(OUTPUT))
    ease = rng.random(200)
    logits = rng.normal(size=(17, 200, 3)) * 0.3
    logits[:, :, 1] += 4.0 * (ease - 0.6 + np.arange(17)[:, None] / 20.0)
    depth = [*np.repeat(np.arange(8), 2), 8]
    step = np.full((18, 17), inf)
    own = [*np.tile([0.1, 0.2], 8), 0.0]
    for j in range(17):
        step[0, j] = depth[j] + 1.0 + own[j]
        for i in range(17):
            if depth[i] < depth[j]:
                step[i + 1, j] = depth[j] - depth[i] + own[j]
    scores = logits.max(-1).astype(np.float32)
    table = ExitTable(logits.astype(np.float32), np.ones(200, np.int64), exits, "cal", "s")
    return table, StageCosts(step, exits, "macs", 9.0), scores


def test_propose_makes_distinct_placements_of_one_head_per_cut(bank):
    table, costs, scores = bank
    seeds = propose(table, costs, scores)
    assert len({seed.exits for seed in seeds}) == len(seeds)
    for seed in seeds:
        cuts = [e.cut for e in seed.exits]
        assert cuts == sorted(set(cuts))
        assert OUTPUT not in cuts
        assert seed.exits


def test_propose_names_every_kind_of_rule(bank):
    kinds = {seed.rule.split()[0] for seed in propose(*bank)}
    assert {"percentile", "panda_shared", "th_rule"} <= kinds


def test_propose_places_by_percentile_of_the_prefixes(bank):
    by_rule = {seed.rule: [e.cut for e in seed.exits] for seed in propose(*bank)}
    assert by_rule["percentile 2"] == ["c0", "c7"]  # 1/9 and 8/9 of the cost: nearest to 15 and 90 %


def test_propose_gives_the_same_again(bank):
    assert propose(*bank) == propose(*bank)

"""Oracles against what they are said to do, sample by sample and path by path."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from math import inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eesearch.core.costs import StageCosts
from eesearch.core.design import ASK, NOTHING, OUTPUT, OWN, ExitId
from eesearch.core.errors import CostError
from eesearch.core.policy import Fit, Policy, Scoring, Stop
from eesearch.core.tables import ExitTable
from eesearch.exits.evaluate import evaluate
from eesearch.exits.last_resort import with_last_resort
from eesearch.solve import oracle
from eesearch.solve.oracle import oracle_front, overthinking, plain_oracle, stable_oracle, static_front


def make_table(correct, depths):
    """A table of two classes on which each exit is right as told; the last exit is the own classifier."""
    correct = np.array(correct, np.bool_)
    logits = np.zeros((*correct.shape, 2), np.float32)
    logits[..., 1] = np.where(correct, 1.0, -1.0)
    heads = [ExitId(network="n", cut=f"cut{d}", head=f"head{row}") for row, d in enumerate(depths[:-1])]
    exits = (*heads, ExitId(network="n", cut=OUTPUT, head=OWN))
    return ExitTable(logits, np.ones(correct.shape[1], np.int64), exits, "test", "s")


def make_costs(table, depths, own, axis="macs"):
    """A unit per depth, and every active head; the own classifier is free."""
    depth, count = [-1, *depths], len(depths)
    step = np.full((count + 1, count), inf)
    for i, before in enumerate(depth):
        for j, here in enumerate(depths):
            if before < here:
                step[i, j] = here - before + own[j]
    return StageCosts(step, table.exits, axis, float(depths[-1] + 1))


def replace_head(exit_, head):
    return exit_.model_copy(update={"head": head})


@st.composite
def problems(draw, odd_costs=False):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    exits, samples = draw(st.integers(1, 5)), draw(st.integers(1, 12))
    depths = [*sorted(rng.integers(0, 3, exits - 1).tolist()), 3]
    table = make_table(rng.random((exits, samples)) < rng.uniform(0.3, 0.9), depths)
    costs = make_costs(table, depths, [*rng.integers(0, 3, exits - 1), 0])
    if odd_costs:
        step = np.where(np.isfinite(costs.step), rng.integers(0, 9, costs.step.shape), inf)
        step[0, rng.random(exits) < 0.2] = inf
        costs = StageCosts(step, costs.exits, "macs", 4.0)
    if draw(st.booleans()):
        table, (costs,) = with_last_resort(table, [costs], {"macs": float(rng.integers(0, 12))})
    return table, costs


def by_hand(table, costs, path, may_leave):
    """Errors and summed cost when sample n leaves at the first stop i with may_leave(answers, i), or at the last."""
    legs = [costs.step[i, j] for i, j in zip([0, *(row + 1 for row in path)], path, strict=False)]
    errors, cost = 0, 0.0
    for n in range(table.correct.shape[1]):
        answers = [bool(table.correct[row, n]) for row in path]
        stop = next((i for i in range(len(path)) if may_leave(answers, i)), len(path) - 1)
        errors += not answers[stop]
        cost += sum(legs[: stop + 1])
    return errors, cost


def stable(answers, i):
    return all(answers[i:])


def plain(answers, i):
    return answers[i]


def all_paths(table, costs, max_exits):
    on_cut = [not (e.is_output or e.is_last_resort) for e in table.exits]
    for count in range(1, len(on_cut) + 1):
        for path in combinations(range(len(on_cut)), count):
            legs = [costs.step[i, j] for i, j in zip([0, *(row + 1 for row in path)], path, strict=False)]
            if np.isfinite(legs).all() and sum(on_cut[row] for row in path) <= max_exits:
                yield path


def non_dominated(values):
    found = set(values)
    return sorted(v for v in found if not any(w != v and w[0] <= v[0] and w[1] <= v[1] for w in found))


def as_counts(points, samples):
    return sorted((round(p.error * samples), round(p.cost * samples, 9)) for p in points)


@settings(max_examples=200, deadline=None)
@given(problems(), st.integers(0, 4))
def test_oracles_do_what_they_are_said_to_do(problem, max_exits):
    table, costs = problem
    samples = table.correct.shape[1]
    for path in all_paths(table, costs, max_exits):
        exits = [table.exits[row] for row in path]
        for oracle_of, rule in ((stable_oracle, stable), (plain_oracle, plain)):
            point = oracle_of(table, costs, exits)
            assert as_counts([point], samples) == [by_hand(table, costs, path, rule)]
            assert sum(point.exit_rate) == pytest.approx(1.0)
            assert point.exit_rate @ costs.cumulative(exits) == pytest.approx(point.cost)


@settings(max_examples=200, deadline=None)
@given(problems(odd_costs=True), st.integers(0, 4))
def test_the_front_is_that_of_all_paths(problem, max_exits):
    table, costs = problem
    expected = [by_hand(table, costs, path, stable) for path in all_paths(table, costs, max_exits)]
    front = oracle_front(table, costs, max_exits)
    found = as_counts(front.points, table.correct.shape[1])
    assert non_dominated(found) == non_dominated(expected)  # costs that differ in the last bit are equal here
    exact = sorted((p.error, p.cost) for p in front.points)
    assert non_dominated(exact) == exact  # and here they are not: nothing dominated is on the front
    assert [p.cost for p in front.points] == sorted(p.cost for p in front.points)
    assert front.all_heads
    for point in front.points:
        assert point == stable_oracle(table, costs, point.exits)


@settings(max_examples=200, deadline=None)
@given(problems(), st.data())
def test_laws(problem, data):
    table, costs = problem
    path = data.draw(st.sampled_from(list(all_paths(table, costs, 4))))
    exits = [table.exits[row] for row in path]
    lucky, sure = plain_oracle(table, costs, exits), stable_oracle(table, costs, exits)
    assert sure.error == 1.0 - table.correct[path[-1]].mean()  # its stops change the cost, never the answers
    assert lucky.error <= sure.error
    assert lucky.cost <= sure.cost + 1e-12
    thresholds = [*data.draw(st.lists(st.floats(0.4, 1.1), min_size=len(path) - 1, max_size=len(path) - 1)), -inf]
    if not table.exits[path[-1]].is_last_resort:  # whose row has no logits to be sure of
        stops = tuple(Stop(exit=e, threshold=t) for e, t in zip(exits, thresholds, strict=True))
        assert lucky.error <= evaluate(Policy(stops=stops, criterion="max_prob"), table, [costs]).error + 1e-12


@settings(max_examples=100, deadline=None)
@given(problems(), st.integers(0, 3))
def test_more_exits_never_cost_an_oracle_more_and_no_static_network_beats_it(problem, max_exits):
    table, costs = problem
    fewer, more = (oracle_front(table, costs, k).points for k in (max_exits, max_exits + 1))
    static = static_front(table, [costs]).points if max_exits else ()
    for point in (*fewer, *static):
        cost = point.cost if hasattr(point, "cost") else point.costs["macs"].mean
        assert any(p.error <= point.error + 1e-12 and p.cost <= cost + 1e-12 for p in more)


def test_errors_and_accuracies_go_by_the_weights_of_samples():
    plain = make_table([[1, 0, 0, 1], [0, 1, 0, 1]], [0, 1])
    table = replace(plain, weights=np.array([1, 2, 4, 8]))
    step = np.array([[1.0, 2.0], [np.inf, 1.0], [np.inf, np.inf]])
    costs = StageCosts(step, table.exits, "macs", 2.0)
    assert plain_oracle(table, costs, table.exits).error == pytest.approx(4 / 15)
    assert stable_oracle(table, costs, table.exits).error == pytest.approx(5 / 15)
    assert [p.accuracy for p in static_front(table, [costs]).points] == pytest.approx([9 / 15, 10 / 15])
    (facts,) = overthinking(table)
    assert (facts.accuracy, facts.right) == (pytest.approx(9 / 15), 2)
    assert stable_oracle(plain, costs, table.exits).error == 0.5


@pytest.mark.parametrize("seed", range(30))
def test_where_a_sample_crosses_without_being_asked_nobody_leaves_and_nobody_is_wrong(seed):
    """Silent stops move a sample to another tier; the best path may go by them."""
    rng = np.random.default_rng(seed)
    depths = [0, 0, 1, 1, 2, 3]
    table = make_table(rng.random((6, 12)) < 0.7, depths)
    silent = [1, 3]
    exits = tuple(replace_head(e, NOTHING) if row in silent else e for row, e in enumerate(table.exits))
    logits = table.logits.copy()
    logits[silent] = 0.0  # of which the first class, that is wrong, is the answer
    table = replace(table, exits=exits, logits=logits)
    costs = make_costs(table, depths, [*rng.integers(0, 3, 5), 0])
    step = np.where(np.isfinite(costs.step), rng.integers(1, 9, costs.step.shape), inf)
    costs = replace(costs, step=step)
    best = {}
    for count in range(1, 5):
        for rows in combinations(range(6), count):
            if rows[-1] in silent or not np.isfinite(step[[0, *(r + 1 for r in rows[:-1])], rows]).all():
                continue
            if sum(row < 5 for row in rows) > 3:
                continue
            total, said = 0.0, [row for row in rows if row not in silent]
            for sample in range(12):
                right = [bool(table.correct[row, sample]) for row in said]
                leaves = next((row for k, row in enumerate(said) if all(right[k:])), said[-1])
                before = 0
                for row in rows[: rows.index(leaves) + 1]:
                    total += step[before, row]
                    before = row + 1
            found = stable_oracle(table, costs, [exits[row] for row in rows])
            assert found.cost == pytest.approx(total / 12)
            best[rows[-1]] = min(best.get(rows[-1], inf), total / 12)
    front = oracle_front(table, costs, 3)
    for last, least in best.items():
        error = 1.0 - table.correct[last].mean()
        reached = [point.cost for point in front.points if point.error <= error + 1e-12]
        assert min(reached) <= least + 1e-9
    assert {round(point.cost, 9) for point in front.points} <= {round(least, 9) for least in best.values()}


def test_a_lucky_guess_does_not_count():
    table = make_table([[1, 1, 0, 0], [0, 1, 0, 1], [1, 1, 0, 1]], [0, 1, 2])
    costs = make_costs(table, [0, 1, 2], [0, 0, 0])
    found = stable_oracle(table, costs, table.exits)
    assert found.exit_rate == (0.25, 0.25, 0.5)  # sample 0 is right at first, then wrong; nobody is right about 2
    assert (found.error, found.cost) == (0.25, (3 + 1 + 3 + 2) / 4)
    lucky = plain_oracle(table, costs, table.exits)
    assert lucky.exit_rate == (0.5, 0.25, 0.25)
    assert (lucky.error, lucky.cost) == (0.25, (1 + 1 + 3 + 2) / 4)


def test_giving_up_early_whom_nobody_gets_right_may_cost_less_than_the_stable_oracle():
    table = make_table([[1, 0, 0], [1, 0, 1]], [0, 1])
    costs = make_costs(table, [0, 1], [0, 0])
    scores = np.array([1.0, 1.0, 0.0])  # of a criterion that is as sure of sample 1, which is hopeless, as of sample 0
    stop = np.where(scores >= 0.5, 0, 1)
    error, cost = 1.0 - table.correct[stop, np.arange(3)].mean(), costs.cumulative(table.exits)[stop].mean()
    oracle_point = stable_oracle(table, costs, table.exits)
    assert oracle_point == oracle_front(table, costs, 1).points[-1]
    assert error == oracle_point.error
    assert cost < oracle_point.cost


def test_where_there_are_too_many_paths_the_most_accurate_heads_take_part_and_it_says_so(monkeypatch):
    rng = np.random.default_rng(2)
    depths = [0, 0, 1, 1, 1, 2]
    table = make_table(rng.random((6, 300)) < np.array([0.5, 0.6, 0.8, 0.8, 0.7, 0.9])[:, None], depths)
    costs = make_costs(table, depths, [0.1, 0.2, 0.1, 0.1, 0.1, 0.0])
    every = oracle_front(table, costs, 2)
    monkeypatch.setattr(oracle, "MOST_WORK", 0)
    some = oracle_front(table, costs, 2)
    assert every.all_heads
    assert not some.all_heads
    right = table.correct.sum(-1)
    kept = [1, 2 + int(right[2:5].argmax()), 5]
    fewer = table.select([table.exits[row] for row in kept])
    monkeypatch.undo()
    assert some.points == oracle_front(fewer, costs.select(fewer.exits), 2).points
    assert some.points != every.points


def test_an_oracle_needs_an_order_that_can_be_met():
    table = make_table(np.ones((3, 4)), [0, 0, 1])
    costs = make_costs(table, [0, 0, 1], [0, 0, 0])
    with pytest.raises(CostError, match="in this order"):
        stable_oracle(table, costs, table.exits)


def test_static_networks_are_policies_of_one_stop():
    table = make_table([[1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 0, 0], [1, 1, 1, 0]], [0, 1, 2, 3])
    costs = [make_costs(table, [0, 1, 2, 3], [1, 0, 0, 0]), make_costs(table, [0, 1, 2, 3], [0] * 4, "latency_ms")]
    fit = Fit("temperature", table.exits, np.full((1, 4, 1), 2.0, np.float32), np.empty(0, np.int16))
    front = static_front(table, costs, Scoring("margin", fits=(fit,)), device="somewhere")
    assert front.device == "somewhere"
    assert [(p.accuracy, p.costs["macs"].mean) for p in front.points] == [(0.5, 2.0), (0.75, 4.0)]
    assert [p.policy.exits for p in front.points] == [(table.exits[1],), (table.exits[3],)]
    assert all(p == evaluate(p.policy, table, costs, [fit]) for p in front.points)
    assert {p.policy.criterion for p in front.points} == {"margin"}


def test_an_exit_that_the_input_does_not_reach_is_no_static_network():
    table = make_table([[1, 1, 1], [1, 1, 0]], [0, 1])
    costs = make_costs(table, [0, 1], [0, 0])
    costs.step[0, 0] = inf
    assert [p.policy.exits for p in static_front(table, [costs]).points] == [(table.exits[1],)]


def test_asking_somebody_is_no_static_network():
    table = make_table([[1, 0], [1, 0]], [0, 1])
    asked, costs = with_last_resort(table, [make_costs(table, [0, 1], [0, 0])], {"macs": 0.5})
    assert asked.exits[-1] == ASK
    assert all(not e.is_last_resort for p in static_front(asked, costs).points for e in p.policy.exits)
    assert [o.exit for o in overthinking(asked)] == [table.exits[0]]
    assert oracle_front(asked, costs[0], 1).points[0].exits == (ASK,)


def test_overthinking_counts_what_going_on_loses_and_gains():
    table = make_table([[1, 1, 1, 0, 0], [0, 1, 0, 1, 0], [1, 0, 0, 1, 0]], [0, 1, 2])
    first, second = overthinking(table)
    assert (first.exit, second.exit) == table.exits[:2]
    assert (first.right, first.lost, first.gained, first.samples) == (3, 2, 1, 5)
    assert (second.right, second.lost, second.gained, second.samples) == (2, 1, 1, 5)

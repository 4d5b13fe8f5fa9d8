"""IDK and Streeter's cascades: their objectives and constraints, and tables worked by hand."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import numpy as np
import pytest

from eesearch.core.costs import StageCosts
from eesearch.core.design import OUTPUT, OWN, ExitId
from eesearch.core.policy import Scoring
from eesearch.core.tables import ExitTable
from eesearch.exits.evaluate import evaluate
from eesearch.exits.routing import route
from eesearch.solve.cascades import STREETER_TARGETS, descend, greedy, idk, streeter
from eesearch.solve.placed import Placed


def exits_on(cuts):
    return (*(ExitId(network="n", cut=f"cut{k}", head="h") for k in range(cuts)),
            ExitId(network="n", cut=OUTPUT, head=OWN))  # fmt: skip


def table_of(scores, correct):
    """Two classes; each exit gives the class that makes it right or wrong a probability of `score` > 0.5."""
    scores, correct = np.asarray(scores, float), np.asarray(correct, bool)
    right = np.where(correct, scores, 1.0 - scores)
    logits = np.log(np.stack([right, 1.0 - right], -1)).astype(np.float32)
    return ExitTable(logits, np.zeros(scores.shape[1], np.int64), exits_on(len(scores) - 1), "cal", "s")


def chain_costs(exits, blocks, heads):
    prefix = np.cumsum(blocks)
    step = np.full((len(exits) + 1, len(exits)), np.inf)
    step[0] = prefix + heads
    for i in range(len(exits)):
        step[i + 1, i + 1 :] = prefix[i + 1 :] - prefix[i] + np.asarray(heads)[i + 1 :]
    return StageCosts(step, exits, "macs", float(prefix[-1]))


def random_case(seed, cuts=4, samples=60):
    rng = np.random.default_rng(seed)
    ease = rng.uniform(size=samples)
    chance = np.clip(ease + np.linspace(-0.2, 0.5, cuts + 1)[:, None], 0.05, 0.98)
    correct = rng.uniform(size=chance.shape) < chance
    scores = np.round(0.5 + 0.49 * np.clip(chance + rng.normal(0, 0.15, chance.shape), 0.01, 1.0), 2)
    table = replace(table_of(scores, correct), weights=rng.integers(1, 6, samples) if seed % 2 else None)
    return table, chain_costs(table.exits, np.ones(cuts + 1), [0.1] * cuts + [0.0])


@pytest.mark.parametrize("seed", range(5))
def test_streeters_cascades_keep_the_accuracy_relative_to_the_reference(seed):
    table, costs = random_case(seed)
    stages = Placed.of(table, costs, range(5), Scoring())
    costs_seen = []
    for alpha in (1.0, 0.97, 0.9, 0.7):
        chosen, thresholds = greedy(stages, costs.step, alpha)
        stop = route(stages.scores[chosen].astype(np.float32), thresholds)
        reference = table.correct[-1]
        for position, stage in enumerate(chosen):  # at every stage, and so in all
            own = stop == position
            assert own.any()
            assert table.correct[stage, own] @ table.weight[own] >= alpha * (reference[own] @ table.weight[own]) - 1e-9
        assert chosen == sorted(set(chosen))
        costs_seen.append(costs.cumulative([table.exits[stage] for stage in chosen])[stop].mean())
    assert costs_seen[-1] < 0.7 * costs.backbone
    assert len(streeter(table, costs)) > 1
    assert max(STREETER_TARGETS) == 1.0


def test_the_greedy_cascade_worked_by_hand():
    # Answered under alpha = 1, where the reference is right about all: exit a 1 (cost 2), exit b 3 (cost 4): b first.
    # Then a is behind us, and the reference answers the last.
    table = table_of([[0.9, 0.8, 0.7, 0.6], [0.9, 0.8, 0.7, 0.6], [0.99] * 4], [[1, 0, 1, 1], [1, 1, 1, 0], [1] * 4])
    costs = chain_costs(table.exits, [1.0, 2.0, 5.0], [1.0, 1.0, 0.0])
    stages = Placed.of(table, costs, range(3), Scoring())
    assert greedy(stages, costs.step, 1.0) == ([1, 2], [pytest.approx(0.65), -inf])
    # A head that costs next to nothing turns the ratio: a answers one sample for 1.2, b then two for 3.
    cheap = chain_costs(table.exits, [1.0, 2.0, 5.0], [0.2, 1.0, 0.0])
    assert greedy(stages, cheap.step, 1.0) == ([0, 1, 2], [pytest.approx(0.85), pytest.approx(0.65), -inf])
    # Three in four suffice: a may answer everybody.
    assert greedy(stages, cheap.step, 0.75) == ([0], [-inf])


def test_accuracy_is_relative_to_the_reference_where_that_errs():
    # Exit a errs where the reference errs too, which costs nothing; and where it does not.
    table = table_of([[0.9, 0.8, 0.7, 0.6], [0.99] * 4], [[1, 0, 0, 1], [1, 0, 1, 1]])
    costs = chain_costs(table.exits, [1.0, 9.0], [0.0, 0.0])
    stages = Placed.of(table, costs, range(2), Scoring())
    assert greedy(stages, costs.step, 1.0) == ([0, 1], [pytest.approx(0.75), -inf])


def test_marginal_costs_count_from_the_stage_before():
    # Behind a, exit b answers one for 1, and c both that are left for 3. From the input that would be 11 and 13.
    scores = [[0.9, 0.6, 0.6], [0.6, 0.9, 0.6], [0.9, 0.9, 0.8], [0.99] * 3]
    table = table_of(scores, [[1, 0, 0], [1, 1, 0], [1, 1, 1], [1, 1, 1]])
    costs = chain_costs(table.exits, [1.0, 1.0, 2.0, 46.0], [0.0] * 4)
    stages = Placed.of(table, costs, range(4), Scoring())
    far = costs.step.copy()
    far[0, 1:] += 9.0
    assert greedy(stages, far, 1.0)[0] == [0, 1, 2]


def test_idk_does_not_depend_on_the_unit_of_costs():
    table, costs = random_case(13, cuts=2)
    thousands = StageCosts(1e-3 * costs.step, costs.exits, costs.axis, 1e-3 * costs.backbone)
    assert idk(table, costs) == idk(table, thousands)


def test_a_shared_prefix_is_paid_once():
    table = table_of([[0.9, 0.8, 0.7, 0.6]] * 2 + [[0.99] * 4], [[1, 0, 0, 0], [1, 1, 1, 0], [1] * 4])
    costs = chain_costs(table.exits, [4.0, 1.0, 5.0], [0.0, 0.5, 0.0])
    stages = Placed.of(table, costs, range(3), Scoring())
    assert greedy(stages, costs.step, 1.0)[0] == [1, 2]
    policies = streeter(table, costs)
    assert evaluate(policies[0], table, [costs]).costs["macs"].mean == pytest.approx(5.5 + 0.25 * 5.0)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("price", [0.02, 0.1, 0.4])
def test_no_single_threshold_improves_the_objective(seed, price):
    table, costs = random_case(seed)
    placed = Placed.of(table, costs, range(5), Scoring(answer="most_confident"))
    thresholds, objective = descend(placed, price)

    def value(chosen):
        stop = route(placed.scores.astype(np.float32), [*chosen, -inf])
        error = np.average(~placed.correct[stop, np.arange(60)], weights=table.weight)
        return error + price * placed.cumulative[stop].mean()

    # Through -inf at an early stop everybody leaves there; routing takes it at any stop.
    assert objective == pytest.approx(value(thresholds))
    for k, row in enumerate(placed.scores[:-1]):
        for threshold in [-inf, *((np.unique(row)[1:] + np.unique(row)[:-1]) / 2), inf]:
            assert value([*thresholds[:k], threshold, *thresholds[k + 1 :]]) >= objective - 1e-9


@pytest.mark.parametrize("price", [0.01, 0.05, 0.2, 1.0])
def test_one_exit_is_solved_exactly(price):
    table, costs = random_case(9, cuts=1)
    placed = Placed.of(table, costs, range(2), Scoring(answer="most_confident"))
    levels = np.unique(placed.scores[0])
    values = []
    for threshold in [-inf, *((levels[1:] + levels[:-1]) / 2), inf]:
        stop = route(placed.scores.astype(np.float32), [threshold, -inf])
        error = np.average(~placed.correct[stop, np.arange(60)], weights=table.weight)
        values.append(error + price * placed.cumulative[stop].mean())
    assert descend(placed, price)[1] == pytest.approx(min(values))


def test_a_head_that_does_not_pay_is_removed():
    scores = [[0.95, 0.6, 0.6, 0.6], [0.95, 0.9, 0.9, 0.55], [0.99] * 4]
    table = table_of(scores, [[1, 0, 0, 0], [1, 1, 1, 0], [1] * 4])
    for heads, kept in (([0.0, 0.0, 0.0], {0, 1, 2}), ([2.0, 0.0, 0.0], {1, 2})):
        costs = chain_costs(table.exits, [1.0, 2.0, 7.0], heads)
        dearest = [p for p in idk(table, costs) if len(p.stops) == len(kept)]
        assert {table.row(e) for p in dearest for e in p.exits} >= kept
        assert all(0 not in {table.row(e) for e in p.exits[:1]} or heads[0] == 0.0 for p in dearest)


def test_idk_answers_as_the_surest_exit_so_far_says():
    table, costs = random_case(11)
    candidates = idk(table, costs)
    assert {(p.criterion, p.answer) for p in candidates} == {("max_prob", "most_confident")}
    differs = False
    for policy in candidates:
        rows = [table.row(e) for e in policy.exits]
        p = np.exp(table.logits[rows].astype(np.float64))
        sure, right = p.max(-1), table.correct[rows]
        answers = np.empty(60, bool)
        for n in range(60):
            k = next(k for k in range(len(rows)) if sure[: k + 1, n].max() >= policy.thresholds[k])
            answers[n] = right[int(sure[: k + 1, n].argmax()), n]
            differs |= bool(answers[n] != right[k, n])
        assert evaluate(policy, table, [costs]).accuracy == pytest.approx(np.average(answers, weights=table.weight))
    assert differs  # the exit where a sample leaves would have answered otherwise


def test_more_expensive_time_makes_cheaper_cascades():
    table, costs = random_case(12)
    cost = [evaluate(p, table, [costs]).costs["macs"].mean for p in idk(table, costs)]
    assert cost[0] == max(cost)
    assert cost[-1] == min(cost)
    assert cost[-1] < 0.5 * costs.backbone

"""Baselines that learn from calibration: shares that meet a budget, thresholds that meet shares, shared ensembles."""

from __future__ import annotations

from math import inf

import numpy as np
import pytest

from eesearch.core.errors import PolicyError
from eesearch.core.policy import Fit, Scoring
from eesearch.exits.evaluate import evaluate
from eesearch.exits.learned import parameter_widths
from eesearch.exits.routing import route
from eesearch.solve.baselines import share_thresholds
from eesearch.solve.learned_schedules import LEARNED_BASELINES, eenet, scheduled_shares, ztw
from eesearch.solve.placed import Placed
from tests.unit.solve.test_baselines import chain_costs, everything, figures, random_table


def fits_for(table, kind):
    """Temperatures of 1, and parameters of a kind that tell exits and samples apart."""
    heat = np.ones((1, len(table.exits), 1), np.float32)
    width = parameter_widths(table.logits.shape[-1])[kind]
    values = np.linspace(0.2, 1.0, heat.size * width, dtype=np.float32).reshape(1, -1, width)
    return tuple(Fit(k, table.exits, v, np.empty(0, np.int16)) for k, v in (("temperature", heat), (kind, values)))


FITTED = {"ztw": "ensemble", "eenet": "learned_path"}


@pytest.mark.parametrize("name", sorted(LEARNED_BASELINES))
@pytest.mark.parametrize("seed", range(3))
def test_a_learned_baseline_is_a_policy_of_its_family(name, seed):
    table = random_table(seed, samples=6)
    costs, fits = chain_costs(table.exits), fits_for(table, FITTED[name])
    criterion, answer, propose = LEARNED_BASELINES[name]
    candidates, family = propose(table, costs, fits), everything(table, costs, Scoring(criterion, answer, fits))
    assert len(set(candidates)) == len(candidates) > 0
    assert {policy.fits for policy in candidates} == {tuple(fit.key for fit in fits)}
    assert {figures(evaluate(policy, table, [costs], fits)) for policy in candidates} <= family


@pytest.mark.parametrize("name", sorted(LEARNED_BASELINES))
def test_without_its_fits_a_learned_baseline_is_refused(name):
    table = random_table(0)
    with pytest.raises(PolicyError, match=f"expected a fit of kind {FITTED[name]}"):
        LEARNED_BASELINES[name].propose(table, chain_costs(table.exits), ())


def test_ztw_shares_one_threshold_between_ensembles_and_none_is_better():
    table = random_table(4, cuts=5, samples=60, ties=False)
    costs, fits = chain_costs(table.exits), fits_for(table, "ensemble")
    candidates = ztw(table, costs, fits)
    assert {policy.answer for policy in candidates} == {"mean"}
    assert all(len(set(policy.thresholds[:-1])) <= 1 for policy in candidates)
    placed = Placed.of(table, costs, range(6), Scoring("max_prob", "mean", fits))
    thresholds = [-inf, *(np.unique(placed.scores) + 1e-7), inf]
    swept = {figures(evaluate(placed.policy([t] * 5), table, [costs], fits)) for t in thresholds}
    best = {p for p in swept if not any(q != p and q[0] <= p[0] and q[1] <= p[1] for q in swept)}
    assert {figures(evaluate(policy, table, [costs], fits)) for policy in candidates} == best
    assert len(best) > 5


@pytest.mark.parametrize("budget", [0.31, 0.5, 0.7, 0.99])
def test_a_schedule_meets_its_budget(budget):
    chance, cost = np.random.default_rng(0).uniform(size=(4, 50)), np.array([0.3, 0.35, 0.8, 1.0])
    shares = scheduled_shares(chance, cost, budget)
    assert shares.sum() == pytest.approx(1.0)
    assert shares @ cost == pytest.approx(budget)


def test_equally_likely_exits_share_by_cost_alone():
    # Weights exp(-price * cost) at three even costs form a geometric sequence; in the middle it is constant.
    same, cost = np.full((3, 4), 0.9), np.array([1.0, 2.0, 3.0])
    assert scheduled_shares(same, cost, 2.0) == pytest.approx([1 / 3] * 3)
    cheap = scheduled_shares(same, cost, 1.5)
    assert cheap[1] / cheap[0] == pytest.approx(cheap[2] / cheap[1])


def test_who_is_likelier_right_is_given_more():
    cost = np.array([1.0, 2.0, 3.0])
    chance = np.array([[0.5], [0.9], [0.5]])
    assert scheduled_shares(chance, cost, 2.0) == pytest.approx(np.array([0.5, 0.9, 0.5]) / 1.9)
    # At a chance of 0 nobody stops there, whatever the budget; and two exits share the rest as the budget says.
    assert scheduled_shares(np.array([[0.5], [0.0], [0.5]]), cost, 2.5) == pytest.approx([0.25, 0.0, 0.75], abs=1e-6)


def test_thresholds_meet_shares_of_any_kind():
    table = random_table(5, cuts=3, samples=400, ties=False)
    placed = Placed.of(table, chain_costs(table.exits), range(4), Scoring())
    stop = route(placed.scores.astype(np.float32), [*share_thresholds(placed, np.array([4.0, 0.0, 1.0, 3.0])), -inf])
    assert np.bincount(stop, minlength=4) == pytest.approx([200, 0, 50, 150], abs=1.0)


def test_eenet_makes_a_policy_for_every_budget():
    table = random_table(6, cuts=5, samples=300, ties=False)
    costs, fits = chain_costs(table.exits), fits_for(table, "learned_path")
    found = [evaluate(policy, table, [costs], fits) for policy in eenet(table, costs, fits)]
    paid = [each.costs["macs"].mean for each in found]
    assert paid == sorted(paid)
    assert len(paid) > 20
    assert found[0].exit_rate == (1.0,)
    assert found[-1].exit_rate == (0.0,) * 5 + (1.0,)
